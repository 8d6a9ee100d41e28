package realtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// trashNames is what each server's trash mailbox is called over IMAP.
var trashNames = map[string]string{"dovecot": "Trash", "cyrus": "Trash", overJMAP: "Trash", "courier": "INBOX.Trash"}

var deletingRules = []rule{
	{name: "a_connection_that_ends_without_quit_deletes_nothing", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		p.ok(t, "DELE 1")
		p.ok(t, "DELE 4")
		p.conn.Close()
		c.login(t).ok(t, "QUIT") // the lock is free: the session is over
		c.left(t)
	}},
	{name: "rset_unmarks_all", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		p.ok(t, "DELE 1")
		p.ok(t, "RSET")
		p.ok(t, "DELE 4")
		p.ok(t, "QUIT")
		c.left(t, 4)
	}},
	{name: "every_message_can_be_deleted", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		all := make([]int, len(c.before))
		for i := range c.before {
			all[i] = i + 1
			p.ok(t, "DELE %d", i+1)
		}
		p.ok(t, "QUIT")
		c.left(t, all...)
		p = c.login(t)
		if got := p.ok(t, "STAT"); got != "+OK 0 0" {
			t.Errorf("STAT: %q", got)
		}
		p.ok(t, "QUIT")
	}},
	{name: "foreign_deleted_flag_survives", run: func(t *testing.T, c *scene) {
		c.judge.must(t, "SELECT INBOX")
		c.judge.must(t, `UID STORE %d +FLAGS.SILENT (\Deleted)`, c.before[1].uid)
		c.before[1].flags = `\Deleted`
		fifth := 5
		if c.Name == overJMAP {
			fifth = 4 // Cyrus does not show over JMAP what is flagged \Deleted
		}
		p := c.login(t)
		p.ok(t, "DELE 1")
		p.ok(t, "DELE %d", fifth)
		p.ok(t, "QUIT")
		c.left(t, 1, 5)
	}},
	{name: "delete_refuse", flags: []string{"--delete", "refuse"}, run: func(t *testing.T, c *scene) {
		p := c.login(t)
		p.refused(t, "", "DELE 1")
		p.ok(t, "QUIT")
		c.left(t)
	}},
	{name: "delete_hide", flags: []string{"--delete", "hide"}, run: func(t *testing.T, c *scene) {
		p := c.login(t)
		p.ok(t, "DELE 2")
		p.ok(t, "DELE 7")
		p.ok(t, "QUIT")
		p = c.login(t)
		if got, want := p.ok(t, "STAT"), fmt.Sprintf("+OK %d ", len(c.before)-2); !strings.HasPrefix(got, want) {
			t.Errorf("STAT of the next session: %q, want %q", got, want)
		}
		if got := p.multi(t, "RETR 2"); got != string(wireForm(c.before[2].body)) {
			t.Errorf("RETR 2 of the next session is not the third message: %.80q", got)
		}
		p.ok(t, "QUIT")
		after := c.judge.look(t, "INBOX")
		for i := range after {
			hidden := i == 1 || i == 6
			if got := strings.EqualFold(after[i].flags, "popgate-hidden"); got != hidden {
				t.Errorf("message %d has the flags (%s)", i+1, after[i].flags)
			}
			after[i].flags = ""
		}
		unchanged(t, c.before, after)
	}},
	{name: "delete_trash", flags: []string{"--delete", "trash"}, run: func(t *testing.T, c *scene) {
		if c.Name == "courier" {
			trashUnknown(t, c)
			return
		}
		trashTakes(t, c)
	}},
	{name: "delete_trash_by_name", run: func(t *testing.T, c *scene) {
		c.front = c.bench.gateway(t, c.Name, "--upstream", c.upstream(), "--delete", "trash", "--trash", trashNames[c.Name])
		trashTakes(t, c)
	}},
}

// trashTakes deletes two messages and finds them in the trash, whole.
func trashTakes(t *testing.T, c *scene) {
	t.Helper()
	p := c.login(t)
	p.ok(t, "DELE 3")
	p.ok(t, "DELE 10")
	p.ok(t, "QUIT")
	c.left(t, 3, 10)
	trash := c.judge.look(t, trashNames[c.Name])
	if len(trash) != 2 || !bytes.Equal(trash[0].body, c.before[2].body) || !bytes.Equal(trash[1].body, c.before[9].body) {
		t.Errorf("the trash holds %s", list(trash))
	}
}

// trashUnknown is Courier, which has no SPECIAL-USE: without a name the
// gateway cannot know the trash, and nothing may be removed.
func trashUnknown(t *testing.T, c *scene) {
	t.Helper()
	p := c.login(t)
	p.ok(t, "DELE 3")
	p.refused(t, "", "QUIT")
	c.left(t)
}

