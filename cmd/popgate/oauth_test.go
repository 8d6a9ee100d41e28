package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

const alice = "alice@example.test"

var tokenKey = strings.Repeat("0123456789abcdef", 2)

// oauthConfig writes a configuration with one grant at an issuer of the test's own.
func oauthConfig(t *testing.T, device bool) (issuer *oauthtest.Issuer, file string) {
	t.Helper()
	issuer = oauthtest.New()
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	deviceURL := ""
	if device {
		deviceURL = "device-url: " + server.URL + "/device, "
	}
	file = writeConfig(t, "listen: pop3://127.0.0.1:0\nupstream: {url: imap://127.0.0.1}\noauth:\n  folder: tokens\n  key-file: key\n"+
		"  grants: [{name: test, client-id: id, scopes: [mail], "+deviceURL+"token-url: "+server.URL+"/token, authorize-url: "+server.URL+"/authorize}]\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "key"), []byte(tokenKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return issuer, file
}

func tokenFolder(t *testing.T, file string) *tokenfile.Folder {
	t.Helper()
	f, err := tokenfile.Open(filepath.Join(filepath.Dir(file), "tokens"), upstream.NewSecret(tokenKey))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// browse is a person with a browser, who reads what the program prints.
type browse struct {
	t    *testing.T
	text bytes.Buffer
}

var pageURL = regexp.MustCompile(`http://\S+/authorize\?\S+`)

func (b *browse) Write(p []byte) (int, error) {
	b.text.Write(p)
	if page := pageURL.Find(p); page != nil {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		r, err := client.Get(string(page))
		if err != nil {
			b.t.Error(err)
			return len(p), nil
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return len(p), nil
}

func TestOAuthLoginStatusRemove(t *testing.T) {
	for _, device := range []bool{false, true} {
		issuer, file := oauthConfig(t, device)
		out, stderr := &browse{t: t}, &bytes.Buffer{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if code := run(ctx, []string{"oauth", "login", "-c", file, alice}, out, stderr); code != 0 {
			t.Fatalf("login: %d\n%s%s", code, &out.text, stderr)
		}
		if device != strings.Contains(out.text.String(), "ABCD-EFGH") || !strings.Contains(out.text.String(), alice+": the token is kept") {
			t.Errorf("login prints:\n%s", &out.text)
		}
		r, err := tokenFolder(t, file).Read(tokenfile.Name{Grant: "test", Account: alice})
		if err != nil || !issuer.Takes(r.Refresh.Reveal()) {
			t.Fatalf("the record: %v", err)
		}
		code, stdout, _ := invoke(t, "oauth", "status", "-c", file)
		if code != 0 || !regexp.MustCompile(`test +alice@example.test +ok +\d{4}-\d\d-\d\d +just now +- +-`).MatchString(stdout) {
			t.Errorf("status: %d\n%s", code, stdout)
		}
		code, stdout, _ = invoke(t, "oauth", "status", "-c", file, "--json")
		var row tokenRow
		if err := json.Unmarshal([]byte(stdout), &row); code != 0 || err != nil || row.State != "ok" || row.Account != alice || row.Succeeded.IsZero() {
			t.Errorf("status --json: %d, %v\n%s", code, err, stdout)
		}
		if strings.Contains(stdout+out.text.String()+stderr.String(), r.Refresh.Reveal()) {
			t.Error("a token was printed")
		}
		if code, _, stderr := invoke(t, "oauth", "remove", "-c", file, alice); code != 0 {
			t.Errorf("remove: %d %s", code, stderr)
		}
		if code, _, stderr := invoke(t, "oauth", "remove", "-c", file, alice); code != 1 || !strings.Contains(stderr, "there is no token") {
			t.Errorf("remove again: %d %s", code, stderr)
		}
	}
}

func TestOAuthStatusTellsWhenAPersonMustAct(t *testing.T) {
	_, file := oauthConfig(t, true)
	folder := tokenFolder(t, file)
	lock, err := folder.Lock(t.Context(), tokenfile.Name{Grant: "test", Account: alice})
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Write(tokenfile.Record{Refresh: upstream.NewSecret("canary"), Failed: time.Now(), Failure: "invalid_grant"}); err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := invoke(t, "oauth", "status", "-c", file)
	if code != 1 || !strings.Contains(stdout, "failing") || !strings.Contains(stdout, "invalid_grant") || !strings.Contains(stderr, "1 of 1") || strings.Contains(stdout, "canary") {
		t.Errorf("status: %d\n%s%s", code, stdout, stderr)
	}
	// Another key opens nothing.
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "key"), []byte(strings.Repeat("y", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := invoke(t, "oauth", "status", "-c", file); code != 1 || !strings.Contains(stdout, "another key") {
		t.Errorf("status with another key: %d\n%s", code, stdout)
	}
}

func TestOAuthCommandLine(t *testing.T) {
	_, file := oauthConfig(t, true)
	plain := writeConfig(t, "listen: pop3://127.0.0.1:0\nupstream: {url: imap://127.0.0.1}\n")
	for _, tt := range []struct {
		args, want string
		code       int
	}{
		{"oauth login", "--config", 2},
		{"oauth login -c " + file, "ACCOUNT is missing", 2},
		{"oauth login -c " + plain + " a", "no grants in the section oauth", 2},
		{"oauth login -c " + file + " --grant none a", "use one of test", 2},
		{"oauth login -c " + file + " --browser --callback 0.0.0.0:0 a", "no loopback address", 1},
		{"oauth status -c " + plain, "no grants", 2},
	} {
		if code, _, stderr := invoke(t, strings.Fields(tt.args)...); code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %d %s", tt.args, code, stderr)
		}
	}
}

// A gateway keeps the tokens alive that nobody uses, and tells how they are.
func TestServeKeepsTokens(t *testing.T) {
	issuer, file := oauthConfig(t, true)
	folder := tokenFolder(t, file)
	for user, token := range map[string]string{alice: issuer.Consent(alice), "bob": "refresh-dead"} {
		lock, err := folder.Lock(t.Context(), tokenfile.Name{Grant: "test", Account: user})
		if err != nil {
			t.Fatal(err)
		}
		if err := lock.Write(tokenfile.Record{Refresh: upstream.NewSecret(token)}); err != nil {
			t.Fatal(err)
		}
		if err := lock.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, "--config", file, "--metrics", "127.0.0.1:0")
	s.wantMetrics(t,
		`popgate_oauth_requests_total{grant="test",outcome="issued"} 1`,
		`popgate_oauth_requests_total{grant="test",outcome="bad_grant"} 1`,
		`popgate_oauth_requests_total{grant="test",outcome="down"} 0`,
		`popgate_oauth_accounts{grant="test",state="good"} 1`,
		`popgate_oauth_accounts{grant="test",state="failing"} 1`,
		`popgate_oauth_accounts{grant="test",state="unreadable"} 0`,
		`popgate_oauth_request_duration_seconds_count 2`,
		`popgate_oauth_refresh_token_expiry_timestamp_seconds{grant="test"} 0`,
	)
	if _, body := s.get(t, "/metrics"); strings.Contains(body, alice) || strings.Contains(body, "bob") || strings.Contains(body, `popgate_oauth_oldest_success_timestamp_seconds{grant="test"} 0`) {
		t.Errorf("the metrics:\n%s", own(body))
	}
	s.stop()
	if code := s.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestTheTimeThatIsLeft(t *testing.T) {
	now := time.Now()
	for left, want := range map[time.Duration]string{
		15 * time.Minute: ", 15 min left", 90 * time.Second: ", 1 min left", 20 * time.Second: ", 20 s left", -time.Second: ", 0 s left",
	} {
		if got := waiting(now.Add(left), now); got != "waiting for the consent"+want {
			t.Errorf("%v: %q", left, got)
		}
	}
	if got := waiting(time.Time{}, now); got != "waiting for the consent" {
		t.Errorf("unknown: %q", got)
	}
}
