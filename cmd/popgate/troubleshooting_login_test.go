//go:build linux

package main

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// passwordThatIsRight is right here, and refused by the mail server.
func passwordThatIsRight(c *trouble) {
	srv := c.server(imaptest.Full())
	const words = "application-specific password required"
	srv.Before("AUTHENTICATE", 0, imaptest.NO("[AUTHENTICATIONFAILED] "+words))
	s := c.serve("imap://"+srv.Addr(), "throttle: {delay: 0s}\n")
	c.refused(s, "-ERR [AUTH] wrong user or password")
	c.logged(s, `"login failed"`, `"cause":"refused"`, words)
	srv.Forget() // as whoever has the mail server mends it
	c.login(s)
}

func guessed(c *trouble) {
	srv := c.server(imaptest.Full())
	after := func(regain string) *service {
		s := c.serve("imap://"+srv.Addr(), "throttle: {guesses: 1, regain: "+regain+", delay: 200ms, count-loopback: true}\n")
		guesser := c.connect(s)
		guesser.do("USER alice", "+OK")
		guesser.do("PASS an old one", "-ERR [AUTH] wrong user or password")
		return s
	}
	s := after("1h")
	c.refused(s, "-ERR [AUTH] wrong user or password")
	c.logged(s, `"login failed"`, `"cause":"refused"`, "throttle:")
	if c.sum(s, "popgate_throttled_total") == 0 {
		c.Error("nothing counts what was refused")
	}
	s = after("1s")
	c.until("it passes", func() bool { return c.tries(s) })
}

// clearText comes from a network, as the header of a proxy says.
func clearText(c *trouble) {
	srv := c.server(imaptest.Full())
	for _, where := range []string{"", "clear-text-login: anywhere\n"} {
		s := c.serve("imap://"+srv.Addr(), "listen: [{url: \"pop3://127.0.0.1:0\", proxy-protocol: {from: 127.0.0.1}}]\n"+where)
		client := greeted(c.T, proxied(c.T, s.pop3[0], "PROXY TCP4 198.51.100.7 192.0.2.1 4660 110\r\n"))
		c.clients = append(c.clients, client)
		if where == "" {
			client.do("USER alice", "-ERR no login without TLS")
			c.logged(s, "popgate serves", "pop3://")
			client.stls()
		}
		client.login()
		client.do("QUIT", "+OK")
		client.ended()
	}
}

// serverWithoutAnswer does not listen, has no room, or is not to be trusted.
func serverWithoutAnswer(c *trouble) {
	const answer = "-ERR [SYS/TEMP] the mail service is not available"
	told := func(s *service, why string) {
		c.Helper()
		c.refused(s, answer)
		c.logged(s, `"login failed"`, `"cause":"unavailable"`, why)
		c.counts(s, 1, "popgate_upstream_requests_total", `op="connect"`, `result="unavailable"`, `upstream="upstream"`)
	}
	s := c.serve("imap://"+closedPort(c.T), "")
	told(s, "connection refused")
	c.page(s, "Mail servers")

	small := imaptest.Full()
	small.MaxConnections = 1
	srv := c.server(small)
	s = c.serve("imap://"+srv.Addr(), "")
	other := dialRaw(c.T, srv.Addr())
	if _, err := other.Read(make([]byte, 1)); err != nil { // it has been greeted
		c.Fatal(err)
	}
	told(s, "too many connections")
	other.Close()
	c.until("with room again it answers", func() bool { return c.tries(s) }) // the server sees that in its own time

	ca := imaptest.NewCA(c.T)
	roots := filepath.Join(c.TempDir(), "ca.pem")
	if err := os.WriteFile(roots, ca.PEM(), 0o600); err != nil {
		c.Fatal(err)
	}
	url := "imaps://" + c.server(imaptest.Full(), imaptest.ImplicitTLS(ca)).Addr()
	told(c.serve(url, ""), "certificate signed by unknown authority")
	c.login(c.serve("", "upstream: {url: "+url+", ca: "+roots+"}\n"))
}

