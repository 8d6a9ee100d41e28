package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/accounts"
)

// localAccounts writes a file of accounts: one that has a password of its own and a
// shared secret, and one for a certificate, both of which are alice upstream.
func localAccounts(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "accounts")
	secret := func(s string) *upstream.Secret { return new(upstream.NewSecret(s)) }
	for user, change := range map[string]accounts.Change{
		"scanner": {Password: secret("local canary"), SharedSecret: secret("shared canary"), UpstreamUser: new("alice"), UpstreamPassword: secret(canary)},
		"carol":   {External: new(true), UpstreamUser: new("alice"), UpstreamPassword: secret(canary)},
		"dave":    {External: new(true)},
		"alice":   {SharedSecret: secret(canary)},
	} {
		if err := accounts.Edit(file, user, change); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// greeting is connect, and the line that the server begins with.
func greeting(t *testing.T, address string) (c *popClient, timestamp string) {
	t.Helper()
	c = connect(t, address)
	line, _, _ := strings.Cut(c.said.String(), "\r\n")
	return c, regexp.MustCompile("<.*>").FindString(line)
}

// Local accounts are proved here, and use what the file has for the mail server; on a
// listener with shared secrets by a digest too.
func TestServeLocalAccounts(t *testing.T) {
	s := serve(t, "--config", writeConfig(t, fmt.Sprintf("listen:\n  - pop3://127.0.0.1:0\n  - {url: \"pop3://127.0.0.1:0\", shared-secrets: yes}\n"+
		"upstream: {url: imap://%s}\naccounts: {file: %s}\nmetrics: 127.0.0.1:0\nthrottle: {delay: 0s}\n", imapServer(t, 2), localAccounts(t))))
	if _, stamp := greeting(t, s.pop3[0]); stamp != "" {
		t.Errorf("a listener without shared secrets greets with %s", stamp)
	}
	for _, tt := range []struct{ user, password, want string }{
		{"scanner", "local canary", "+OK"},
		{"SCANNER", "local canary", "+OK"},
		{"scanner", canary, "-ERR [AUTH] wrong user or password"}, // that of the mail server
		{"scanner", "shared canary", "-ERR [AUTH] wrong user or password"},
		{"alice", canary, "+OK"}, // the shared secret is the password on both sides
		{"nobody", canary, "-ERR [AUTH] wrong user or password"},
		{"carol", canary, "-ERR [AUTH] wrong user or password"},
	} {
		c := connect(t, s.pop3[0])
		c.do("USER "+tt.user, "+OK")
		c.do("PASS "+tt.password, tt.want)
		if tt.want == "+OK" {
			c.do("STAT", "+OK 2 ")
		}
		c.do("QUIT", "+OK")
	}
	for _, tt := range []struct{ user, secret, want string }{
		{"scanner", "shared canary", "+OK"},
		{"scanner", "local canary", "-ERR [AUTH] wrong user or password"},
		{"alice", canary, "+OK"},
		{"carol", "", "-ERR [AUTH] wrong user or password"},
		{"nobody", "", "-ERR [AUTH] wrong user or password"},
	} {
		c, stamp := greeting(t, s.pop3[1])
		sum := md5.Sum([]byte(stamp + tt.secret))
		c.do("APOP "+tt.user+" "+hex.EncodeToString(sum[:]), tt.want)
		c.do("QUIT", "+OK")
	}
	s.wantMetrics(t, `popgate_logins_total{mechanism="APOP",result="ok"} 2`, `popgate_logins_total{mechanism="APOP",result="refused"} 3`,
		`popgate_logins_total{mechanism="USER",result="ok"} 3`, `popgate_logins_total{mechanism="USER",result="refused"} 4`,
		`popgate_upstream_requests_total{op="login",result="ok",upstream="upstream"} 5`, `popgate_upstream_requests_total{op="login",result="refused",upstream="upstream"} 0`)
}

// clientCertificate makes an authority, and a certificate of it for a name.
func clientCertificate(t *testing.T, name string) (caFile string, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := func(n int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().Add(time.Hour), IsCA: n == 1, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	}
	root := template(1, "clients")
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template(2, name), root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return caFile, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestServeClientCertificates(t *testing.T) {
	caFile, carol := clientCertificate(t, "carol")
	s := serve(t, "--config", frontConfig(t, fmt.Sprintf(`
  - {url: "pop3s://127.0.0.1:0", client-ca: %s}
  - {url: "pop3://127.0.0.1:0", client-ca: %[1]s}
  - pop3s://127.0.0.1:0
`, caFile), imapServer(t, 2)+"}\naccounts: {file: "+localAccounts(t)))
	with := func(address string, certs ...tls.Certificate) *popClient {
		t.Helper()
		config := clientTLSConfig(t)
		config.Certificates = certs
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, config)
		if err != nil {
			t.Fatal(err)
		}
		return greeted(t, conn)
	}
	c := with(s.pop3[0], carol)
	c.do("AUTH EXTERNAL =", "+OK")
	c.do("STAT", "+OK 2 ")
	c.do("QUIT", "+OK")
	c = with(s.pop3[0])
	c.do("AUTH EXTERNAL =", "-ERR no such mechanism")
	c.do("USER scanner", "+OK")
	c.do("PASS local canary", "+OK")
	c.do("QUIT", "+OK")
	c = with(s.pop3[2], carol) // where nobody asks for one
	c.do("AUTH EXTERNAL =", "-ERR no such mechanism")
	// By STLS.
	c = connect(t, s.pop3[1])
	c.do("STLS", "+OK")
	config := clientTLSConfig(t)
	config.Certificates = []tls.Certificate{carol}
	secure := tls.Client(c.conn, config)
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.conn = secure
	c.in.Reset(secure)
	c.do("AUTH EXTERNAL =", "+OK")
	// A certificate of somebody else ends the connection: at the client's first read
	// under TLS 1.3.
	_, stranger := clientCertificate(t, "carol")
	config = clientTLSConfig(t)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.pop3[0], config)
	if err == nil {
		conn.SetDeadline(time.Now().Add(patience))
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a certificate of another authority: %v, want an alert", err)
	}
}

