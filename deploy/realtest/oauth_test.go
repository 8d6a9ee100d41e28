package realtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// localPass is the password of the local accounts. The mail server has another.
const localPass = "of this machine alone"

// A tokens is a gateway whose clients know a password of its own, before a Dovecot
// that it logs in to with access tokens. Dovecot asks the issuer for every token
// (RFC 7662).
type tokens struct {
	*station
	issuer *oauthtest.Issuer // nil where it is another
	folder *tokenfile.Folder
	config string
	imap   *tap // between the gateway and Dovecot
	front  *front
}

const tokenKey = "0123456789abcdef0123456789abcdef"

func TestOAuth(t *testing.T) {
	b := newBench(t, "access tokens of an issuer, which a Dovecot asks for each")
	if b.front != "" {
		t.Skip("these are rules of the gateway, which is not the front end here")
	}
	report.guard(t, "dovecot+tokens", "", "")
	issuer := oauthtest.New()
	issuer.Rotation = oauthtest.Strict
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	o := b.tokens(t, "dovecot+tokens", server.URL, server.URL+"/introspect", "device-url: \""+server.URL+"/device\"")
	o.issuer = issuer
	for _, r := range []struct {
		subject, name string
		run           func(o *tokens, t *testing.T)
	}{
		{"curl", "reads_with_a_plain_password", func(o *tokens, t *testing.T) { o.reads(t, "curl", visitCurl, wireForm) }},
		{"fetchmail", "reads_with_a_plain_password", func(o *tokens, t *testing.T) { o.reads(t, "fetchmail", visitFetchmail, fetchmailForm) }},
		{"rules", "a_wrong_password_touches_no_token", (*tokens).wrongPassword},
		{"rules", "a_refresh_token_that_changes_with_each_use", (*tokens).rotates},
		{"rules", "a_token_that_ends_in_mid_session", (*tokens).endsInMidSession},
		{"rules", "an_issuer_that_is_down", (*tokens).issuerDown},
		{"rules", "a_consent_that_was_taken_back_and_given_again", (*tokens).consentAgain},
		{"rules", "a_kill_at_each_step_of_the_write", (*tokens).kills},
	} {
		report.leaf(t, o.Name, r.subject, "", r.name, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("gateway:\n%s", o.front.tail())
				}
			}()
			r.run(o, t)
		})
	}
	text, err := os.ReadFile(o.front.log)
	if err != nil || strings.Contains(string(text), "refresh-") || strings.Contains(string(text), "access-") {
		t.Errorf("a token is in the log, or %v", err)
	}
	for _, subject := range []string{"curl", "fetchmail", "rules"} {
		report.progress(o.Name, subject)
	}
}