// checkedBeforehand, while a gateway serves and where none can.
func checkedBeforehand(c *trouble) {
	srv := c.server(imaptest.Full())
	srv.INBOX().Append(message(1))
	for _, tt := range []struct {
		upstream string
		code     int
		want     []string
	}{
		{srv.Addr(), exitOK, []string{"connect", "login", "list", "a message that is deleted is expunged"}},
		{closedPort(c.T), exitFailed, []string{"connect  FAIL", "what to do:"}},
	} {
		file := c.config("imap://"+tt.upstream, "")
		serve(c.T, "--config", file)
		args := []string{"check", "--config", file, "--user", "alice"}
		code, stdout, stderr := process(c.T, canary+"\n", args...)
		if code != tt.code {
			c.Errorf("exit code %d, want %d\n%s%s", code, tt.code, stdout, stderr)
		}
		for _, want := range tt.want {
			if !strings.Contains(stdout, want) {
				c.Errorf("popgate check does not say %q:\n%s", want, stdout)
			}
		}
		c.found = append(c.found, "popgate "+strings.Join(args, " "))
	}
	if n := len(srv.INBOX().Messages()); n != 1 {
		c.Errorf("%d messages are left", n)
	}
}

// maildropInUse is free when its session is at its end, and a login waits for that.
func maildropInUse(c *trouble) {
	srv := c.server(imaptest.Full())
	s := c.serve("imap://"+srv.Addr(), "lock: {wait: 0s}\n")
	c.login(s)
	c.refused(s, "-ERR [IN-USE]")
	c.logged(s, `"login failed"`, `"cause":"busy"`, `"user":"alice"`)
	c.counts(s, 1, "popgate_limit_hits_total", `limit="lock"`)

	s = c.serve("imap://"+srv.Addr(), "lock: {wait: 1m}\n")
	first, second := c.login(s), c.connect(s)
	second.do("USER alice", "+OK")
	if _, err := io.WriteString(second.conn, "PASS "+canary+"\r\n"); err != nil {
		c.Fatal(err)
	}
	first.do("QUIT", "+OK")
	second.expect("+OK")
}

func polledTooOften(c *trouble) {
	srv := c.server(imaptest.Full())
	s := c.serve("imap://"+srv.Addr(), "limits: {login-delay: 1h}\n")
	c.login(s).do("QUIT", "+OK")
	c.refused(s, "-ERR [LOGIN-DELAY]")
	c.logged(s, `"login failed"`, `"cause":"early"`)
	c.counts(s, 1, "popgate_limit_hits_total", `limit="login-delay"`)

	s = c.serve("imap://"+srv.Addr(), "limits: {login-delay: 0s}\n")
	for range 2 {
		c.login(s).do("QUIT", "+OK")
	}
}

// loginForAPerson fails until somebody does something.
func loginForAPerson(c *trouble) {
	srv := c.server(imaptest.Full())
	for n := range 3 {
		srv.INBOX().Append(message(n + 1))
	}
	mute := imaptest.Full()
	mute.Auth, mute.LoginDisabled = nil, true
	for _, tt := range []struct {
		name, sick, cured string // configurations
		upstream          string // of the sick one
		cause, why        string
	}{
		{"no_mailbox", "mailbox: None\n", "", srv.Addr(), "internal", "None"},
		{"too_many_messages", "limits: {mailbox-messages: 2}\n", "limits: {mailbox-messages: 3}\n", srv.Addr(), "toobig", "messages"},
		{"no_way_to_log_in", "", "", c.server(mute).Addr(), "internal", "log"},
	} {
		sick, cured := tt.sick, tt.cured
		if tt.name == "no_mailbox" {
			sick = "upstream: {url: imap://" + tt.upstream + ", mailbox: None}\n"
		}
		s := c.serve("imap://"+tt.upstream, sick)
		c.refused(s, "-ERR [SYS/PERM]")
		c.logged(s, `"login failed"`, `"cause":"`+tt.cause+`"`, tt.why)
		c.login(c.serve("imap://"+srv.Addr(), cured)).do("STAT", "+OK 3 ")
	}
}

