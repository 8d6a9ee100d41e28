package realtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/memdrop"
)

// proofs is a gateway with local accounts, each of which has another user of the
// server behind it.
type proofs struct {
	*station
	front *front

	plain, secure string // listeners: clear text, and TLS from the first octet
	tokens        string // of an engine that takes one token
	messages      int
	cert, key     string // of a client
}

// What the local account knows, and what it has besides: its password is another
// than its shared secret, so that a client that falls back to its password fails.
const (
	localUser   = "scanner"
	localSecret = "tanstaaf"
	certUser    = "carol@example.net"
	token       = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmVk"
)

// Real clients prove themselves by what is not a password.
func TestProofs(t *testing.T) {
	b := newBench(t, "clients that speak APOP, CRAM-MD5, SCRAM, XOAUTH2 and EXTERNAL")
	if b.front != "" {
		t.Skip("these are rules of the gateway, which is not the front end here")
	}
	report.guard(t, "dovecot", "", "")
	p := b.proofs(t, b.start(t, "dovecot"))
	for _, r := range []struct {
		subject, name string
		run           func(p *proofs, t *testing.T)
	}{
		{"fetchmail", "APOP", func(p *proofs, t *testing.T) { p.fetchmail(t, "apop", "") }},
		{"fetchmail", "CRAM-MD5", func(p *proofs, t *testing.T) { p.fetchmail(t, "pop3", "auth cram-md5") }},
		{"mutt", "APOP", func(p *proofs, t *testing.T) { p.mutt(t, "apop") }},
		{"mutt", "CRAM-MD5", func(p *proofs, t *testing.T) { p.mutt(t, "cram-md5") }},
		{"mutt", "SCRAM-SHA-256", func(p *proofs, t *testing.T) { p.mutt(t, "scram-sha-256") }},
		{"curl", "APOP", func(p *proofs, t *testing.T) { p.curl(t, p.plain, "AUTH=+APOP", localUser+":"+localSecret) }},
		{"curl", "CRAM-MD5", func(p *proofs, t *testing.T) { p.curl(t, p.plain, "AUTH=CRAM-MD5", localUser+":"+localSecret) }},
		{"curl", "EXTERNAL", func(p *proofs, t *testing.T) {
			p.curl(t, p.secure, "AUTH=EXTERNAL", certUser+":", "--cert", p.cert, "--key", p.key, "--cacert", b.CA())
		}},
		{"curl", "OAUTHBEARER_in_two_lines", func(p *proofs, t *testing.T) { p.bearer(t) }},
		{"curl", "OAUTHBEARER_in_one_line", func(p *proofs, t *testing.T) { p.bearer(t, "--sasl-ir") }},
		{"poplib", "APOP", (*proofs).apop},
		{"poplib", "XOAUTH2_in_two_lines", (*proofs).xoauth2},
		{"net-pop3", "APOP", (*proofs).perl},
		{"openssl", "a_client_without_a_certificate_logs_in_by_its_password", (*proofs).password},
		{"openssl", "EXTERNAL_with_a_certificate", (*proofs).openssl},
	} {
		report.leaf(t, "dovecot", r.subject, "", r.name, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("gateway:\n%s", p.front.tail())
				}
			}()
			r.run(p, t)
		})
	}
	for _, subject := range []string{"fetchmail", "mutt", "curl", "poplib", "net-pop3", "openssl"} {
		report.progress("dovecot", subject)
	}
}

func (b *bench) proofs(t *testing.T, s *station) *proofs {
	t.Helper()
	p := &proofs{station: s, front: &front{}, plain: freePort(t), secure: freePort(t)}
	user, pass, _ := s.account(t)
	set := messageSet(user)
	s.judge(t, user, pass).deliver(t, set...)
	p.messages = len(set)

	file := filepath.Join(b.Dir(), "accounts")
	for _, c := range []struct{ input, args string }{
		{"its own password\n" + localSecret + "\n" + pass + "\n", "--password --shared --upstream-password --upstream-user " + user + " " + localUser},
		{pass + "\n", "--external --upstream-password --upstream-user " + user + " " + certUser},
	} {
		argv := append([]string{filepath.Join(b.Dir(), "popgate"), "passwd", "--file", file}, strings.Fields(c.args)...)
		if out, err := program(t, c.input, argv...); err != nil {
			t.Fatalf("popgate passwd: %v\n%s", err, out)
		}
	}
	ca := p.certificates(t)
	config := filepath.Join(b.Dir(), "proofs.yaml")
	text := fmt.Sprintf("listen:\n  - {url: \"pop3://%s\", shared-secrets: true}\n  - {url: \"pop3s://%s\", shared-secrets: true, client-ca: %q}\n"+
		"tls: {cert: %q, key: %q}\nupstream: {url: \"imap://%s\"}\naccounts: {file: %q}\nlog: {level: debug}\n",
		p.plain, p.secure, ca, b.Certificate(), b.Key(), s.IMAP, file)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	b.serve(t, p.front, "proofs", "--config", config)
	p.tokens = tokenEngine(t)
	return p
}