// tokens starts a Dovecot and a gateway under a name, for an issuer with these URLs.
// login is the key that says how a user consents.
func (b *bench) tokens(t *testing.T, name, issuer, introspect, login string) *tokens {
	t.Helper()
	o := &tokens{front: &front{}}
	s, err := b.Dovecot(context.Background(), name, lab.DovecotOptions{Introspection: introspect}) // ends with the cleanup
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	s.Name = name
	report.version(name, s.Version)
	o.station = &station{Server: s, bench: b}
	o.imap = newTap(t, s.IMAP)

	dir := filepath.Join(b.Dir(), name+"-gateway")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if o.folder, err = tokenfile.Open(filepath.Join(dir, "tokens"), upstream.NewSecret(tokenKey)); err != nil {
		t.Fatal(err)
	}
	o.front.pop3 = freePort(t)
	o.config = filepath.Join(dir, "popgate.yaml")
	for name, text := range map[string]string{
		"key": tokenKey + "\n",
		"popgate.yaml": fmt.Sprintf("listen: pop3://%s\nupstream: {url: \"imap://%s\"}\naccounts: {file: accounts}\nthrottle: {delay: 0s}\n"+
			"routes: [{name: tokens, accounts: true, oauth: issuer}]\noauth:\n  folder: tokens\n  key-file: key\n"+
			"  grants: [{name: issuer, client-id: popgate, scopes: [mail], token-url: \"%s/token\", %s}]\n",
			o.front.pop3, o.imap.addr, issuer, login),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 10; n++ {
		user, _ := lab.User(n)
		if text, err := program(t, localPass+"\n", filepath.Join(b.Dir(), "popgate"), "passwd", "-f", filepath.Join(dir, "accounts"), user); err != nil {
			t.Fatalf("popgate passwd: %v\n%s", err, text)
		}
	}
	b.serve(t, o.front, name, "--config", o.config)
	return o
}

// user is one with messages and, if wanted, a token, which a login of his gave.
func (o *tokens) user(t *testing.T, consent func(*tokens, *testing.T, string)) (user string, set []message) {
	t.Helper()
	user, pass, _ := o.account(t)
	set = messageSet(user)
	o.judge(t, user, pass).deliver(t, set...)
	if consent != nil {
		consent(o, t, user)
	}
	return user, set
}

// consent is `popgate oauth login`, with a user who enters the code at once.
func (o *tokens) consent(t *testing.T, user string) {
	t.Helper()
	o.issuer.Set(func(s *oauthtest.Issuer) { s.User = user })
	text, err := program(t, "", filepath.Join(o.bench.Dir(), "popgate"), "oauth", "login", "--config", o.config, user)
	if err != nil || !strings.Contains(text, "the token is kept") {
		t.Fatalf("popgate oauth login: %v\n%s", err, text)
	}
}

func (o *tokens) record(t *testing.T, user string) tokenfile.Record {
	t.Helper()
	r, err := o.folder.Read(tokenfile.Name{Grant: "issuer", Account: user})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reads runs a client that knows the local password and no more.
func (o *tokens) reads(t *testing.T, name string, run func(*testing.T, *visit) [][]byte, form func([]byte) []byte) {
	consent := (*tokens).consent
	if o.issuer == nil {
		consent = (*tokens).consentInBrowser
	}
	user, set := o.user(t, consent)
	v := newVisit(t, o.station, name, plain, o.front.pop3, user, localPass)
	sameMessages(t, set, form, run(t, v))
	if dialogue := o.imap.transcript(); !strings.Contains(dialogue, "AUTHENTICATE XOAUTH2") || strings.Contains(dialogue, " LOGIN ") {
		t.Errorf("the gateway did not use the token:\n%s", dialogue)
	}
}

func (o *tokens) wrongPassword(t *testing.T) {
	user, _ := o.user(t, (*tokens).consent)
	before, record := o.issuer.Count(), o.record(t, user)
	_, pass := lab.User(1)
	for _, wrong := range []string{"wrong", pass, "x"} {
		loginFails(t, o.front.pop3, user, wrong, "AUTH")
	}
	if o.issuer.Count() != before || o.record(t, user) != record {
		t.Error("the token was touched")
	}
}

func (o *tokens) rotates(t *testing.T) {
	defer o.shortLife()()
	user, set := o.user(t, (*tokens).consent)
	last := o.record(t, user).Refresh
	for range 4 {
		p := login(t, o.front.pop3, user, localPass)
		if got := p.ok(t, "STAT"); !strings.HasPrefix(got, fmt.Sprintf("+OK %d ", len(set))) {
			t.Errorf("STAT: %s", got)
		}
		p.ok(t, "QUIT")
		r := o.record(t, user)
		if r.Refresh == last || r.Previous != last || !o.issuer.Takes(r.Refresh.Reveal()) {
			t.Error("the record does not hold the new refresh token and the one before")
		}
		last = r.Refresh
		time.Sleep(shortly) // the issuer's clock is the real one
	}
}

// shortly is what an access token lives where it is to end: enough for a login on a
// slow machine.
const shortly = 3 * time.Second

func (o *tokens) shortLife() (undo func()) {
	o.issuer.Set(func(s *oauthtest.Issuer) { s.Life = shortly })
	return func() { o.issuer.Set(func(s *oauthtest.Issuer) { s.Life = time.Hour }) }
}

// The access token ends, the connection to Dovecot is cut, and the session goes on.
func (o *tokens) endsInMidSession(t *testing.T) {
	defer o.shortLife()()
	user, set := o.user(t, (*tokens).consent)
	p := login(t, o.front.pop3, user, localPass)
	before := o.issuer.Count()
	for round, m := range []int{4, 1} {
		time.Sleep(shortly)
		o.imap.cut()
		if got, want := p.multi(t, "RETR %d", m), wireForm(set[m-1].octets); got != string(want) {
			t.Errorf("message %d is %d octets, want %d", m, len(got), len(want))
		}
		if n := o.issuer.Count() - before; n < round+1 {
			t.Errorf("%d requests for a new token after %d cuts", n, round+1)
		}
	}
	p.ok(t, "DELE 2")
	time.Sleep(shortly)
	o.imap.cut()
	p.ok(t, "QUIT")
	p = login(t, o.front.pop3, user, localPass)
	if got := p.ok(t, "STAT"); !strings.HasPrefix(got, fmt.Sprintf("+OK %d ", len(set)-1)) {
		t.Errorf("STAT after a deletion: %s", got)
	}
	p.ok(t, "QUIT")
}

func (o *tokens) issuerDown(t *testing.T) {
	user, _ := o.user(t, (*tokens).consent)
	refresh := o.record(t, user).Refresh
	o.issuer.Set(func(s *oauthtest.Issuer) {
		s.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	})
	loginFails(t, o.front.pop3, user, localPass, "SYS/TEMP")
	o.front.logs(t, user, "HTTP 503")
	o.issuer.Set(func(s *oauthtest.Issuer) { s.Fault = nil })
	if o.record(t, user).Refresh != refresh {
		t.Error("the token was touched")
	}
	// It is asked again within seconds.
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(popTimeout); time.Now().Before(deadline); <-tick.C {
		p := dialPOP(t, o.front.pop3)
		p.ok(t, "USER %s", user)
		if strings.HasPrefix(p.ask(t, "PASS %s", localPass), "+OK") {
			p.ok(t, "QUIT")
			return
		}
	}
	t.Error("no login after the issuer came back")
}

func (o *tokens) consentAgain(t *testing.T) {
	defer o.shortLife()()
	user, _ := o.user(t, nil)
	loginFails(t, o.front.pop3, user, localPass, "SYS/PERM")
	o.front.logs(t, user, "popgate oauth login "+user)
	o.consent(t, user)
	login(t, o.front.pop3, user, localPass).ok(t, "QUIT")

	o.issuer.Revoke(user)
	time.Sleep(shortly)
	loginFails(t, o.front.pop3, user, localPass, "SYS/PERM")
	o.front.logs(t, user, "invalid_grant", "popgate oauth login "+user)
	status, err := program(t, "", filepath.Join(o.bench.Dir(), "popgate"), "oauth", "status", "--config", o.config)
	if err == nil || !strings.Contains(status, "invalid_grant") {
		t.Errorf("popgate oauth status: %v\n%s", err, status)
	}
	o.consent(t, user)
	login(t, o.front.pop3, user, localPass).ok(t, "QUIT")
}

// kills ends a gateway in the system calls that replace a record. The issuer takes
// the refresh token before the last until the last was used, as an issuer must for
// whom an answer may be lost.
func (o *tokens) kills(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil || exec.Command(strace, "-f", "-o", os.DevNull, "true").Run() != nil {
		t.Skip("strace is not here, or may not trace")
	}
	defer o.shortLife()()
	user, _ := o.user(t, (*tokens).consent)
	o.issuer.Set(func(s *oauthtest.Issuer) { s.Rotation = oauthtest.Grace })
	defer o.issuer.Set(func(s *oauthtest.Issuer) { s.Rotation = oauthtest.Strict })
	// A second gateway on the same folder, which refreshes what is due as it starts.
	text, err := os.ReadFile(o.config)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(filepath.Dir(o.config), "killed.yaml")
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), o.front.pop3, "127.0.0.1:0", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(filepath.Dir(o.config), "tokens")
	for _, at := range []struct {
		step string
		call []string
	}{
		{"room_is_made", []string{"fsync"}},
		{"the_record_is_written", []string{"pwrite64"}},
		{"it_is_cut_to_its_length", []string{"ftruncate"}},
		{"it_takes_the_place_of_the_last", []string{"renameat"}},
		{"the_folder_is_synced", []string{"fsync", "-P", folder}},
	} {
		r := o.record(t, user)
		r.Succeeded = time.Time{} // it is due
		lock, err := o.folder.Lock(t.Context(), tokenfile.Name{Grant: "issuer", Account: user})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(lock.Write(r), lock.Unlock()); err != nil {
			t.Fatal(err)
		}
		call := at.call[0]
		argv := append([]string{"timeout", "20", strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + call, "-e", "inject=" + call + ":signal=SIGKILL:when=1"}, at.call[1:]...)
		out, err := program(t, "", append(argv, filepath.Join(o.bench.Dir(), "popgate"), "serve", "--config", config)...)
		if err == nil || !strings.Contains(err.Error(), "killed") && !strings.Contains(err.Error(), "137") {
			t.Errorf("%s: the gateway was not killed: %v\n%s", at.step, err, out)
			continue
		}
		if got := o.record(t, user); !o.issuer.Takes(got.Refresh.Reveal()) && !o.issuer.Takes(got.Previous.Reveal()) {
			t.Errorf("%s: the issuer takes neither token of the record", at.step)
		}
		time.Sleep(shortly)
		p := dialPOP(t, o.front.pop3)
		p.ok(t, "USER %s", user)
		if reply := p.ask(t, "PASS %s", localPass); !strings.HasPrefix(reply, "+OK") {
			t.Errorf("%s: the next login: %s", at.step, reply)
			continue
		}
		p.ok(t, "QUIT")
	}
}