// turnedAway is told why by metrics alone.
func turnedAway(c *trouble) {
	upstream := "imap://" + c.server(imaptest.Full()).Addr()
	for _, tt := range []struct {
		reason, sick, cured string // configurations
		first               bool   // another client is there already
		sends, gets         string
	}{
		{"connections", "limits: {connections: 1}\n", "limits: {connections: 2}\n", true, "", busy},
		{"address", "limits: {connections-per-address: 1, count-loopback: yes}\n", "limits: {connections-per-address: 2, count-loopback: yes}\n", true, "", busy},
		{"rate", "limits: {rate-per-address: 1, count-loopback: yes}\n", "limits: {rate-per-address: 1}\n", true, "", busy},
		{"network", "listen: [{url: \"pop3://127.0.0.1:0\", proxy-protocol: {from: 10.0.0.0/8}}]\n", "listen: [{url: \"pop3://127.0.0.1:0\", proxy-protocol: {from: 127.0.0.1}}]\n", false, "PROXY TCP4 198.51.100.7 192.0.2.1 4660 110\r\n", ""},
		{"header", "listen: [{url: \"pop3://127.0.0.1:0\", proxy-protocol: {from: 127.0.0.1}}]\n", "", false, "QUIT\r\n", ""},
	} {
		s := c.serve(upstream, tt.sick)
		if tt.first {
			c.connect(s)
		}
		conn := dialRaw(c.T, s.pop3[0])
		if _, err := io.WriteString(conn, tt.sends); err != nil {
			c.Fatal(err)
		}
		if got, _ := io.ReadAll(conn); string(got) != tt.gets { // the end may be a reset
			c.Errorf("%s: the client gets %q, want %q", tt.reason, got, tt.gets)
		}
		c.counts(s, 1, "popgate_rejected_total", `reason="`+tt.reason+`"`)
		s = c.serve(upstream, tt.cured)
		if tt.first {
			c.connect(s)
		}
		sends := ""
		if strings.Contains(tt.cured, "proxy-protocol") {
			sends = tt.sends
		}
		greeted(c.T, proxied(c.T, s.pop3[0], sends))
	}
	s := c.serve(upstream, "listen: [pop3s://127.0.0.1:0]\n")
	if got, err := io.ReadAll(proxied(c.T, s.pop3[0], "QUIT\r\n")); err == nil && strings.Contains(string(got), "+OK") {
		c.Errorf("without TLS: %q", got)
	}
	c.counts(s, 1, "popgate_rejected_total", `reason="handshake"`)
	connectTLS(c.T, s.pop3[0])
}

// oldDevice knows TLS 1.1.
func oldDevice(c *trouble) {
	upstream := "imap://" + c.server(imaptest.Full()).Addr()
	client := oldTLS(tls.VersionTLS10, tls.VersionTLS11)
	s := c.serve(upstream, "listen: [pop3s://127.0.0.1:0]\n")
	if err := tls.Client(dialRaw(c.T, s.pop3[0]), client).Handshake(); err == nil {
		c.Error("the handshake succeeded")
	}
	c.counts(s, 1, "popgate_rejected_total", `reason="handshake"`)
	c.counts(s, 0, "popgate_tls_handshakes_total")

	s = c.serve(upstream, "listen: [{url: \"pop3s://127.0.0.1:0\", legacy: {from: 127.0.0.0/8, cert: "+absolute(c.T, rsaCertFile)+", key: "+absolute(c.T, rsaKeyFile)+"}}]\n")
	var conn net.Conn = tls.Client(dialRaw(c.T, s.pop3[0]), client)
	greeted(c.T, conn).login()
	c.counts(s, 1, "popgate_tls_handshakes_total", `version="1.1"`)
}
