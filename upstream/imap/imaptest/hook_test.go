package imaptest_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

func TestActionsThatAnswer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		action imaptest.Action
		want   string
	}{
		{"no", imaptest.NO("[UNAVAILABLE] later"), "NO [UNAVAILABLE] later"},
		{"bad", imaptest.BAD("what"), "BAD what"},
		{"ok", imaptest.OK("a lie"), "OK a lie"},
		{"raw", imaptest.Raw("* 7 EXISTS\r\n{tag} OK raw\r\n"), "OK raw"},
	} {
		t.Run(tt.name+"_before_keeps_the_command_from_running", func(t *testing.T) {
			s, w := selected(t, imaptest.Full())
			s.Before("UID STORE", 2, tt.action)
			w.do(`UID STORE 1 +FLAGS.SILENT (\Deleted)`, "OK store")
			w.do(`UID STORE 2 +FLAGS.SILENT (\Deleted)`, tt.want)
			w.do(`UID STORE 3 +FLAGS.SILENT (\Deleted)`, "OK store")
			w.expect("UID SEARCH DELETED", "OK", "* SEARCH 1 3")
		})
		t.Run(tt.name+"_after_lets_it_run", func(t *testing.T) {
			s, w := selected(t, imaptest.Full())
			s.After("UID STORE", 0, tt.action)
			w.do(`UID STORE 1 +FLAGS.SILENT (\Deleted)`, tt.want)
			w.do(`UID STORE 2 +FLAGS.SILENT (\Deleted)`, tt.want)
			s.Forget()
			w.expect("UID SEARCH DELETED", "OK", "* SEARCH 1 2")
		})
	}
}

func TestActionsThatEnd(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		for _, how := range []imaptest.Ending{imaptest.FIN, imaptest.RST} {
			for _, after := range []bool{false, true} {
				s := imaptest.New(t, imaptest.Full(), options(tcp)...)
				s.INBOX().Append(hello, `\Deleted`)
				w := login(t, s)
				w.do("SELECT INBOX", "OK")
				if after {
					s.After("UID EXPUNGE", 1, imaptest.End(how))
				} else {
					s.Before("UID EXPUNGE", 1, imaptest.End(how))
				}
				w.send("X UID EXPUNGE 1\r\n")
				if after && how == imaptest.FIN {
					if got := w.line(); got != "* 1 EXPUNGE" {
						t.Errorf("tcp %v, how %v, after %v: %q", tcp, how, after, got)
					}
				}
				if how == imaptest.FIN {
					w.ends()
				} else if _, err := w.br.ReadString(0); err == nil {
					t.Error("no end")
				} else if tcp && !after && !strings.Contains(err.Error(), "reset") {
					t.Errorf("RST is %v", err)
				}
				if gone := len(s.INBOX().UIDs()) == 0; gone != after {
					t.Errorf("tcp %v, how %v, after %v: gone is %v", tcp, how, after, gone)
				}
			}
		}
	}
}

func options(tcp bool) []imaptest.Option {
	if tcp {
		return []imaptest.Option{imaptest.TCP()}
	}
	return nil
}

func TestEndInOrderIsNoResetDespiteUnreadInput(t *testing.T) {
	s := imaptest.New(t, imaptest.Full(), imaptest.TCP())
	w := login(t, s)
	s.Before("NOOP", 1, imaptest.Raw("* 1 EXISTS\r\n"))
	s.Before("NOOP", 2, imaptest.End(imaptest.FIN))
	w.send(strings.Repeat("X NOOP\r\n", 10_000))
	if got, err := readAll(w); got != "* 1 EXISTS\r\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestGreetingActions(t *testing.T) {
	s := imaptest.New(t, imaptest.Full())
	s.Before(imaptest.GREETING, 1, imaptest.BYE("go away"))
	s.Before(imaptest.GREETING, 2, imaptest.Raw("* PREAUTH welcome\r\n"))
	s.Before(imaptest.GREETING, 3, imaptest.NO("not now"))
	w := dial(t, s)
	if got := w.line(); got != "* BYE go away" {
		t.Errorf("got %q", got)
	}
	w.ends()
	w = dial(t, s)
	if got := w.line(); got != "* PREAUTH welcome" {
		t.Errorf("got %q", got)
	}
	w.do("SELECT INBOX", "BAD") // the server knows better
	if got := dial(t, s).line(); got != "* NO not now" {
		t.Errorf("got %q", got)
	}
}

func TestContinuationCanBeRefused(t *testing.T) {
	s := imaptest.New(t, imaptest.Minimal())
	s.Before(imaptest.CONTINUE, 2, imaptest.BAD("no literals"))
	w := dial(t, s)
	w.line()
	w.send("X LOGIN {5}\r\n")
	if got := w.line(); !strings.HasPrefix(got, "+ ") {
		t.Fatalf("got %q", got)
	}
	w.send("alice {10}\r\n")
	w.until("X", "LOGIN", "BAD no literals")
	w.do("NOOP", "OK")
}

