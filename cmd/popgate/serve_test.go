package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
)

func TestServeReadsAndDeletes(t *testing.T) {
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 3), "--metrics", "127.0.0.1:0", "--log-level", "debug")

	c := connect(t, s.pop3[0])
	if capa := c.list("CAPA"); !strings.Contains(capa, "UIDL\r\n") || !strings.Contains(capa, "EXPIRE NEVER\r\n") || strings.Contains(capa, "STLS") {
		t.Errorf("CAPA: %q", capa)
	}
	c.login()
	c.do("STAT", fmt.Sprintf("+OK 3 %d", len(message(1)+message(2)+message(3))))
	before := strings.Split(c.list("UIDL"), "\r\n")
	for n := 1; n <= 3; n++ {
		if got := c.list(fmt.Sprintf("RETR %d", n)); got != message(n) {
			t.Errorf("RETR %d: %q, want %q", n, got, message(n))
		}
	}
	c.do("DELE 2", "+OK")
	c.do("DELE 1", "+OK")
	c.do("RSET", "+OK")
	c.do("DELE 2", "+OK")
	c.do("QUIT", "+OK")
	c.ended()

	c = connect(t, s.pop3[0])
	c.login()
	c.do("STAT", "+OK 2 ")
	after := c.list("UIDL")
	if want := strings.TrimPrefix(before[0], "1 "); !strings.Contains(after, "1 "+want+"\r\n") {
		t.Errorf("unique-ids before %q, after %q", before, after)
	}
	c.do("DELE 1", "+OK")
	c.conn.Close() // without QUIT: nothing is removed

	c = connect(t, s.pop3[0])
	c.login()
	c.do("STAT", "+OK 2 ")
	c.do("QUIT", "+OK")
	c.ended()

	if status, _ := s.get(t, "/-/ready"); status != 200 {
		t.Errorf("/-/ready: %d, want 200", status)
	}
	s.wantMetrics(t,
		`popgate_sessions 0`,
		`popgate_deletions_total{outcome="marked"} 4`,
		`popgate_deletions_total{outcome="reset"} 2`,
		`popgate_deletions_total{outcome="abandoned"} 1`,
		`popgate_deletions_total{outcome="removed"} 1`,
		`popgate_retrieved_messages_total 3`,
		fmt.Sprintf(`popgate_retrieved_bytes_total %d`, len(message(1)+message(2)+message(3))),
		`popgate_commands_total{command="DELE",status="ok"} 4`,
		`popgate_open_duration_seconds_count 3`,
		`popgate_upstream_listings_total{how="full",upstream="upstream"} 1`,
		`popgate_upstream_listings_total{how="unchanged",upstream="upstream"} 2`,
		`popgate_upstream_connections{upstream="upstream"} 0`,
	)
	if _, body := s.get(t, "/metrics"); strings.Contains(own(body), `"other"`) {
		t.Errorf("a label value is in no closed set:\n%s", own(body))
	}
	s.stop()
	if code := s.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A connection that waited serves the next session, and is gone when the service
// has ended.
func TestServeReusesConnections(t *testing.T) {
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 3), "--metrics", "127.0.0.1:0",
		"--config", writeConfig(t, "upstream: {reuse: 1m}\n"))
	for _, delete := range []string{"DELE 1", "DELE 2"} {
		c := connect(t, s.pop3[0])
		c.login()
		c.do(delete, "+OK")
		c.do("QUIT", "+OK")
		c.ended()
	}
	c := connect(t, s.pop3[0])
	c.do("USER alice", "+OK")
	c.do("PASS wrong", "-ERR [AUTH]")
	c.do("USER alice", "+OK")
	c.do("PASS "+canary, "+OK")
	c.do("STAT", "+OK 1 ")
	c.do("QUIT", "+OK")
	c.ended()
	s.wantMetrics(t,
		`popgate_sessions 0`,
		`popgate_upstream_connections{upstream="upstream"} 1`,
		`popgate_upstream_reused_total{upstream="upstream"} 2`,
		`popgate_upstream_requests_total{op="connect",result="ok",upstream="upstream"} 2`,
		`popgate_upstream_requests_total{op="login",result="ok",upstream="upstream"} 1`,
	)
	s.stop()
	if code := s.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// wantMetrics waits until each line is among the metrics: what a session ends
// with is counted when its client may have gone already.
func (s *service) wantMetrics(t *testing.T, lines ...string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		_, body := s.get(t, "/metrics")
		var missing []string
		for _, line := range lines {
			if !strings.Contains(body, "\n"+line+"\n") {
				missing = append(missing, line)
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the metrics lack %q:\n%s", missing, own(body))
			return
		}
	}
}