// certificates makes a certificate for a client and returns its authority.
func (p *proofs) certificates(t *testing.T) (ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Carol"}, EmailAddresses: []string{certUser},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	dir := filepath.Join(p.bench.Dir(), "clients-tls")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte, err error) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err == nil {
			err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	ca = write("ca.pem", "CERTIFICATE", der, err)
	der, err = x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	p.cert = write("cert.pem", "CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	p.key = write("key.pem", "PRIVATE KEY", der, err)
	return ca
}

// tokenEngine is the engine before a store that takes one token: what a client says
// is what is tested, and not how a mail service looks at tokens.
func tokenEngine(t *testing.T) (addr string) {
	t.Helper()
	store := memdrop.New()
	store.AddUser(localUser, token, memdrop.Message{ID: "a1", Body: []byte("Subject: x\r\n\r\nx\r\n")})
	server, err := pop3.NewServer(pop3.Options{Store: store, Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { server.Serve(ctx, c, pop3.Via{Listener: "tokens"}) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		cancel()
		wg.Wait()
	})
	return ln.Addr().String()
}

func (p *proofs) visit(t *testing.T) *visit {
	t.Helper()
	return newVisit(t, p.station, "proofs-"+strings.ReplaceAll(t.Name(), "/", "-"), plain, p.plain, localUser, localSecret)
}

// listed counts the lines that begin with a message number.
func (p *proofs) listed(t *testing.T, text string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		if line[0] >= '1' && line[0] <= '9' {
			n++
		}
	}
	if n != p.messages {
		t.Errorf("%d messages are listed, want %d:\n%s", n, p.messages, text)
	}
}

func (p *proofs) fetchmail(t *testing.T, protocol, options string) {
	v := p.visit(t)
	rc := v.write(t, "fetchmailrc", fmt.Sprintf("set no bouncemail\nset no syslog\npoll %s protocol %s port %s timeout 20 %s\n  user %q password %q keep sslproto ''\n",
		v.host, protocol, v.port, options, v.user, v.pass))
	out := v.run(t, "", []int{1}, "fetchmail", "-v", "-v", "--check", "--nodetach", "--nosyslog", "-f", rc, "--pidfile", filepath.Join(v.dir, "pid"))
	if want := fmt.Sprintf("%d messages for %s", p.messages, v.user); !strings.Contains(out, want) {
		t.Errorf("fetchmail does not say %q:\n%s", want, out)
	}
	if want := map[string]string{"apop": "APOP " + localUser, "pop3": "AUTH CRAM-MD5"}[protocol]; !strings.Contains(out, want) {
		t.Errorf("fetchmail did not send %q:\n%s", want, out)
	}
}

func (p *proofs) mutt(t *testing.T, authenticator string) {
	v := p.visit(t)
	copies := filepath.Join(v.dir, "copies")
	rc := v.write(t, "muttrc", fmt.Sprintf("set pop_user=%q pop_pass=%q pop_authenticators=%q ssl_starttls=no ssl_force_tls=no\n"+
		"set folder=%q mbox_type=Maildir confirmappend=no confirmcreate=no wait_key=no quit=yes delete=yes move=no record=\"\" spoolfile=\"\"\n",
		v.user, v.pass, authenticator, v.dir))
	v.terminal(t, "mutt", "-n", "-F", rc, "-e", "push '<tag-pattern>~A<enter><tag-prefix><copy-message>=copies<enter><quit>'",
		"-f", fmt.Sprintf("pop://%s:%s", v.host, v.port))
	if got := len(v.arrived(t, filepath.Join(copies, "new"))) + len(v.arrived(t, filepath.Join(copies, "cur"))); got != p.messages {
		t.Errorf("mutt has copied %d messages, want %d", got, p.messages)
	}
}

func (p *proofs) curl(t *testing.T, addr, login, user string, more ...string) {
	v := p.visit(t)
	scheme := "pop3"
	if addr == p.secure {
		scheme = "pop3s"
	}
	argv := append([]string{"curl", "-sS", "--max-time", "50", "--login-options", login, "-u", user, scheme + "://localhost:" + portOf(addr) + "/"}, more...)
	p.listed(t, v.run(t, "", nil, argv...))
}

// bearer: of the two mechanisms with a token curl takes OAUTHBEARER, whatever it is
// told.
func (p *proofs) bearer(t *testing.T, more ...string) {
	v := p.visit(t)
	curl := func(token string, allowed []int) string {
		argv := append([]string{"curl", "-sS", "-v", "--max-time", "50", "--oauth2-bearer", token, "-u", localUser + ":", "pop3://" + p.tokens + "/"}, more...)
		return v.run(t, "", allowed, argv...)
	}
	if out := curl(token, nil); !strings.Contains(out, "AUTH OAUTHBEARER") || !strings.Contains(out, "logged in") {
		t.Errorf("no login:\n%s", out)
	}
	const loginDenied = 67
	if out := curl("x"+token, []int{loginDenied}); !strings.Contains(out, "-ERR [AUTH]") {
		t.Errorf("a wrong token:\n%s", out)
	}
}

// xoauth2 is how scripts log in to mail services that take no password any more.
func (p *proofs) xoauth2(t *testing.T) {
	v := p.visit(t)
	out := v.run(t, "", nil, "/usr/bin/python3", "-c", `
import base64, poplib, sys
for token in "x" + sys.argv[4], sys.argv[4]:
    box = poplib.POP3(sys.argv[1], int(sys.argv[2]), timeout=20)
    answer = base64.b64encode(("user=%s\x01auth=Bearer %s\x01\x01" % (sys.argv[3], token)).encode()).decode()
    box._shortcmd("AUTH XOAUTH2")
    print(box._shortcmd(answer))
    try:
        print(box._shortcmd(""))
    except poplib.error_proto as e:
        print(e)`, "127.0.0.1", portOf(p.tokens), localUser, token)
	lines := strings.Split(out, "\n")
	if len(lines) < 4 || !strings.HasPrefix(lines[0], "b'+ ") || !strings.Contains(lines[1], "-ERR [AUTH]") || !strings.HasPrefix(lines[2], "b'+OK") {
		t.Errorf("a wrong token, then a right one:\n%s", out)
	}
}

func (p *proofs) apop(t *testing.T) {
	v := p.visit(t)
	p.listed(t, v.run(t, "", nil, "/usr/bin/python3", "-c", `
import poplib, sys
box = poplib.POP3(sys.argv[1], int(sys.argv[2]), timeout=20)
box.apop(sys.argv[3], sys.argv[4])
print("\n".join(line.decode() for line in box.list()[1]))
box.quit()`, v.host, v.port, v.user, v.pass))
}

func (p *proofs) perl(t *testing.T) {
	v := p.visit(t)
	p.listed(t, v.run(t, "", nil, "/usr/bin/perl", "-MNet::POP3", "-e", `
my ($host, $port, $user, $secret) = @ARGV;
my $box = Net::POP3->new($host, Port => $port, Timeout => 20) or die "connect: $@\n";
defined $box->apop($user, $secret) or die 'login: ' . $box->message . "\n";
my $list = $box->list;
print "$_ $list->{$_}\n" for sort { $a <=> $b } keys %$list;
$box->quit;`, v.host, v.port, v.user, v.pass))
}

func (p *proofs) password(t *testing.T) {
	out := p.sClient(t, "USER "+localUser+"\nPASS its own password\nSTAT\nQUIT\n")
	if !strings.Contains(out, fmt.Sprintf("+OK %d ", p.messages)) || strings.Contains(out, "EXTERNAL") {
		t.Errorf("by a password:\n%s", out)
	}
}

func (p *proofs) openssl(t *testing.T) {
	out := p.sClient(t, "CAPA\nAUTH EXTERNAL =\nSTAT\nQUIT\n", "-cert", p.cert, "-key", p.key)
	if !strings.Contains(out, fmt.Sprintf("+OK %d ", p.messages)) || !strings.Contains(out, " EXTERNAL") {
		t.Errorf("by a certificate:\n%s", out)
	}
}

func (p *proofs) sClient(t *testing.T, input string, more ...string) string {
	t.Helper()
	v := p.visit(t)
	argv := append([]string{"openssl", "s_client", "-quiet", "-crlf", "-ign_eof", "-connect", "localhost:" + portOf(p.secure), "-CAfile", p.bench.CA()}, more...)
	return v.run(t, input, nil, argv...)
}
