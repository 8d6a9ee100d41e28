package realtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// A rule is something that the gateway promises over every server. It runs
// with a gateway of its own if it names flags, else with one that has the
// defaults.
type rule struct {
	name  string
	flags []string
	only  string // "" or the one server that it is about
	imap  bool   // it is about IMAP, and not about JMAP
	run   func(t *testing.T, r *scene)
}

// A scene is a rule's server, gateway and user.
type scene struct {
	*station
	front      *front
	user, pass string
	number     int
	before     []stored
	judge      *imapConn
}

// What popgate promises with each server, spoken over POP3 and judged over
// IMAP.
func TestRules(t *testing.T) {
	for _, server := range servers {
		t.Run(server, func(t *testing.T) {
			b := newBench(t, "what popgate promises over "+server)
			if b.front != "" {
				t.Skip("these are rules of the gateway, which is not the front end here")
			}
			report.guard(t, server, "", "")
			t.Parallel()
			s := b.start(t, server)
			defaults := b.gateway(t, server, "--upstream", s.upstream())
			for _, r := range slices.Concat(readingRules, deletingRules, upstreamRules) {
				if r.only != "" && r.only != server || r.imap && server == overJMAP {
					continue
				}
				report.leaf(t, server, "rules", "", r.name, func(t *testing.T) {
					front := defaults
					if r.flags != nil {
						front = b.gateway(t, server, append([]string{"--upstream", s.upstream()}, r.flags...)...)
					}
					defer func() {
						if t.Failed() {
							t.Logf("gateway:\n%s", front.tail())
						}
					}()
					r.run(t, s.scene(t, front))
				})
			}
			report.progress(server, "rules")
		})
	}
}

// scene gives a rule a user with the message set in INBOX.
func (s *station) scene(t *testing.T, f *front) *scene {
	t.Helper()
	c := &scene{station: s, front: f}
	c.user, c.pass, c.number = s.account(t)
	c.judge = s.judge(t, c.user, c.pass)
	c.judge.deliver(t, messageSet(c.user)...)
	c.before = c.judge.look(t, "INBOX")
	return c
}

func (c *scene) login(t *testing.T) *pop { return login(t, c.front.pop3, c.user, c.pass) }

// left checks what INBOX holds: the messages of before without these numbers.
func (c *scene) left(t *testing.T, without ...int) {
	t.Helper()
	var want []stored
	for i, m := range c.before {
		if !slices.Contains(without, i+1) {
			want = append(want, m)
		}
	}
	unchanged(t, want, c.judge.look(t, "INBOX"))
}

