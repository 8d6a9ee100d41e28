package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

// The gateway over JMAP, from the flags to the mailbox, under each policy.
func TestServeOverJMAP(t *testing.T) {
	for _, tt := range []struct {
		policy        string
		inbox, trash  int // messages that another program sees
		pop3          string
		dele, removed string
	}{
		{"expunge", 1, 0, "+OK 1 ", "+OK", "1"},
		{"trash", 1, 1, "+OK 1 ", "+OK", "1"},
		{"hide", 2, 0, "+OK 1 ", "+OK", "1"},
		{"refuse", 2, 0, "+OK 2 ", "-ERR", "0"},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			server := jmaptest.New(t, jmaptest.Options{TCP: true})
			for n := 1; n <= 2; n++ {
				server.Deliver([]byte(message(n)))
			}
			at, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "jmap+http://"+at.Host, "--delete", tt.policy,
				"--seen", "retr", "--metrics", "127.0.0.1:0")
			login := func() *popClient {
				c := connect(t, s.pop3[0])
				c.do("USER "+jmaptest.User, "+OK")
				c.do("PASS "+jmaptest.Password, "+OK")
				return c
			}
			c := connect(t, s.pop3[0])
			c.do("USER "+jmaptest.User, "+OK")
			c.do("PASS "+canary, "-ERR [AUTH]")
			c = login()
			if got := c.list("RETR 2"); got != message(2) {
				t.Errorf("RETR 2: %q, want %q", got, message(2))
			}
			c.do("DELE 1", tt.dele)
			c.do("QUIT", "+OK")
			c = login()
			c.do("STAT", tt.pop3)
			c.do("QUIT", "+OK")
			if inbox, trash := len(server.Emails(jmaptest.Inbox)), len(server.Emails(jmaptest.Trash)); inbox != tt.inbox || trash != tt.trash {
				t.Errorf("the inbox has %d messages, the trash %d; want %d and %d", inbox, trash, tt.inbox, tt.trash)
			}
			for _, e := range server.Emails(jmaptest.Inbox) {
				if e.Keywords["$seen"] != (string(e.Body) == message(2)) {
					t.Errorf("%.30q is marked %v", e.Body, e.Keywords)
				}
			}
			s.wantMetrics(t, `popgate_deletions_total{outcome="removed"} `+tt.removed,
				`popgate_upstream_requests_total{op="login",result="refused",upstream="upstream"} 1`,
				`popgate_upstream_requests_total{op="fetch",result="ok",upstream="upstream"} 1`)
			if _, text := s.get(t, "/metrics"); strings.Contains(text, `op="other"`) || strings.Contains(text, `op="expunge"`) {
				t.Error("the requests are not those of the store")
			}
			if strings.Contains(s.log.String(), jmaptest.Password) {
				t.Error("the log holds the password")
			}
		})
	}
}
