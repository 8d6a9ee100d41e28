package imaptest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// trial is one session beside one maildrop of two messages, 1 and 2.
type trial struct {
	t      *testing.T
	s      *imaptest.Server
	w      *wire
	events []imaptest.Event
}

const (
	id1, id2 = "3857529045.1", "3857529045.2"
)

func newTrial(t *testing.T, p imaptest.Profile) *trial {
	t.Helper()
	s := imaptest.New(t, p)
	s.INBOX().Append(hello)
	s.INBOX().Append("Subject: b\n\n.dot\nno end") // becomes CRLF, and gets an end
	s.Mailbox(imaptest.DefaultUser, "Trash", `\Trash`)
	tr := &trial{t: t, s: s, w: login(t, s)}
	tr.w.do("SELECT INBOX", "OK")
	tr.saw(imaptest.Event{Kind: imaptest.Named, Number: 1, UIDL: id1}, imaptest.Event{Kind: imaptest.Named, Number: 2, UIDL: id2})
	return tr
}

func (tr *trial) saw(events ...imaptest.Event) {
	for _, e := range events {
		e.At = tr.s.Journal().Len()
		tr.events = append(tr.events, e)
	}
}

// remove does what a store does at QUIT.
func (tr *trial) remove(uids string) {
	tr.t.Helper()
	tr.w.do("UID STORE "+uids+` +FLAGS.SILENT (\Deleted)`, "OK")
	tr.w.do("UID EXPUNGE "+uids, "OK")
}

func (tr *trial) quit(ok bool, between func()) {
	tr.t.Helper()
	tr.saw(imaptest.Event{Kind: imaptest.QuitSent})
	between()
	tr.saw(imaptest.Event{Kind: imaptest.QuitReplied, Whole: ok})
}

func mark(n int) imaptest.Event { return imaptest.Event{Kind: imaptest.Marked, Number: n} }

func retr(n int, octets int64, body string) imaptest.Event {
	return imaptest.Event{Kind: imaptest.Retrieved, Number: n, Octets: octets, Body: []byte(body), Whole: true}
}

