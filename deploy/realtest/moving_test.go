package realtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// moving compares the unique-ids of Dovecot's own POP3 with those of the gateway, as
// the page does; then fetchmail, which knows the mail from there, finds nothing new
// here.
func (s *site) moving(t *testing.T, blocks []string) {
	s.serve(t, s.front, blocks[0])
	var said string
	for line := range strings.Lines(blocks[1]) {
		said += s.shell(t, line, s.pass+"\n") // each asks anew
	}
	ids, err := os.ReadFile(filepath.Join(s.dir, "before"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said, "the same") || strings.Count(string(ids), "\n") < len(s.set) {
		t.Errorf("%s\n%s", said, ids)
	}

	v := s.home(t, s.POP3)
	inbox := filepath.Join(v.dir, "Mail", "new")
	poll := func(addr string, allowed ...int) []string {
		v.write(t, ".fetchmailrc", "poll old via 127.0.0.1 protocol pop3 port "+portOf(addr)+" uidl user \""+s.user+"\" password \""+s.pass+"\" sslproto '' keep\n")
		v.ordinary(t, allowed, "fetchmail", "--nodetach", "--nosyslog", "--mda", "f=$(mktemp "+inbox+"/m.XXXXXX) && cat >$f")
		return s.arrivals(t, v, inbox)
	}
	const noMail = 1
	s.allOf(t, poll(s.POP3))
	if again := poll(s.front.pop3, noMail); len(again) != 0 {
		t.Errorf("fetched again from the gateway: %q", again)
	}
	s.front.stop(t)
	s.serve(t, s.front, strings.Replace(blocks[0], `, unique-ids: "%08Xu%08Xv"`, "", 1))
	s.allOf(t, poll(s.front.pop3)) // what the form is for
}

// movingInAWindow shows what came lately, and leaves the rest alone.
func (s *site) movingInAWindow(t *testing.T, blocks []string) {
	s.serve(t, s.front, blocks[0])
	before := s.judge.look(t, "INBOX")
	for name, received := range map[string]time.Time{"earlier": time.Now().AddDate(-1, 0, 0), "later": time.Now()} {
		if err := s.judge.addAt(newMessage(s.user, name, 91, "", "text\r\n"), received); err != nil {
			t.Fatal(err)
		}
	}
	p := login(t, s.front.pop3, s.user, s.pass)
	var seen string
	for n := strings.Count(p.multi(t, "UIDL"), "\n"); n > 0; n-- {
		seen += p.multi(t, "TOP %d 0", n)
	}
	p.ok(t, "QUIT")
	if strings.Contains(seen, "earlier") || !strings.Contains(seen, "later") {
		t.Errorf("the window shows\n%s", seen)
	}
	if after := s.judge.look(t, "INBOX"); len(after) != len(before)+2 {
		t.Errorf("the mailbox has %d messages, and had %d", len(after), len(before))
	}
}

// Cyrus' own POP3 and the gateway show the same unique-ids in the form that both
// have unless told otherwise.
func TestCyrusHasTheSameUniqueIDs(t *testing.T) {
	b := newBench(t, "unique-ids beside Cyrus' own POP3")
	if b.front != "" {
		t.Skip("these are rules of the gateway, which is not the front end here")
	}
	report.guard(t, "cyrus", "", "")
	s := b.start(t, "cyrus")
	if s.POP3 == "" {
		t.Skip("Cyrus has no POP3 service of its own here")
	}
	user, pass := lab.User(5)
	openIMAP(t, s.IMAP, user, pass).deliver(t, messageSet(user)...)
	f := b.gateway(t, "moving", "--upstream", "imap://"+s.IMAP)
	report.leaf(t, "cyrus", "moving", "", "the_same_unique_ids", func(t *testing.T) {
		listing := func(addr string) string {
			p := login(t, addr, user, pass)
			defer p.ok(t, "QUIT")
			return p.multi(t, "UIDL")
		}
		theirs, ours := listing(s.POP3), listing(f.pop3)
		if ours != theirs || !strings.Contains(ours, "\n") {
			t.Errorf("Cyrus shows\n%s\nthe gateway shows\n%s", theirs, ours)
		}
	})
	report.progress("cyrus", "moving")
}
