package main

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/proxy/pop3"
)

// What metrics call a limit is what the configuration calls it.
func TestLimitsAreNamedAsInTheConfiguration(t *testing.T) {
	_, section, _ := strings.Cut(config.Reference(), "\nlimits:\n")
	section, _, _ = strings.Cut(section, "\n\n")
	names := limitNames()
	for i, name := range names {
		if name != lockName && !strings.Contains("\n"+section, "\n  "+name+": ") {
			t.Errorf("the section limits has no %q", name)
		}
		if slices.Contains(names[:i], name) {
			t.Errorf("%q is there twice", name)
		}
	}
	for _, verb := range timed() {
		if !slices.Contains(pop3.Verbs(), verb) {
			t.Errorf("there is no %s to be timed", verb)
		}
	}
}

// Two limits are met by clients, and each is counted by its name.
func TestLimitsAreCountedByName(t *testing.T) {
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 3), "--metrics", "127.0.0.1:0",
		"--config", writeConfig(t, "limits: {bad-commands: 2, mailbox-messages: 2}\nlock: {wait: 0s}\n"))
	c := connect(t, s.pop3[0])
	c.do("NONSENSE", "-ERR")
	c.do("NONSENSE", "-ERR")
	c.ended()
	c = connect(t, s.pop3[0])
	c.do("USER alice", "+OK")
	c.do("PASS "+canary, "-ERR [SYS/PERM]")
	c.do("QUIT", "+OK")
	c.ended()
	s.wantMetrics(t, `popgate_limit_hits_total{limit="bad-commands"} 1`, `popgate_limit_hits_total{limit="mailbox-messages"} 1`,
		`popgate_limit_hits_total{limit="lock"} 0`, `popgate_config_last_reload_successful 1`)
}

// Deletions of every outcome that clients can bring about balance once their
// sessions have ended.
func TestDeletionsBalance(t *testing.T) {
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 6), "--metrics", "127.0.0.1:0")
	for _, end := range []string{"RSET", "hang up", "QUIT", "DELE 2"} {
		c := connect(t, s.pop3[0])
		c.login()
		c.do("DELE 1", "+OK")
		switch end {
		case "hang up":
			c.conn.Close()
			continue
		case "QUIT":
		default:
			c.do(end, "+OK")
		}
		c.do("QUIT", "+OK")
		c.ended()
	}
	s.wantMetrics(t, `popgate_sessions 0`, `popgate_deletions_total{outcome="marked"} 5`)
	_, body := s.get(t, "/metrics")
	n := map[string]int{}
	for _, outcome := range metrics.Outcomes() {
		_, rest, _ := strings.Cut(body, fmt.Sprintf("\npopgate_deletions_total{outcome=%q} ", outcome))
		if _, err := fmt.Sscan(rest, new(int)); err != nil {
			t.Fatalf("%s: %v", outcome, err)
		}
		var count int
		fmt.Sscan(rest, &count)
		n[outcome] = count
	}
	if n["marked"] != n["reset"]+n["abandoned"]+n["removed"]+n["missing"]+n["kept"] || n["reset"] != 1 || n["abandoned"] != 1 || n["removed"] != 3 {
		t.Errorf("deletions: %v", n)
	}
}

// What a client may agree on with a listener has its series from the start, and
// the client's choice is counted there.
func TestHandshakesAreCountedByVersionAndCipher(t *testing.T) {
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--listen", "pop3s://127.0.0.1:0", "--tls-cert", certFile, "--tls-key", keyFile,
		"--upstream", "imap://"+imapServer(t, 1), "--metrics", "127.0.0.1:0")
	_, before := s.get(t, "/metrics")
	if n := strings.Count(before, "\npopgate_tls_handshakes_total{"); n == 0 || n > 30 {
		t.Errorf("%d series of handshakes with two listeners", n)
	}
	connect(t, s.pop3[0]).stls()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn, err := tls.Dial("tcp", s.pop3[1], &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		suite := tls.CipherSuiteName(conn.ConnectionState().CipherSuite)
		s.wantMetrics(t, fmt.Sprintf(`popgate_tls_handshakes_total{cipher=%q,listener="pop3s://127.0.0.1:0",version="1.%d"} 1`, suite, version-tls.VersionTLS10))
	}
	_, after := s.get(t, "/metrics")
	if strings.Count(after, "\npopgate_tls_handshakes_total{") != strings.Count(before, "\npopgate_tls_handshakes_total{") {
		t.Errorf("a handshake makes a series:\n%s", own(after))
	}
	if !strings.Contains(own(after), `listener="pop3://127.0.0.1:0",version="1.3"} 1`) {
		t.Errorf("STLS is not counted:\n%s", own(after))
	}
}
