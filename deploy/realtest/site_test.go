package realtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/popgate/popgate/deploy/lab"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
)

// A consenting issuer gives access tokens to users, who consent at once.
type consenting struct {
	*oauthtest.Issuer
	url string
}

func newConsenting(t *testing.T) *consenting {
	t.Helper()
	i := &consenting{Issuer: oauthtest.New()}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

// dovecotFor starts a Dovecot that takes tokens of an issuer, with some settings of
// its own.
func (b *bench) dovecotFor(t *testing.T, name string, i *consenting, settings string) *station {
	t.Helper()
	s, err := b.Dovecot(context.Background(), name, lab.DovecotOptions{Introspection: i.url + "/introspect", Settings: settings}) // ends with the cleanup
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	report.version("dovecot", s.Version)
	return &station{Server: s, bench: b}
}

// A site is the machine on which one section is carried out: a mail server with
// mail for one user, addresses for the gateway and what stands beside it, and the
// folder of the configuration, with the files that configurations name.
type site struct {
	*station
	issuer     *consenting
	front      *front
	other      [3]string // further addresses of the gateway
	proxy      string    // where a proxy listens
	service    string    // URL of an auth_http service
	jmap       string    // host:port of a JMAP server
	dir        string
	user, pass string
	n          int       // of the user
	set        []message // what is in the mailbox
	judge      *imapConn
}

func newSite(t *testing.T, station *station, i *consenting) *site {
	t.Helper()
	s := &site{station: station, issuer: i, front: &front{pop3: freePort(t), pop3s: freePort(t)},
		other: [3]string{freePort(t), freePort(t), freePort(t)}, proxy: freePort(t)}
	var err error
	if s.dir, err = os.MkdirTemp(s.bench.Dir(), "page-"); err != nil {
		t.Fatal(err)
	}
	s.welcome(t)
	i.Set(func(i *oauthtest.Issuer) { i.User = s.user })
	for name, from := range map[string]string{"fullchain.pem": s.bench.Certificate(), "privkey.pem": s.bench.Key(),
		"old-devices.pem": s.bench.OldCertificate(), "old-devices-key.pem": s.bench.OldKey()} {
		pem, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, name, string(pem))
	}
	return s
}

// welcome is a new user with mail.
func (s *site) welcome(t *testing.T) {
	t.Helper()
	s.user, s.pass, s.n = s.account(t)
	s.set = messageSet(s.user)
	s.judge = s.station.judge(t, s.user, s.pass)
	s.judge.deliver(t, s.set...)
}

// write makes a file beside the configuration.
func (s *site) write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serve starts the gateway with a configuration as it stands. What a part of one
// does not say is said by flags.
func (s *site) serve(t *testing.T, f *front, text string) {
	t.Helper()
	config := s.write(t, "popgate.yaml", s.here(text))
	flags := []string{"--config", config}
	if !regexp.MustCompile(`(?m)^listen:`).MatchString(text) {
		flags = append(flags, "--listen", "pop3s://"+f.pop3s, "--listen", "pop3://"+f.pop3,
			"--tls-cert", s.bench.Certificate(), "--tls-key", s.bench.Key())
	}
	if !regexp.MustCompile(`(?m)^upstreams?:`).MatchString(text) {
		flags = append(flags, "--upstream", "imap://"+s.IMAP)
	}
	if out, err := program(t, "", append([]string{s.popgate(), "check"}, flags...)...); err != nil {
		t.Fatalf("popgate check: %v\n%s\n%s", err, out, s.here(text))
	}
	s.bench.serve(t, f, "page", flags...)
}

func (s *site) popgate() string { return filepath.Join(s.bench.Dir(), "popgate") }

// shell runs the lines of a block in the folder of the configuration. Lines of input
// are read where there is no terminal to ask on.
func (s *site) shell(t *testing.T, block, input string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), visitTimeout)
	defer cancel()
	var p person
	cmd := exec.CommandContext(ctx, "bash", "-ec", s.here(block))
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "PATH="+s.bench.Dir()+":"+os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader(input)
	cmd.Stdout, cmd.Stderr = &p, &p
	if err := errors.Join(cmd.Run(), p.opened); err != nil {
		t.Fatalf("%s: %v\n%s", s.here(block), err, &p.text)
	}
	return p.text.String()
}

// home is that of a person who runs a client of the user, with a Maildir.
func (s *site) home(t *testing.T, addr string) *visit {
	t.Helper()
	v := newVisit(t, s.station, "page", tls, addr, s.user, s.pass)
	var err error
	if v.dir, err = os.MkdirTemp(s.bench.Dir(), "home-"); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(v.dir, "Mail", sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// ordinary runs a client as a user who is not root, with v.ca as the authority that
// the system trusts.
func (v *visit) ordinary(t *testing.T, allowed []int, argv ...string) {
	t.Helper()
	err := filepath.WalkDir(v.dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, lab.MailUser, lab.MailUser))
	})
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprint(lab.MailUser)
	v.run(t, "", allowed, append([]string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "env", "SSL_CERT_FILE=" + v.ca}, argv...)...)
}

// fetches gets all the mail by TLS from addr, from an address of the client's own.
func (s *site) fetches(t *testing.T, addr, user, pass string) (from string) {
	t.Helper()
	v := newVisit(t, s.station, "page-session", tls, addr, user, pass)
	v.host = "127.0.0.1"
	from = s.from()
	v.write(t, ".curlrc", "interface = "+from+"\n")
	sameMessages(t, s.set, wireForm, visitCurl(t, v))
	return from
}

// from is the address of the user's client.
func (s *site) from() string { return fmt.Sprintf("127.0.1.%d", s.n) }

// arrivals are the messages of the set that a client has filed, by their Message-ID:
// what is new since the last call. Clients with their usual settings add lines of
// their own and change ends of lines.
func (s *site) arrivals(t *testing.T, v *visit, folder string) (names []string) {
	t.Helper()
	for _, got := range v.arrived(t, folder) {
		for _, m := range s.set {
			if id := "<" + m.name + "."; bytes.Contains(got, []byte("Message-ID: "+id)) {
				names = append(names, m.name)
			}
		}
	}
	return names
}

// allOf reports an error if names are not each message of the set once.
func (s *site) allOf(t *testing.T, names []string) {
	t.Helper()
	count := map[string]int{}
	for _, n := range names {
		count[n]++
	}
	for _, m := range s.set {
		if count[m.name] != 1 {
			t.Errorf("message %s came %d times", m.name, count[m.name])
		}
	}
}

// typist answers a question on a terminal.
type typist struct {
	screen   bytes.Buffer
	question string
	answer   string
	keyboard io.Writer
	answered bool
}

func (p *typist) Write(text []byte) (int, error) {
	p.screen.Write(text)
	if !p.answered && strings.Contains(p.screen.String(), p.question) {
		p.answered = true
		if _, err := io.WriteString(p.keyboard, p.answer+"\n"); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}