var readingRules = []rule{
	{name: "retr_and_top_set_no_seen_flag", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		for i := range c.before {
			p.multi(t, "RETR %d", i+1)
			p.multi(t, "TOP %d 3", i+1)
		}
		p.ok(t, "QUIT")
		c.left(t)
	}},
	{name: "seen_retr_marks_what_was_retrieved_at_quit", flags: []string{"--seen", "retr"}, run: func(t *testing.T, c *scene) {
		p := c.login(t)
		p.multi(t, "RETR 1")
		p.multi(t, "TOP 2 0")
		p.multi(t, "RETR 3")
		p.ok(t, "DELE 3")
		c.left(t) // before QUIT nothing has happened
		p.ok(t, "QUIT")
		c.before[0].flags = `\Seen`
		c.left(t, 3)
	}},
	{name: "sizes_are_the_servers_and_the_octets_of_retr", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		total := 0
		for i, m := range c.before {
			total += len(m.body)
			if got, want := p.ok(t, "LIST %d", i+1), fmt.Sprintf("+OK %d %d", i+1, len(m.body)); got != want {
				t.Errorf("LIST %d: %q, want %q", i+1, got, want)
			}
			if got := p.multi(t, "RETR %d", i+1); got != string(wireForm(m.body)) {
				t.Errorf("RETR %d: %d octets, which are not the message's %d", i+1, len(got), len(m.body))
			}
		}
		if got, want := p.ok(t, "STAT"), fmt.Sprintf("+OK %d %d", len(c.before), total); got != want {
			t.Errorf("STAT: %q, want %q", got, want)
		}
		p.ok(t, "QUIT")
	}},
	{name: "top_counts_body_lines", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		for i, m := range c.before {
			for _, lines := range []int{0, 1, 2, 1000000} {
				if got, want := p.multi(t, "TOP %d %d", i+1, lines), topOf(m.body, lines); got != want {
					t.Errorf("TOP %d %d: %d octets, want %d", i+1, lines, len(got), len(want))
				}
			}
		}
		p.ok(t, "QUIT")
	}},
	{name: "unique_ids_stay_over_sessions", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		first := p.multi(t, "UIDL")
		p.ok(t, "DELE 2")
		p.ok(t, "QUIT")
		p = c.login(t)
		want, n := "", 0
		for i, line := range strings.Split(strings.TrimSuffix(first, "\r\n"), "\r\n") {
			if i+1 != 2 {
				n++
				want += fmt.Sprintf("%d %s\r\n", n, strings.Fields(line)[1])
			}
		}
		if got := p.multi(t, "UIDL"); got != want {
			t.Errorf("UIDL in the second session:\n%swant\n%s", got, want)
		}
		p.ok(t, "QUIT")
	}},
	{name: "mail_that_arrives_renumbers_nothing", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		stat, listing, uidl := p.ok(t, "STAT"), p.multi(t, "LIST"), p.multi(t, "UIDL")
		c.judge.deliver(t, newMessage(c.user, "newcomer", 90, "", "new\r\n"))
		p.ok(t, "NOOP")
		if p.ok(t, "STAT") != stat || p.multi(t, "LIST") != listing || p.multi(t, "UIDL") != uidl {
			t.Error("the maildrop changed while the session lived")
		}
		if got := p.multi(t, "RETR 3"); got != string(wireForm(c.before[2].body)) {
			t.Errorf("RETR 3 is another message: %.80q", got)
		}
		p.refused(t, "", "RETR %d", len(c.before)+1)
		p.ok(t, "DELE 3")
		p.ok(t, "QUIT")
		after := c.judge.look(t, "INBOX")
		if len(after) != len(c.before) {
			t.Fatalf("%d messages, want %d", len(after), len(c.before))
		}
		newcomer := after[len(after)-1]
		c.before = append(c.before, newcomer)
		c.left(t, 3)
		p = c.login(t)
		if got := p.multi(t, "RETR %d", len(after)); got != string(newcomer.body) {
			t.Errorf("the next session shows %.80q at its end", got)
		}
		p.ok(t, "QUIT")
	}},
	{name: "mail_that_goes_keeps_its_number_and_is_an_error", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		c.judge.must(t, "SELECT INBOX")
		c.judge.must(t, `UID STORE %d +FLAGS.SILENT (\Deleted)`, c.before[1].uid)
		c.judge.must(t, "UID EXPUNGE %d", c.before[1].uid)
		p.ok(t, "NOOP")
		// RFC 2180 section 4.1.2 lets a server go on giving what it had; if it
		// does not, the gateway says so and makes nothing up.
		if reply := p.ask(t, "RETR 2"); strings.HasPrefix(reply, "+OK") {
			if got := p.rest(t); got != string(wireForm(c.before[1].body)) {
				t.Errorf("RETR 2, which is gone: %q and %.400q", reply, got)
			}
		} else if !strings.HasPrefix(reply, "-ERR") {
			t.Errorf("RETR 2, which is gone: %q", reply)
		}
		if got := p.multi(t, "RETR 3"); got != string(wireForm(c.before[2].body)) {
			t.Errorf("RETR 3 is another message: %.80q", got)
		}
		p.ok(t, "DELE 2") // gone already: QUIT has nothing to complain of
		p.ok(t, "DELE 3")
		p.ok(t, "QUIT")
		c.left(t, 2, 3)
	}},
	{name: "fetchmail_keep_without_uidl_fetches_once", run: func(t *testing.T, c *scene) {
		tap := newTap(t, c.front.pop3)
		v := newVisit(t, c.station, "fetchmail-without-uidl", plain, tap.addr, c.user, c.pass)
		sameMessages(t, messageSet(c.user), fetchmailForm, runFetchmail(t, v, "", "keep"))
		tap.transcript()
		if again := runFetchmail(t, v, "", "keep"); len(again) != 0 {
			t.Errorf("fetched %d messages again", len(again))
		}
		if text := tap.transcript(); !strings.Contains(text, "C: LAST") || len(bodiesAsked(text)) != 0 {
			t.Errorf("the second visit:\n%s", text)
		}
		c.left(t)
	}},
	{name: "last_is_an_error", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		p.refused(t, "", "LAST")
		p.ok(t, "QUIT")
	}},
	{name: "maildrop_is_locked_for_one_session", run: func(t *testing.T, c *scene) {
		p := c.login(t)
		second := dialPOP(t, c.front.pop3)
		second.ok(t, "USER %s", c.user)
		second.refused(t, "IN-USE", "PASS %s", c.pass)
		p.ok(t, "QUIT")
		c.login(t).ok(t, "QUIT")
	}},
	{name: "courier_unique_ids_stay_before_any_select", only: "courier", run: courierUniqueIDs},
	{name: "courier_deletes_what_was_listed", only: "courier", run: courierDeletes},
}