// own leaves out what is zero, and what is not ours.
func own(body string) string {
	var b strings.Builder
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "popgate_") && !strings.HasSuffix(line, " 0\n") && !strings.Contains(line, "_bucket") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestServeTellsFailedLoginsApart(t *testing.T) {
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := down.Addr().String()
	down.Close()
	for _, tt := range []struct{ name, upstream, password, want string }{
		{"a_wrong_password", imapServer(t, 1), "wrong", "-ERR [AUTH]"},
		{"an_upstream_that_is_down", nobody, canary, "-ERR [SYS/TEMP]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+tt.upstream)
			c := connect(t, s.pop3[0])
			c.do("USER alice", "+OK")
			c.do("PASS "+tt.password, tt.want)
		})
	}
}

func TestServeWithTLS(t *testing.T) {
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--listen", "pop3s://127.0.0.1:0", "--tls-cert", certFile, "--tls-key", keyFile,
		"--upstream", "imap://"+imapServer(t, 1), "--metrics", "127.0.0.1:0")

	c := connect(t, s.pop3[0])
	if capa := c.list("CAPA"); !strings.Contains(capa, "STLS\r\n") {
		t.Errorf("CAPA before STLS: %q", capa)
	}
	c.stls()
	if capa := c.list("CAPA"); strings.Contains(capa, "STLS") {
		t.Errorf("CAPA after STLS: %q", capa)
	}
	c.login()
	c.do("QUIT", "+OK")

	c = connectTLS(t, s.pop3[1])
	c.login()
	if got := c.list("RETR 1"); got != message(1) {
		t.Errorf("RETR 1: %q", got)
	}
	c.do("QUIT", "+OK")

	for _, tt := range []struct {
		name   string
		change func(*tls.Config)
	}{
		{"another_protocol", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
		{"too_old_a_version", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := clientTLSConfig(t)
			tt.change(config)
			if conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.pop3[1], config); err == nil {
				conn.Close()
				t.Error("the handshake succeeded")
			}
		})
	}
	s.wantMetrics(t, `popgate_rejected_total{reason="handshake"} 2`)
}

// recorded keeps what came through a connection.
type recorded struct {
	net.Conn
	got bytes.Buffer
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.got.Write(p[:n])
	return n, err
}

// records counts the TLS records of data, and forgets them.
func (r *recorded) records() (n int) {
	const applicationData = 23
	for r.got.Len() >= 5 {
		header := r.got.Next(5)
		if header[0] == applicationData {
			n++
		}
		r.got.Next(int(header[3])<<8 | int(header[4]))
	}
	return n
}

// Each record is one write to the system.
func TestServeSendsAMessageInOneRecord(t *testing.T) {
	const n = 600 // of 10 kB
	s := serve(t, "--listen", "pop3s://127.0.0.1:0", "--tls-cert", certFile, "--tls-key", keyFile, "--upstream", "imap://"+imapServer(t, n))
	conn, err := net.DialTimeout("tcp", s.pop3[0], patience)
	if err != nil {
		t.Fatal(err)
	}
	raw := &recorded{Conn: conn}
	c := greeted(t, tls.Client(raw, clientTLSConfig(t)))
	c.login()
	raw.records()
	if got := c.list(fmt.Sprintf("RETR %d", n)); got != message(n) {
		t.Errorf("RETR %d: %q", n, got)
	}
	if got := raw.records(); got != 1 {
		t.Errorf("the message came in %d records", got)
	}
	c.do("QUIT", "+OK")
}

func TestServeDeletesAsItIsTold(t *testing.T) {
	for _, tt := range []struct {
		name         string
		flags        string
		dele         string
		pop3         string // STAT of the next session
		inbox, trash int    // messages that another program sees
	}{
		{"expunge", "--delete expunge", "+OK", "+OK 1 ", 1, 0},
		{"trash", "--delete trash --trash Trash", "+OK", "+OK 1 ", 1, 1},
		{"hide", "--delete hide", "+OK", "+OK 1 ", 2, 0},
		{"refuse", "--delete refuse", "-ERR", "+OK 2 ", 2, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream := imapServer(t, 2)
			s := serve(t, append([]string{"--listen", "pop3://127.0.0.1:0", "--upstream", "imap://" + upstream}, strings.Fields(tt.flags)...)...)
			c := connect(t, s.pop3[0])
			c.login()
			c.do("DELE 1", tt.dele)
			c.do("QUIT", "+OK")
			c = connect(t, s.pop3[0])
			c.login()
			c.do("STAT", tt.pop3)
			c.do("QUIT", "+OK")
			inbox, _ := imapView(t, upstream, "INBOX")
			trash, _ := imapView(t, upstream, "Trash")
			if inbox != tt.inbox || trash != tt.trash {
				t.Errorf("INBOX has %d messages, Trash %d; want %d and %d", inbox, trash, tt.inbox, tt.trash)
			}
		})
	}
}