func nothing() {}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(*trial)
		want string // the invariants broken, "" for a clean session
	}{
		{"marked_and_removed", func(tr *trial) {
			tr.saw(mark(2))
			tr.quit(true, func() { tr.remove("2") })
		}, ""},
		{"nothing_marked", func(tr *trial) { tr.quit(true, nothing) }, ""},
		{"left_without_quit", func(tr *trial) { tr.saw(mark(1)) }, ""},
		{"refused_and_half_done", func(tr *trial) {
			tr.saw(mark(1), mark(2))
			tr.quit(false, func() { tr.remove("1") })
		}, ""},
		{"another_client_was_first", func(tr *trial) {
			tr.saw(mark(1))
			tr.s.INBOX().Expunge(1)
			tr.quit(true, func() { tr.remove("1") })
		}, ""},
		{"seen_in_update", func(tr *trial) {
			tr.quit(true, func() { tr.w.do(`UID STORE 1 +FLAGS (\Seen)`, "OK") })
		}, ""},
		{"moved_to_trash", func(tr *trial) {
			tr.saw(mark(1))
			tr.quit(true, func() { tr.w.do("UID MOVE 1 Trash", "OK") })
		}, ""},
		{"recreated_meanwhile", func(tr *trial) {
			tr.saw(mark(1))
			tr.quit(true, func() { tr.s.INBOX().Recreate(); tr.w.do("NOOP", "OK") })
		}, ""},

		{"removed_without_quit", func(tr *trial) { tr.saw(mark(1)); tr.remove("1") }, "I1"},
		{"removed_before_quit", func(tr *trial) { tr.saw(mark(1)); tr.remove("1"); tr.quit(true, nothing) }, "I1"},
		{"reset_and_removed", func(tr *trial) {
			tr.saw(mark(1), imaptest.Event{Kind: imaptest.Unmarked})
			tr.quit(false, func() { tr.remove("1") })
		}, "I1"},
		{"range_over_a_gap", func(tr *trial) { tr.saw(mark(1)); tr.quit(true, func() { tr.remove("1:2") }) }, "I1"},
		{"keyword_on_an_unmarked_one", func(tr *trial) {
			tr.quit(true, func() { tr.w.do("UID STORE 1 +FLAGS (popgate-hidden)", "OK") })
		}, "I1"},
		{"copied_unmarked", func(tr *trial) { tr.quit(true, func() { tr.w.do("UID COPY 1 Trash", "OK") }) }, "I1"},
		{"fetch_without_peek", func(tr *trial) { tr.w.do("UID FETCH 1 BODY[]", "OK") }, "I1"},
		{"seen_before_update", func(tr *trial) { tr.w.do("UID FETCH 1 BODY[]", "OK"); tr.quit(true, nothing) }, "I1"},
		{"trash_emptied", func(tr *trial) {
			tr.s.Mailbox(imaptest.DefaultUser, "Trash").Append(hello, `\Deleted`)
			tr.w.do("SELECT Trash", "OK")
			tr.quit(true, func() { tr.w.do("CLOSE", "OK") })
		}, "I1"},

		{"ok_but_kept", func(tr *trial) { tr.saw(mark(1)); tr.quit(true, nothing) }, "I2"},
		{"ok_but_only_flagged", func(tr *trial) {
			tr.saw(mark(1))
			tr.quit(true, func() { tr.w.do(`UID STORE 1 +FLAGS (\Deleted)`, "OK") })
		}, "I2"},
		{"ok_without_confirmation", func(tr *trial) {
			tr.saw(mark(1))
			tr.quit(true, func() {
				tr.w.do(`UID STORE 1 +FLAGS.SILENT (\Deleted)`, "OK")
				tr.s.After("UID EXPUNGE", 1, imaptest.End(imaptest.FIN))
				tr.w.send("X UID EXPUNGE 1\r\n")
				readAll(tr.w)
			})
		}, "I2"},

		{"whole_message", func(tr *trial) { tr.saw(retr(1, 21, hello)) }, ""},
		{"normalised_message", func(tr *trial) { tr.saw(retr(2, 23, "Subject: b\r\n\r\n.dot\r\nno end\r\n")) }, ""},
		{"cut_without_terminator", func(tr *trial) { e := retr(1, 21, hello[:9]); e.Whole = false; tr.saw(e) }, ""},
		{"top", func(tr *trial) {
			tr.saw(imaptest.Event{Kind: imaptest.Topped, Number: 2, Lines: 1, Body: []byte("Subject: b\r\n\r\n.dot\r\n"), Whole: true},
				imaptest.Event{Kind: imaptest.Topped, Number: 2, Body: []byte("Subject: b\r\n\r\n"), Whole: true})
		}, ""},
		{"truncated_with_terminator", func(tr *trial) { tr.saw(retr(1, 21, hello[:9])) }, "I3"},
		{"another_message", func(tr *trial) { tr.saw(retr(1, 21, world)) }, "I3"},
		{"empty_for_a_gone_one", func(tr *trial) { tr.saw(retr(1, 21, "")) }, "I3"},
		{"top_with_too_much", func(tr *trial) {
			tr.saw(imaptest.Event{Kind: imaptest.Topped, Number: 1, Body: []byte(hello), Whole: true})
		}, "I3"},

		{"number_moved", func(tr *trial) { tr.saw(imaptest.Event{Kind: imaptest.Named, Number: 1, UIDL: id2}) }, "I4 I5"},
		{"size_moved", func(tr *trial) {
			tr.saw(imaptest.Event{Kind: imaptest.Sized, Number: 1, Octets: 21}, imaptest.Event{Kind: imaptest.Sized, Number: 1, Octets: 22})
		}, "I4 I6"},
		{"two_numbers_one_id", func(tr *trial) { tr.saw(imaptest.Event{Kind: imaptest.Named, Number: 3, UIDL: id1}) }, "I5"},
		{"id_of_nothing", func(tr *trial) { tr.saw(imaptest.Event{Kind: imaptest.Named, Number: 3, UIDL: "3857529045.9"}) }, "I5"},
		{"illegal_id", func(tr *trial) { tr.saw(imaptest.Event{Kind: imaptest.Named, Number: 3, UIDL: "a b"}) }, "I5"},
		{"two_ids_one_message", func(tr *trial) { tr.saw(imaptest.Event{Kind: imaptest.Named, Number: 3, UIDL: "3857529045.01"}) }, "I5"},
		{"size_as_claimed", func(tr *trial) { tr.saw(imaptest.Event{Kind: imaptest.Sized, Number: 1, Octets: 21}) }, ""},
		{"size_of_our_own", func(tr *trial) { tr.saw(imaptest.Event{Kind: imaptest.Sized, Number: 1, Octets: 20}) }, "I6"},
		{"announced_octets_of_our_own", func(tr *trial) { tr.saw(retr(1, 20, hello)) }, "I6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTrial(t, imaptest.Full())
			tt.play(tr)
			got := imaptest.Judge{Journal: tr.s.Journal()}.Violations(tr.events)
			var broken []string
			for _, v := range got {
				broken = append(broken, v[:2])
			}
			slices.Sort(broken)
			if b := strings.Join(slices.Compact(broken), " "); b != tt.want {
				t.Errorf("violations %q, want of %q", got, tt.want)
			}
		})
	}
}

func TestJudgeKnowsHiding(t *testing.T) {
	hidden := func(flags []string) bool { return imaptest.Message{Flags: flags}.Has("popgate-hidden") }
	tr := newTrial(t, imaptest.Full())
	tr.saw(mark(1))
	tr.quit(true, func() { tr.w.do("UID STORE 1 +FLAGS.SILENT (popgate-hidden)", "OK") })
	judge := imaptest.Judge{Journal: tr.s.Journal(), Hidden: hidden}
	if got := judge.Violations(tr.events); got != nil {
		t.Errorf("violations: %q", got)
	}
	judge.Hidden = nil
	if got := judge.Violations(tr.events); len(got) != 1 || !strings.HasPrefix(got[0], "I2") {
		t.Errorf("violations: %q", got)
	}
}

func TestJudgeKnowsSessionsApart(t *testing.T) {
	tr := newTrial(t, imaptest.Full())
	tr.quit(true, nothing) // a first session, which marks nothing
	first := tr.events
	tr.events = first[:2:2]
	tr.saw(mark(1))
	tr.remove("1") // before the QUIT of the second, after that of the first
	tr.quit(true, nothing)
	got := imaptest.Judge{Journal: tr.s.Journal()}.Violations(first, tr.events)
	if len(got) != 2 || !strings.HasPrefix(got[0], "I1") || !strings.HasPrefix(got[1], "I1") {
		t.Errorf("violations: %q, want I1 for the flag and for the expunge", got)
	}
}