// An account that a certificate proves, with nothing for the mail server, is a matter
// of the administrator's and not a wrong password.
func TestServeCertificateWithoutAPassword(t *testing.T) {
	caFile, dave := clientCertificate(t, "dave")
	s := serve(t, "--config", frontConfig(t, fmt.Sprintf("\n  - {url: \"pop3s://127.0.0.1:0\", client-ca: %s}\n", caFile),
		imapServer(t, 2)+"}\naccounts: {file: "+localAccounts(t)))
	config := clientTLSConfig(t)
	config.Certificates = []tls.Certificate{dave}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.pop3[0], config)
	if err != nil {
		t.Fatal(err)
	}
	greeted(t, conn).do("AUTH EXTERNAL =", "-ERR [SYS/PERM]")
	if !strings.Contains(s.log.String(), "it needs a local account with an upstream-password") {
		t.Error("the log does not say what is missing")
	}
}

// process runs popgate as a process, which reads standard input.
func process(t *testing.T, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestPasswd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accounts")
	hash := regexp.MustCompile(`\$argon2id\$[^:\n]*`)
	for _, tt := range []struct {
		name, input, args string
		ok                bool
		want              string // the file afterwards; HASH is any
	}{
		{"a_password", "pw\n", "ann", true, "ann:HASH\n"},
		{"no_line_end", "pw", "ann", true, "ann:HASH\n"},
		{"an_empty_password", "\n", "ann", false, "ann:HASH\n"},
		{"nothing", "", "ann", false, "ann:HASH\n"},
		{"a_long_line", strings.Repeat("x", 2000) + "\n", "ann", false, "ann:HASH\n"},
		{"a_shared_secret", "tanstaaf\n", "--shared ann", true, "ann:HASH:shared-secret=tanstaaf\n"},
		{"one_of_its_own", "tanstaaf\n", "--shared fax", true, "ann:HASH:shared-secret=tanstaaf\nfax::shared-secret=tanstaaf\n"},
		{"all_in_their_order", "a\nb\nc\n", "--upstream-password --shared --password --mailbox Fax --upstream-user f fax", true,
			"ann:HASH:shared-secret=tanstaaf\nfax:HASH:shared-secret=b:upstream-user=f:upstream-password=c:mailbox=Fax\n"},
		{"an_empty_secret_takes_it_away", "\n\n", "--shared --upstream-password fax", true,
			"ann:HASH:shared-secret=tanstaaf\nfax:HASH:upstream-user=f:mailbox=Fax\n"},
		{"an_empty_name_takes_it_away", "", "--upstream-user= --mailbox= fax", true, "ann:HASH:shared-secret=tanstaaf\nfax:HASH\n"},
		{"a_certificate", "", "--external fax", true, "ann:HASH:shared-secret=tanstaaf\nfax:HASH:external\n"},
		{"no_certificate", "", "--no-external fax", true, "ann:HASH:shared-secret=tanstaaf\nfax:HASH\n"},
		{"delete", "", "--delete ann", true, "fax:HASH\n"},
		{"delete_what_is_not_there", "", "--delete ann", false, "fax:HASH\n"},
		{"nobody_could_log_in", "", "--mailbox Fax new", false, "fax:HASH\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := process(t, tt.input, append([]string{"passwd", "--file", file}, strings.Fields(tt.args)...)...)
			if (code == 0) != tt.ok {
				t.Errorf("popgate passwd %s: exit code %d\n%s%s", tt.args, code, out, errs)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if text := hash.ReplaceAllString(string(got), "HASH"); text != tt.want {
				t.Errorf("the file is %q, want %q", text, tt.want)
			}
		})
	}
}

// On a terminal each secret is asked for twice.
func TestPasswdAsksTwice(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []string
		want    string // "": an error
	}{
		{"the_same", []string{"pw", "pw"}, "pw"},
		{"not_the_same", []string{"pw", "PW"}, ""},
		{"the_end", []string{"pw"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var prompts strings.Builder
			a := &asker{ctx: t.Context(), out: &prompts, hide: func() ([]byte, error) {
				if len(tt.answers) == 0 {
					return nil, io.EOF
				}
				answer := tt.answers[0]
				tt.answers = tt.answers[1:]
				return []byte(answer), nil
			}}
			got, err := a.twice("Password of ann")
			if (err == nil) != (tt.want != "") || err == nil && got != tt.want {
				t.Errorf("twice() = %q, %v; want %q", got, err, tt.want)
			}
			if want := "Password of ann: \nOnce more: \n"; prompts.String() != want {
				t.Errorf("asked %q, want %q", prompts.String(), want)
			}
		})
	}
}