func TestServeMarksAsRead(t *testing.T) {
	for _, tt := range []struct {
		seen string
		want int
	}{{"no", 0}, {"retr", 1}} {
		t.Run(tt.seen, func(t *testing.T) {
			upstream := imapServer(t, 3)
			s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+upstream, "--seen", tt.seen)
			c := connect(t, s.pop3[0])
			c.login()
			c.list("RETR 2")
			c.list("TOP 3 0")
			c.do("QUIT", "+OK")
			if _, seen := imapView(t, upstream, "INBOX"); seen != tt.want {
				t.Errorf("%d messages are read, want %d", seen, tt.want)
			}
		})
	}
}

func TestServeTellsRetention(t *testing.T) {
	for _, tt := range []struct{ expire, want string }{
		{"never", "EXPIRE NEVER\r\n"}, {"30", "EXPIRE 30\r\n"}, {"0", "EXPIRE 0\r\n"}, {"omit", ""},
	} {
		t.Run(tt.expire, func(t *testing.T) {
			s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://127.0.0.1:1", "--config", writeConfig(t, "expire: "+tt.expire+"\n"))
			capa := connect(t, s.pop3[0]).list("CAPA")
			if !strings.Contains(capa, tt.want) || tt.want == "" && strings.Contains(capa, "EXPIRE") {
				t.Errorf("CAPA: %q, want %q", capa, tt.want)
			}
		})
	}
}

func TestServeLimitsConnections(t *testing.T) {
	for _, tt := range []struct{ name, limits, reason string }{
		{"in_all", "{connections: 1}", "connections"},
		{"of_an_address", "{connections-per-address: 1, count-loopback: yes}", "address"},
		{"by_rate", "{rate-per-address: 1, count-loopback: yes}", "rate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://127.0.0.1:1", "--metrics", "127.0.0.1:0",
				"--config", writeConfig(t, "limits: "+tt.limits+"\n"))
			first := connect(t, s.pop3[0])
			conn, err := net.DialTimeout("tcp", s.pop3[0], patience)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetReadDeadline(time.Now().Add(patience))
			if got, err := io.ReadAll(conn); string(got) != busy || err != nil {
				t.Errorf("the second connection gets %q, %v; want %q", got, err, busy)
			}
			first.do("QUIT", "+OK")
			s.wantMetrics(t, fmt.Sprintf("popgate_rejected_total{reason=%q} 1", tt.reason))
		})
	}
}

func TestServeLocksTheMaildrop(t *testing.T) {
	upstream := imapServer(t, 1)
	for _, tt := range []struct{ name, lock, want string }{
		{"exclusive", "{wait: 0s}", "-ERR [IN-USE]"},
		{"set_off", "{enabled: no}", "+OK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+upstream, "--config", writeConfig(t, "lock: "+tt.lock+"\n"))
			first := connect(t, s.pop3[0])
			first.login()
			second := connect(t, s.pop3[0])
			second.do("USER alice", "+OK")
			second.do("PASS "+canary, tt.want)
		})
	}
}

// On SIGTERM a session may go on to its QUIT, and the QUIT is carried out.
func TestServeDrains(t *testing.T) {
	upstream := imapServer(t, 2)
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+upstream, "--metrics", "127.0.0.1:0", "--drain", "1m")
	c := connect(t, s.pop3[0])
	c.login()
	c.do("DELE 1", "+OK")
	s.stop()
	deadline := time.Now().Add(patience)
	for {
		status, _ := s.get(t, "/-/ready")
		if status == 503 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("/-/ready: %d while draining, want 503", status)
		}
	}
	if status, _ := s.get(t, "/-/healthy"); status != 200 {
		t.Errorf("/-/healthy: %d while draining, want 200", status)
	}
	if conn, err := net.DialTimeout("tcp", s.pop3[0], patience); err == nil {
		conn.Close()
		t.Error("a new connection is accepted while draining")
	}
	c.do("STAT", "+OK 1 ")
	c.do("QUIT", "+OK")
	c.ended()
	if code := s.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// When the drain time is over, sessions are told so, and nothing is deleted.
