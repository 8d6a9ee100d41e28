package realtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// An edge is a gateway with a listener for each way in, and HAProxy before some.
type edge struct {
	*station
	front     *front
	plain     string        // a listener for clients, clear text and STLS
	proxied   []lab.Forward // HAProxy before pop3:// and pop3s:// listeners
	old       [2]string     // for old devices: pop3s://, pop3://
	elsewhere string        // pop3s:// for old devices of another network
	usual     string        // pop3s://
}

// What stands between the clients and popgate: HAProxy with the PROXY protocol,
// and devices that know old TLS alone.
func TestEdge(t *testing.T) {
	b := newBench(t, "HAProxy in front, and OpenSSL with TLS 1.0")
	if b.front != "" {
		t.Skip("these are rules of the gateway, which is not the front end here")
	}
	report.guard(t, "dovecot", "", "")
	s := b.start(t, "dovecot")
	e := b.edge(t, s)
	for _, r := range []struct {
		subject, name string
		run           func(e *edge, t *testing.T)
	}{
		{"haproxy", "curl_comes_in_with_its_own_address_v1", func(e *edge, t *testing.T) { e.curl(t, 0, "pop3", "--ssl-reqd") }},
		{"haproxy", "curl_comes_in_with_its_own_address_v2", func(e *edge, t *testing.T) { e.curl(t, 1, "pop3", "--ssl-reqd") }},
		{"haproxy", "curl_comes_in_with_TLS_from_the_first_octet", func(e *edge, t *testing.T) { e.curl(t, 2, "pop3s") }},
		{"haproxy", "its_health_checks_are_served", (*edge).healthChecks},
		{"haproxy", "a_forged_header_from_another_address_ends_the_connection", (*edge).forged},
		{"openssl", "TLS_1.0_on_the_listener_for_old_devices", func(e *edge, t *testing.T) { e.openssl(t, e.old[0], true) }},
		{"openssl", "TLS_1.0_by_STLS_on_the_listener_for_old_devices", func(e *edge, t *testing.T) { e.openssl(t, e.old[1], true, "-starttls", "pop3") }},
		{"openssl", "no_TLS_1.0_on_the_usual_listener", func(e *edge, t *testing.T) { e.openssl(t, e.usual, false) }},
		{"openssl", "no_TLS_1.0_by_STLS_on_the_usual_listener", func(e *edge, t *testing.T) { e.openssl(t, e.plain, false, "-starttls", "pop3") }},
		{"openssl", "no_TLS_1.0_for_a_network_that_is_not_listed", func(e *edge, t *testing.T) { e.openssl(t, e.elsewhere, false) }},
	} {
		report.leaf(t, "dovecot", r.subject, "", r.name, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("gateway:\n%s", e.front.tail())
				}
			}()
			r.run(e, t)
		})
	}
	for _, subject := range []string{"haproxy", "openssl"} {
		report.progress("dovecot", subject)
	}
}

func (b *bench) edge(t *testing.T, s *station) *edge {
	t.Helper()
	version, err := lab.PackageVersion(t.Context(), "openssl")
	if err != nil {
		t.Fatal(err)
	}
	report.version("openssl", version)
	e := &edge{station: s, front: &front{}, plain: freePort(t), old: [2]string{freePort(t), freePort(t)}, elsewhere: freePort(t), usual: freePort(t),
		proxied: []lab.Forward{{To: freePort(t), Header: "send-proxy"}, {To: freePort(t), Header: "send-proxy-v2"}, {To: freePort(t), Header: "send-proxy-v2", TLS: true}}}
	legacy := func(url, from string) string {
		return fmt.Sprintf("  - {url: %q, legacy: {from: %s, cert: %q, key: %q}}\n", url, from, b.OldCertificate(), b.OldKey())
	}
	proxied := func(url string) string {
		return fmt.Sprintf("  - {url: %q, proxy-protocol: {from: %s}}\n", url, lab.HAProxySource)
	}
	config := filepath.Join(b.Dir(), "edge.yaml")
	text := "listen:\n  - pop3://" + e.plain + "\n  - pop3s://" + e.usual + "\n" +
		legacy("pop3s://"+e.old[0], "127.0.0.0/8") + legacy("pop3://"+e.old[1], "127.0.0.0/8") + legacy("pop3s://"+e.elsewhere, "192.0.2.0/24") +
		proxied("pop3://"+e.proxied[0].To) + proxied("pop3://"+e.proxied[1].To) + proxied("pop3s://"+e.proxied[2].To) +
		fmt.Sprintf("tls: {cert: %q, key: %q}\nupstream: {url: \"imap://%s\"}\n", b.Certificate(), b.Key(), s.IMAP)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	b.serve(t, e.front, "edge", "--config", config)
	h, err := b.HAProxy(context.Background(), "haproxy", e.proxied) // ends with the cleanup
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Errorf("haproxy: %v", err)
		}
	})
	report.version("haproxy", h.Version)
	return e
}

