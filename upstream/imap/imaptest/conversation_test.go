package imaptest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// failures is a testing.TB that keeps what fails instead of failing.
type failures struct {
	testing.TB
	said []string
}

func (f *failures) Errorf(format string, a ...any) {
	f.said = append(f.said, fmt.Sprintf(format, a...))
}

func talk(t *testing.T, p *imaptest.Talker) *wire {
	t.Helper()
	c, err := p.Dial(t.Context(), "tcp", "x:143")
	if err != nil {
		t.Fatal(err)
	}
	return onto(t, c)
}

func TestTranscript(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		p := imaptest.Play(t, tcp,
			imaptest.Transcript(`
				S: * OK ready
				C: {tag} LOGIN ... ...
				S: {tag} OK in
				C: {tag} NOOP
				S: * 3 EXPUNGE
				!cut`),
			imaptest.Transcript("S: * BYE full\n!any"))
		w := talk(t, p)
		w.line()
		w.do("LOGIN alice wonderland", "OK in")
		w.send("B NOOP\r\n")
		if got := w.line(); got != "* 3 EXPUNGE" {
			t.Errorf("got %q", got)
		}
		w.ends()
		if got := p.Received(1); got != "A1 LOGIN alice wonderland\r\nB NOOP\r\n" {
			t.Errorf("Received(1) = %q", got)
		}
		if log := p.String(); strings.Contains(log, "wonderland") {
			t.Errorf("the log holds the password:\n%s", log)
		}
		for range 2 { // the last conversation is played again
			if got := talk(t, p).line(); got != "* BYE full" {
				t.Errorf("got %q", got)
			}
		}
	}
}

func TestUnexpectedTurnFailsTheTest(t *testing.T) {
	for _, tt := range []struct{ name, pattern, says string }{
		{"another_command", "{tag} NOOP", "A CAPABILITY\r\n"},
		{"too_much", "{tag} NOOP", "A NOOP X\r\n"},
		{"too_little", "{tag} UID FETCH ... (UID)", "A UID FETCH (UID)\r\n"},
		{"the_client_leaves", "{tag} NOOP", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &failures{TB: t}
			t.Run("conversation", func(t *testing.T) {
				f.TB = t
				p := imaptest.Play(f, false, imaptest.Conversation{imaptest.Expect(tt.pattern)})
				w := talk(t, p)
				if tt.says != "" {
					w.send(tt.says)
				}
				w.conn.Close()
			})
			if len(f.said) != 1 || !strings.Contains(f.said[0], tt.pattern) {
				t.Errorf("failures: %q", f.said)
			}
		})
	}
}

func TestFloodIsBoundedByItsCount(t *testing.T) {
	p := imaptest.Play(t, true, imaptest.Conversation{
		imaptest.Say("* OK "), imaptest.SayTimes("abc", 100_000), imaptest.Say("\r\n"), imaptest.Leave(imaptest.FIN),
	})
	if got := len(talk(t, p).line()); got != 5+300_000 {
		t.Errorf("line of %d octets", got)
	}
	q := imaptest.Play(t, true, imaptest.Conversation{imaptest.SayTimes("x", 1<<30)})
	w := talk(t, q)
	w.br.ReadByte()
	w.conn.Close() // and the flood ends without a failure
}