func TestServeCutsSessionsAfterTheDrainTime(t *testing.T) {
	upstream := imapServer(t, 2)
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+upstream, "--drain", "0s")
	c := connect(t, s.pop3[0])
	c.login()
	c.do("DELE 1", "+OK")
	s.stop()
	c.expect("-ERR [SYS/TEMP]")
	c.ended()
	if code := s.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}

	s = serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+upstream)
	c = connect(t, s.pop3[0])
	c.login()
	c.do("STAT", "+OK 2 ")
}

func TestDemo(t *testing.T) {
	for _, args := range [][]string{{"demo", "--once"}, {"demo", "--once", "--jmap"}} {
		t.Run(strings.Join(args, "_"), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), args, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
				t.Fatalf("popgate %q = %d\n%s\n%s", args, code, &stdout, &stderr)
			}
			for _, want := range []string{"C: CAPA\n", "C: RETR 7\n", "S: .\n", "C: DELE 2\n", "C: QUIT\n"} {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("the dialogue lacks %q:\n%s", want, &stdout)
				}
			}
		})
	}
}

func TestServeLimitsMailboxes(t *testing.T) {
	upstream := imapServer(t, 2)
	for _, tt := range []struct{ name, limits, want string }{
		{"too_many_octets", "{mailbox-octets: 10}", "-ERR [SYS/PERM]"},
		{"too_many_messages", "{mailbox-messages: 1}", "-ERR [SYS/PERM]"},
		{"no_limit", "{mailbox-messages: none, mailbox-octets: none}", "+OK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+upstream,
				"--config", writeConfig(t, "limits: "+tt.limits+"\n"))
			c := connect(t, s.pop3[0])
			c.do("USER alice", "+OK")
			c.do("PASS "+canary, tt.want)
		})
	}
}

// A connection whose two ends are not loopback addresses, as those of a pipe,
// can log in only where the configuration says so.
func TestClearTextLoginOnlyInWords(t *testing.T) {
	for _, tt := range []struct{ where, want string }{{"loopback", "-ERR"}, {"anywhere", "+OK"}} {
		t.Run(tt.where, func(t *testing.T) {
			cfg, err := config.Load("", config.Flags{"listen": {"pop3://127.0.0.1:0"}, "upstream": {"imap://127.0.0.1:1"},
				"clear-text-login": {tt.where}})
			if err != nil {
				t.Fatal(err)
			}
			log := slog.New(slog.DiscardHandler)
			m := metrics.New(metrics.Build{}, labelSets(cfg))
			r, err := newRouting(cfg, proofs{}, nil, nil, m, log)
			if err != nil {
				t.Fatal(err)
			}
			e, err := newEngine(cfg, wrapped(cfg, r.store, nil, m), nil, make([]*tls.Config, 1), m, log)
			if err != nil {
				t.Fatal(err)
			}
			l := e.listener(0, "pipe", cfg.Listen[0])
			client, server := net.Pipe()
			done := make(chan struct{})
			go func() { defer close(done); l.Handler(t.Context(), server) }()
			c := greeted(t, client)
			if capa := c.list("CAPA"); strings.Contains(capa, "USER\r\n") != (tt.want == "+OK") {
				t.Errorf("CAPA: %q", capa)
			}
			c.do("USER alice", tt.want)
			client.Close()
			<-done
		})
	}
}

func TestServeLimitsGuessesAndLogins(t *testing.T) {
	config := writeConfig(t, "throttle: {guesses: 1, regain: 1h, delay: 0s, count-loopback: true}\nlimits: {login-delay: 1h}\n")
	s := serve(t, "--config", config, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 1), "--metrics", "127.0.0.1:0")
	c := connect(t, s.pop3[0])
	if capa := c.list("CAPA"); !strings.Contains(capa, "LOGIN-DELAY 3600\r\n") {
		t.Errorf("CAPA: %q", capa)
	}
	c.login() // and is known from here on
	second := connect(t, s.pop3[0])
	second.do("USER alice", "+OK")
	second.do("PASS "+canary, "-ERR [LOGIN-DELAY]") // before the lock
	guesser := connect(t, s.pop3[0])
	for _, user := range []string{"bob", "carol"} {
		guesser.do("USER "+user, "+OK")
		guesser.do("PASS wrong", "-ERR [AUTH]")
	}
	s.wantMetrics(t, `popgate_throttled_total{by="address"} 1`)
	c.do("QUIT", "+OK")
}