// logs waits until the gateway has logged a line with all of these.
func (e *edge) logs(t *testing.T, parts ...string) {
	t.Helper()
	e.front.logs(t, parts...)
}

// logs waits until the gateway has logged a line with all of these.
func (f *front) logs(t *testing.T, parts ...string) {
	t.Helper()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(popTimeout); time.Now().Before(deadline); <-tick.C {
		text, err := os.ReadFile(f.log)
		if err != nil {
			t.Fatal(err)
		}
	lines:
		for line := range strings.Lines(string(text)) {
			for _, p := range parts {
				if !strings.Contains(line, p) {
					continue lines
				}
			}
			return
		}
	}
	t.Errorf("no line of the log has all of %q", parts)
}

// program runs a program with input to its end.
func program(t *testing.T, input string, argv ...string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), visitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(input)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// curl lists a mailbox through HAProxy from an address of its own.
func (e *edge) curl(t *testing.T, through int, scheme string, flags ...string) {
	user, pass, n := e.account(t)
	e.judge(t, user, pass).deliver(t, messageSet(user)...)
	from := fmt.Sprintf("127.0.1.%d", n)
	argv := append([]string{"curl", "-sS", "--max-time", "50", "-u", user + ":" + pass, "--cacert", e.bench.CA(), "--interface", from, "-X", "UIDL",
		scheme + "://" + e.proxied[through].Addr + "/"}, flags...)
	got, err := program(t, "", argv...)
	if want := len(messageSet(user)); err != nil || strings.Count(got, "\r\n")+strings.Count(strings.ReplaceAll(got, "\r\n", ""), "\n") != want {
		t.Errorf("curl: %v, want %d unique-ids\n%s", err, want, got)
	}
	e.logs(t, `"peer":"`+from+`"`, `"user":"`+user+`"`, `"session ended"`)
}

// healthChecks: HAProxy expects the greeting; in version 2 it says LOCAL, and in
// version 1 it names its own address as the client's.
func (e *edge) healthChecks(t *testing.T) {
	for _, f := range e.proxied[:2] {
		e.logs(t, `"listener":"pop3://`+f.To+`"`, `"peer":"`+lab.HAProxySource+`"`, `"session ended"`)
	}
	text, err := os.ReadFile(filepath.Join(e.bench.Dir(), "haproxy", "log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "is DOWN") {
		t.Errorf("a server was found down:\n%s", text)
	}
}

// forged speaks to the listeners behind HAProxy from an address that is not
// listed.
func (e *edge) forged(t *testing.T) {
	for _, f := range e.proxied {
		for _, header := range []string{
			"PROXY TCP4 127.0.0.50 127.0.0.1 4660 110\r\n",
			"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x32\x7f\x00\x00\x01\x12\x34\x00\x6e",
			"",
		} {
			c, err := net.DialTimeout("tcp", f.To, popTimeout)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(popTimeout))
			_, _ = io.WriteString(c, header) // it may be closed already
			got, err := io.ReadAll(c)
			c.Close()
			if e, ok := err.(net.Error); len(got) > 0 || ok && e.Timeout() {
				t.Errorf("header %q: read %q, %v; want the end", header, got, err)
			}
		}
	}
	e.logs(t, `"connection refused"`, `"limit":"network"`)
}

// openssl logs in with TLS 1.0, or cannot.
func (e *edge) openssl(t *testing.T, addr string, served bool, flags ...string) {
	user, pass, _ := e.account(t)
	argv := append([]string{"openssl", "s_client", "-connect", addr, "-tls1", "-cipher", "DEFAULT@SECLEVEL=0", "-CAfile", e.bench.CA(),
		"-verify_return_error", "-quiet", "-crlf"}, flags...)
	got, err := program(t, "USER "+user+"\nPASS "+pass+"\nSTAT\nQUIT\n", argv...)
	if served && (err != nil || strings.Count(got, "+OK") < 4) {
		t.Errorf("TLS 1.0: %v, want a whole session\n%s", err, got)
	}
	if !served && (err == nil || strings.Contains(got, "+OK logged in") || strings.Contains(got, "+OK 0 0")) {
		t.Errorf("TLS 1.0: %v, want a refusal\n%s", err, got)
	}
	if served {
		e.logs(t, `"user":"`+user+`"`, `"tls":true`, `"session ended"`)
	}
}
