package realtest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// The issuer of TestOAuthOther, which Node 18, 20 and 22 run.
const otherIssuer = "oauth2-mock-server@7.2.1"

// The same with an issuer of other authors, npm's oauth2-mock-server, where there
// is Node to run it.
func TestOAuthOther(t *testing.T) {
	b := newBench(t, "access tokens of npm's oauth2-mock-server")
	if b.front != "" {
		t.Skip("these are rules of the gateway, which is not the front end here")
	}
	const name = "dovecot+oauth2-mock-server"
	for _, r := range []struct {
		subject, name string
		run           func(o *tokens, t *testing.T)
	}{
		{"curl", "reads_with_a_plain_password", func(o *tokens, t *testing.T) { o.reads(t, "curl", visitCurl, wireForm) }},
		{"fetchmail", "reads_with_a_plain_password", func(o *tokens, t *testing.T) { o.reads(t, "fetchmail", visitFetchmail, fetchmailForm) }},
		{"rules", "a_refresh_token_that_changes_with_each_use", (*tokens).rotatesElsewhere},
	} {
		report.leaf(t, name, r.subject, "", r.name, func(t *testing.T) {
			o := b.otherTokens(t, name)
			defer func() {
				if t.Failed() {
					t.Logf("gateway:\n%s", o.front.tail())
				}
			}()
			r.run(o, t)
		})
		report.progress(name, r.subject)
	}
}

// otherTokens starts that issuer, or skips the test and says why.
func (b *bench) otherTokens(t *testing.T, name string) *tokens {
	t.Helper()
	folder := filepath.Join(b.Dir(), "npm")
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "oauth2-mock-server")); err != nil {
		for _, need := range []string{"node", "npm"} {
			if _, err := exec.LookPath(need); err != nil {
				t.Skipf("%s is not here", need)
			}
		}
		if out, err := program(t, "", "npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", otherIssuer); err != nil {
			t.Skipf("npm cannot install %s: %v\n%s", otherIssuer, err, clip([]byte(out)))
		}
	}
	issuer, introspection := freePort(t), freePort(t)
	s, err := b.Start(context.Background(), "issuer", []string{issuer, introspection}, "node", b.testdata("issuer.mjs"), folder, portOf(issuer), portOf(introspection), "3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return b.tokens(t, name, "http://"+issuer, "http://"+introspection, "authorize-url: \"http://"+issuer+"/authorize\"")
}

var page = regexp.MustCompile(`http://\S+/authorize\?\S+`)

// A person opens the page that popgate prints.
type person struct {
	text   bytes.Buffer
	opened error
}

func (p *person) Write(text []byte) (int, error) {
	p.text.Write(text)
	if url := page.Find(text); url != nil {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: popTimeout}
		r, err := client.Get(string(url))
		if err == nil {
			err = r.Body.Close()
		}
		p.opened = errors.Join(p.opened, err)
	}
	return len(text), nil
}

// consentInBrowser is `popgate oauth login`, with a user who consents at once.
func (o *tokens) consentInBrowser(t *testing.T, user string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), visitTimeout)
	defer cancel()
	var p person
	cmd := exec.CommandContext(ctx, filepath.Join(o.bench.Dir(), "popgate"), "oauth", "login", "--config", o.config, "--browser", user)
	cmd.Stdout, cmd.Stderr = &p, &p
	if err := errors.Join(cmd.Run(), p.opened); err != nil || !strings.Contains(p.text.String(), "the token is kept") {
		t.Fatalf("popgate oauth login: %v\n%s", err, &p.text)
	}
}

func (o *tokens) rotatesElsewhere(t *testing.T) {
	user, _ := o.user(t, (*tokens).consentInBrowser)
	first := o.record(t, user).Refresh
	last := first
	for range 3 {
		login(t, o.front.pop3, user, localPass).ok(t, "QUIT")
		r := o.record(t, user)
		if r.Refresh == last || r.Previous != last {
			t.Error("the record does not hold the new refresh token and the one before")
		}
		last = r.Refresh
		time.Sleep(shortly) // the access token ends
	}
	// One that was used is of no use, and a person is told.
	lock, err := o.folder.Lock(t.Context(), tokenfile.Name{Grant: "issuer", Account: user})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lock.Write(tokenfile.Record{Refresh: first, Previous: upstream.Secret{}}), lock.Unlock()); err != nil {
		t.Fatal(err)
	}
	loginFails(t, o.front.pop3, user, localPass, "SYS/PERM")
	o.front.logs(t, "invalid_grant", "popgate oauth login "+user)
}