// topOf is what TOP has to answer: the header, the empty line and n lines of
// the body (RFC 1939 section 7).
func topOf(octets []byte, n int) string {
	head, body, ok := bytes.Cut(octets, []byte("\r\n\r\n"))
	if !ok {
		return string(wireForm(octets))
	}
	var b strings.Builder
	b.Write(head)
	b.WriteString("\r\n\r\n")
	for line := range bytes.Lines(wireForm(body)) {
		if n == 0 || len(body) == 0 {
			break
		}
		b.Write(line)
		n--
	}
	return b.String()
}

// drop puts a message into the user's Maildir as a delivery agent would. The
// file's name decides its place: Courier numbers new mail by name.
func (c *scene) drop(t *testing.T, name string) message {
	t.Helper()
	m := newMessage(c.user, "dropped_"+name, 80, "", name+"\r\n")
	if err := c.station.drop(c.number, name, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// drop delivers to the Maildir of user n, under a file name.
func (s *station) drop(n int, name string, m message) error {
	folder := filepath.Join(s.bench.Dir(), s.Name, "mail", fmt.Sprintf("user%d", n), "Maildir")
	file := filepath.Join(folder, "tmp", name)                          // where no server looks
	if err := os.WriteFile(file, lfForm(m.octets), 0o644); err != nil { // Maildir keeps LF
		return err
	}
	if err := os.Chown(file, lab.MailUser, lab.MailUser); err != nil {
		return err
	}
	return os.Rename(file, filepath.Join(folder, "new", name))
}

// subjects are the Subject lines of messages.
func subjects(all [][]byte) []string {
	var out []string
	for _, m := range all {
		_, rest, _ := bytes.Cut(m, []byte("Subject: "))
		subject, _, _ := bytes.Cut(rest, []byte("\r\n"))
		out = append(out, string(subject))
	}
	return out
}

// Courier's EXAMINE writes neither UIDVALIDITY nor UIDs down. In a mailbox that
// nobody has selected yet both are made up at every EXAMINE, the UIDVALIDITY
// from the clock. A POP3 session must fix them before it shows them.
func courierUniqueIDs(t *testing.T, c *scene) {
	c.user, c.pass, c.number = c.account(t)
	c.drop(t, "1700000200.M1P1.host")
	first := c.login(t)
	uidl := first.multi(t, "UIDL")
	first.ok(t, "QUIT")
	time.Sleep(1100 * time.Millisecond) // the server's clock has seconds
	c.drop(t, "1700000100.M1P1.host")
	second := c.login(t)
	again := second.multi(t, "UIDL")
	second.ok(t, "QUIT")
	id := strings.Fields(uidl)
	if len(id) != 2 {
		t.Fatalf("UIDL: %q", uidl)
	}
	n := 0
	for line := range strings.Lines(again) {
		if f := strings.Fields(line); len(f) == 2 && f[1] == id[1] {
			third := c.login(t)
			if got := third.multi(t, "RETR %s", f[0]); !strings.Contains(got, "dropped_1700000200") {
				t.Errorf("unique-id %s now means another message: %.120q", id[1], got)
			}
			third.ok(t, "QUIT")
			n++
		}
	}
	if n != 1 {
		t.Errorf("unique-id of the first session is in the second %d times:\n%s%s", n, uidl, again)
	}
}

// A message that EXAMINE showed under a UID may have another one at the SELECT
// of UPDATE, if a message with an older name arrived in between: the mark must
// not remove that one.
func courierDeletes(t *testing.T, c *scene) {
	marked := c.drop(t, "1700000200.M1P1.host")
	p := c.login(t)
	n := len(c.before) + 1
	shown := strings.Contains(p.multi(t, "LIST"), fmt.Sprintf("\r\n%d ", n))
	if !shown {
		t.Fatal("delivered mail is not shown")
	}
	innocent := c.drop(t, "1700000100.M1P1.host")
	p.ok(t, "DELE %d", n)
	quit := p.ask(t, "QUIT")
	var left [][]byte
	for _, m := range c.judge.look(t, "INBOX") {
		left = append(left, m.body)
	}
	has := func(m message) bool {
		return slices.ContainsFunc(left, func(b []byte) bool { return bytes.Equal(b, m.octets) })
	}
	if !has(innocent) {
		t.Errorf("a message that was never marked is gone (QUIT: %q); left are %q", quit, subjects(left))
	}
	if strings.HasPrefix(quit, "+OK") && has(marked) {
		t.Errorf("QUIT: %q, but the marked message is still there", quit)
	}
}