func TestLiteralIsCut(t *testing.T) {
	for k := range int64(len(hello) + 1) {
		s, w := selected(t, imaptest.Full())
		s.Before("UID FETCH", 1, imaptest.CutLiteral(k, imaptest.FIN))
		w.send("X UID FETCH 1 BODY.PEEK[]\r\n")
		if got := w.line(); got != "* 1 FETCH (UID 1 BODY[] {21}" {
			t.Fatalf("got %q", got)
		}
		rest, err := readAll(w)
		if rest != hello[:k] || err != nil {
			t.Fatalf("after %d octets: %q, %v", k, rest, err)
		}
	}
}

func TestDoActsAsAnotherClient(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	s.Before("UID FETCH", 1, imaptest.Do(func(imaptest.Command) { s.INBOX().Expunge(1) }))
	w.expect("UID FETCH 1 UID", "OK [EXPUNGEISSUED]", "* 1 EXPUNGE")
}

func TestStallLastsUntilTheClientCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := imaptest.New(t, imaptest.Full())
		s.Before("NOOP", 1, imaptest.End(imaptest.Stall))
		s.Before("CAPABILITY", 1, imaptest.Wait(time.Hour))
		c, err := s.Dial(t.Context(), "tcp", "x:143")
		if err != nil {
			t.Fatal(err)
		}
		w := &wire{t: t, conn: c, br: reader(c)}
		w.line()
		start := time.Now()
		w.do("CAPABILITY", "OK")
		if d := time.Since(start); d != time.Hour {
			t.Errorf("Wait took %v", d)
		}
		w.send("X NOOP\r\n")
		c.SetReadDeadline(time.Now().Add(48 * time.Hour))
		if line, err := w.br.ReadString('\n'); err == nil || line != "" {
			t.Errorf("got %q, %v", line, err)
		}
		c.Close()
		synctest.Wait()
		if log := s.Journal().String(); !strings.Contains(log, "ended: by an action") {
			t.Errorf("journal:\n%s", log)
		}
	})
}

func TestRefuseAndDisconnect(t *testing.T) {
	s := imaptest.New(t, imaptest.Full(), imaptest.TCP())
	s.Refuse(1)
	if _, err := s.Dial(t.Context(), "tcp", "a:1"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("err = %v", err)
	}
	w := login(t, s)
	s.Disconnect(imaptest.RST)
	if _, err := readAll(w); err == nil {
		t.Error("no RST")
	}
	if got := s.Dialed(); !slices.Equal(got, []string{"a:1", "imap.example.test:143"}) {
		t.Errorf("Dialed() = %q", got)
	}
}

func TestJournalKeepsOneOrder(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	mark := s.Journal().Len()
	s.INBOX().Expunge(3)
	w.do(`UID STORE 1 +FLAGS.SILENT (\Deleted)`, "OK")
	w.do("UID EXPUNGE 1", "OK")
	w.send("X LOGIN alice wonder")
	w.conn.Close()
	ended := func(e imaptest.Entry) bool { return e.Kind == imaptest.Ended }
	if _, err := s.Journal().Await(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	names := map[imaptest.EntryKind]string{
		imaptest.Received: "received", imaptest.Replied: "replied", imaptest.Mutated: "mutated",
		imaptest.Broken: "broken", imaptest.Ended: "ended",
	}
	var got []string
	for i, e := range s.Journal().Since(mark) {
		if e.N != mark+i+1 {
			t.Errorf("entry %d has the number %d", mark+i+1, e.N)
		}
		got = append(got, names[e.Kind])
		if e.Kind == imaptest.Broken && e.Line != "X LOGIN [secret]" {
			t.Errorf("broken: %q", e.Line)
		}
	}
	want := []string{"mutated", "received", "mutated", "replied", "received", "mutated", "replied", "broken", "ended"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if c := s.Journal().Commands("UID STORE"); len(c) != 1 || c[0].Line != `UID STORE 1 +FLAGS.SILENT (\Deleted)` {
		t.Errorf("Commands: %v", c)
	}
	if m := s.Journal().Mutations(); len(m) != 2 || m[0].Change != imaptest.Flagged || m[1].Change != imaptest.Expunged {
		t.Errorf("Mutations: %v", m)
	}
}

func TestReplyThatCannotBeSentIsMarkedLost(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	s.After("NOOP", 1, imaptest.Do(func(imaptest.Command) { w.conn.Close() }))
	w.send("X NOOP\r\n")
	ended := func(e imaptest.Entry) bool { return e.Kind == imaptest.Ended }
	if _, err := s.Journal().Await(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	lost := func(e imaptest.Entry) bool { return e.Kind == imaptest.Replied && e.Lost }
	if i := slices.IndexFunc(s.Journal().Entries(), lost); i < 0 {
		t.Errorf("no lost reply in:\n%s", s.Journal())
	}
}