var upstreamRules = []rule{
	{name: "wrong_password_is_auth", run: func(t *testing.T, c *scene) {
		loginFails(t, c.front.pop3, c.user, "not the password", "AUTH")
		loginFails(t, c.front.pop3, "nobody@example.test", "x", "AUTH")
		c.login(t).ok(t, "QUIT")
	}},
	{name: "password_with_spaces_quotes_and_backslashes", run: func(t *testing.T, c *scene) {
		user, pass := lab.User(lab.Users)
		c.station.judge(t, user, pass) // Cyrus makes the mailboxes of a user at a login over IMAP
		p := login(t, c.front.pop3, user, pass)
		p.ok(t, "QUIT")
	}},
	{name: "imaps_with_the_right_authority", imap: true, run: func(t *testing.T, c *scene) {
		c.front = c.bench.gateway(t, c.Name, "--upstream", "imaps://localhost:"+portOf(c.IMAPS), "--upstream-ca", c.bench.CA())
		deletesOne(t, c)
	}},
	{name: "imaps_with_a_wrong_authority_sends_no_login", imap: true, run: func(t *testing.T, c *scene) {
		c.front = c.bench.gateway(t, c.Name, "--upstream", "imaps://localhost:"+portOf(c.IMAPS), "--upstream-ca", c.bench.OtherCA())
		c.noLogin(t)
	}},
	{name: "starttls_with_the_right_authority", imap: true, run: func(t *testing.T, c *scene) {
		c.front = c.withFile(t, c.bench.CA())
		deletesOne(t, c)
	}},
	{name: "starttls_with_a_wrong_authority_sends_no_login", imap: true, run: func(t *testing.T, c *scene) {
		c.front = c.withFile(t, c.bench.OtherCA())
		c.noLogin(t)
	}},
	{name: "connection_limit_is_temporary", imap: true, run: func(t *testing.T, c *scene) {
		c.login(t).ok(t, "QUIT")
		c.exhaust(t)
		loginFails(t, c.front.pop3, c.user, c.pass, "SYS/TEMP")
	}},
	{name: "the_same_over_imap_and_jmap", only: overJMAP, run: func(t *testing.T, c *scene) {
		overIMAP := c.bench.gateway(t, c.Name, "--upstream", "imap://"+c.IMAP)
		p := c.login(t)
		var told [2][]string
		for i, session := range []*pop{p, login(t, overIMAP.pop3, c.user, c.pass)} {
			told[i] = append(told[i], session.ok(t, "STAT"), session.multi(t, "LIST"))
			for n := range c.before {
				told[i] = append(told[i], session.multi(t, "RETR %d", n+1), session.multi(t, "TOP %d 2", n+1))
			}
			session.ok(t, "QUIT")
		}
		for k := range told[0] {
			if told[0][k] != told[1][k] {
				t.Errorf("answer %d over JMAP: %.200q\nover IMAP: %.200q", k, told[0][k], told[1][k])
			}
		}
	}},
	{name: "jmap_over_tls_with_the_right_authority", only: overJMAP, run: func(t *testing.T, c *scene) {
		c.front = c.bench.gateway(t, c.Name, "--upstream", "jmap+https://localhost:"+portOf(c.HTTPS), "--upstream-ca", c.bench.CA())
		deletesOne(t, c)
	}},
	{name: "jmap_over_tls_with_a_wrong_authority_sends_no_login", only: overJMAP, run: func(t *testing.T, c *scene) {
		c.front = c.bench.gateway(t, c.Name, "--upstream", "jmap+https://localhost:"+portOf(c.HTTPS), "--upstream-ca", c.bench.OtherCA())
		c.noLogin(t)
	}},
	{name: "stopped_upstream_is_temporary", run: func(t *testing.T, c *scene) { // the last one: the server is gone
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		loginFails(t, c.front.pop3, c.user, c.pass, "SYS/TEMP")
	}},
}

func deletesOne(t *testing.T, c *scene) {
	t.Helper()
	p := c.login(t)
	if got := p.multi(t, "RETR 1"); got != string(wireForm(c.before[0].body)) {
		t.Errorf("RETR 1: %.80q", got)
	}
	p.ok(t, "DELE 1")
	p.ok(t, "QUIT")
	c.left(t, 1)
}

// withFile starts a gateway from a configuration file, which asks for STARTTLS
// even on loopback.
func (c *scene) withFile(t *testing.T, ca string) *front {
	t.Helper()
	file := filepath.Join(c.bench.Dir(), fmt.Sprintf("starttls-%s-%d.yaml", c.Name, c.number))
	text := fmt.Sprintf("upstream:\n  url: imap://localhost:%s\n  tls: starttls\n  ca: %s\n", portOf(c.IMAP), ca)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return c.bench.gateway(t, c.Name, "--config", file)
}

// noLogin says that a login fails for now and that the server has not seen
// one. Cyrus logs to syslog alone.
func (c *scene) noLogin(t *testing.T) {
	t.Helper()
	before, err := os.ReadFile(c.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	loginFails(t, c.front.pop3, c.user, c.pass, "SYS/TEMP")
	after, err := os.ReadFile(c.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	if since := string(after[len(before):]); strings.Contains(since, c.user) {
		t.Errorf("the server has seen the user:\n%s", since)
	}
}

// exhaust opens IMAP connections of the user until the server takes no more.
func (c *scene) exhaust(t *testing.T) {
	t.Helper()
	// Runs behind the cleanups below: the server counts a connection for a
	// moment after it was closed.
	t.Cleanup(func() { c.takesConnections(t) })
	for range 100 {
		conn, greeting, err := imapDial(c.IMAP)
		if err != nil {
			t.Fatal(err)
		}
		if conn == nil || !strings.HasPrefix(greeting, "* OK") {
			t.Logf("the server hangs up: %q", greeting)
			return
		}
		_, status, err := conn.do("LOGIN %q %q", c.user, c.pass)
		if err != nil || !strings.HasPrefix(status, "OK") {
			conn.conn.Close()
			t.Logf("the server refuses: %q, %v", status, err)
			return
		}
		t.Cleanup(func() { conn.conn.Close() })
	}
	t.Fatal("the server knows no limit")
}

// takesConnections waits until the server greets again.
func (c *scene) takesConnections(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(imapTimeout); time.Now().Before(deadline); <-tick.C {
		if conn, _, err := imapDial(c.IMAP); err == nil && conn != nil {
			conn.conn.Close()
			return
		}
	}
	t.Errorf("%s takes no connections %v after they were closed", c.Name, imapTimeout)
}
