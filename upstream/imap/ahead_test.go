package imap_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/readahead"
)

// fetches counts the commands that asked for bodies.
func fetches(srv *imaptest.Server) (n int) {
	for _, c := range srv.Journal().Commands("UID FETCH") {
		if strings.Contains(c.Line, "BODY.PEEK") {
			n++
		}
	}
	return n
}

// each retrieves the messages from, from+step, ... to the end of the maildrop
// and compares them with want.
func (s *session) each(from, step int, want func(i int) string, e upstream.Extent) {
	s.t.Helper()
	for i := from; i >= 0 && i < s.Len(); i += step {
		if got, err := s.retrieve(i, e); err != nil || !strings.HasPrefix(got, want(i)) || e == (upstream.Extent{}) && got != want(i) {
			s.t.Errorf("message %d: %.80q, %v", i, got, err)
		}
	}
}

func nth(i int) string { return message(i + 1) }

func TestMessagesInARowCostFewRoundTrips(t *testing.T) {
	const messages = 500
	for name, tt := range map[string]struct {
		from, step int
		want       upstream.Extent
	}{
		"retr":                    {0, 1, upstream.Extent{}},
		"from_the_end":            {messages - 1, -1, upstream.Extent{}},
		"from_the_middle":         {250, 1, upstream.Extent{}},
		"top_0":                   {0, 1, upstream.Extent{Top: true}},
		"top_of_more_than_all":    {0, 1, upstream.Extent{Top: true, Lines: 99999999}},
		"top_0_from_the_end":      {messages - 1, -1, upstream.Extent{Top: true}},
		"every_line_of_the_top_5": {0, 1, upstream.Extent{Top: true, Lines: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			fill(srv, messages)
			used := 0
			s := open(t, newStore(t, srv, imap.Options{Trace: imap.Trace{ReadAhead: func(n, dropped int) { used += n }}}))
			s.each(tt.from, tt.step, nth, tt.want)
			if n := fetches(srv); n > 5 {
				t.Errorf("%d commands for bodies, want 5 at most", n)
			}
			if used == 0 {
				t.Error("no message was told to be read ahead")
			}
			if m := srv.Journal().Mutations(); len(m) > 0 {
				t.Errorf("reading ahead changed something: %v", m)
			}
		})
	}
}

func TestEveryDialectIsReadAhead(t *testing.T) {
	for name, d := range map[string]imaptest.Dialect{
		"plain":       {},
		"backwards":   {Backwards: true},
		"uid_last":    {Order: imaptest.UIDLast},
		"extra_items": {ExtraItems: []string{"MODSEQ (8)"}, ExtraFlags: true},
		"lower_case":  {LowerCase: true},
		"quoted":      {Body: imaptest.BodyQuoted},
		"flags_first": {FlagsFirst: true},
		"nil":         {Body: imaptest.BodyNIL},
		"noise":       {Noise: []string{"* VANISHED 41", "* 1 FETCH (UID 1 FLAGS (\\Seen))", "* 1 FETCH (FLAGS ())", "* 9 EXISTS", "* 8 EXPUNGE"}},
	} {
		for how, e := range map[string]upstream.Extent{"retr": {}, "top": {Top: true}} {
			t.Run(name+"/"+how, func(t *testing.T) {
				p := imaptest.Full()
				p.Dialect = d
				srv := imaptest.New(t, p)
				body := func(i int) string { // short, empty, and of more than a piece
					return map[int]string{3: "", 5: message(5) + strings.Repeat("x", 20_000)}[i] + map[bool]string{true: nth(i)}[i != 3 && i != 5]
				}
				for i := range 30 {
					srv.INBOX().Append(body(i))
				}
				s := open(t, newStore(t, srv, imap.Options{}))
				if d.Body == imaptest.BodyNIL {
					for i := range s.Len() {
						_, err := s.retrieve(i, e)
						wantKind(t, err, upstream.Gone)
					}
				} else {
					s.each(0, 1, body, e)
				}
				if n := srv.Journal().Connections(); n != 1 {
					t.Errorf("it took %d connections", n)
				}
				// Each of the messages alone, and a window three times at most.
				if n := fetches(srv); n > s.Len()+4 {
					t.Errorf("%d commands for bodies", n)
				}
			})
		}
	}
}

func TestAFailureAheadIsNoFailureOfAnother(t *testing.T) {
	const messages = 12
	for name, gone := range map[string]imaptest.GoneForm{
		"nothing": imaptest.GoneNothing, "nil": imaptest.GoneNIL, "no": imaptest.GoneNO,
		"expungeissued": imaptest.GoneExpungeIssued, "made_up": imaptest.GoneMadeUp,
	} {
		for victim := range messages {
			t.Run(fmt.Sprintf("%s/%d", name, victim), func(t *testing.T) {
				srv := imaptest.New(t, imaptest.Profile{Caps: []string{"UIDPLUS"}, Dialect: imaptest.Dialect{Gone: gone}})
				fill(srv, messages)
				s := open(t, newStore(t, srv, imap.Options{}))
				for i := range messages {
					if i == min(victim, 1) { // right before the window is fetched
						srv.INBOX().Expunge(uint32(victim + 1))
					}
					got, err := s.retrieve(i, upstream.Extent{})
					if i == victim {
						wantKind(t, err, upstream.Gone)
					} else if got != nth(i) || err != nil {
						t.Errorf("message %d: %q, %v", i, got, err)
					}
				}
				if n := srv.Journal().Connections(); n != 1 {
					t.Errorf("it took %d connections", n)
				}
			})
		}
	}
}

// TestARefusalBehindTheBodies: every octet is there, and then the server says
// that it could not do it all.
func TestARefusalBehindTheBodies(t *testing.T) {
	for name, a := range map[string]imaptest.Action{"no": imaptest.NO("[SERVERBUG] one of them"), "bad": imaptest.BAD("what")} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			fill(srv, 40)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.After("UID FETCH", 3, a) // 1 is the list, 2 the first message, 3 the second and more
			s.each(0, 1, nth, upstream.Extent{})
			if n := srv.Journal().Connections(); n != 1 {
				t.Errorf("it took %d connections", n)
			}
		})
	}
}

func TestAMessageThatCannotBeReadCostsThreeWindows(t *testing.T) {
	const messages = 400
	srv := imaptest.New(t, imaptest.Profile{Caps: []string{"UIDPLUS"}, Dialect: imaptest.Dialect{Gone: imaptest.GoneNO}})
	fill(srv, messages)
	s := open(t, newStore(t, srv, imap.Options{}))
	srv.INBOX().Expunge(messages) // every window reaches to it
	for i := range messages - 1 {
		if got, err := s.retrieve(i, upstream.Extent{}); got != nth(i) || err != nil {
			t.Errorf("message %d: %q, %v", i, got, err)
		}
	}
	// Each on its own, three windows, and the end of each that was refused.
	if n := fetches(srv); n > messages+2*3 {
		t.Errorf("%d commands: it was tried again and again", n)
	}
}

// TestAWindowThatIsCut cuts the server's stream at every octet of a command that
// reads ahead. The connection is made anew, and each message is whole.
func TestAWindowThatIsCut(t *testing.T) {
	const messages = 6
	run := func(e upstream.Extent, cut *imaptest.Cut) (from, to int64) {
		srv := imaptest.New(t, imaptest.Full())
		fill(srv, messages)
		var first *imaptest.CutConn
		dial := srv.DialWith(func(n int, c net.Conn) net.Conn {
			if n > 1 {
				return c
			}
			first = imaptest.NewCutConn(c, cut)
			return first
		})
		s := open(t, newStore(t, srv, imap.Options{Dial: dial}))
		defer s.Close()
		for i := range messages {
			if i == 1 {
				from = first.Octets(imaptest.FromServer)
			}
			if got, err := s.retrieve(i, e); got != nth(i) || err != nil {
				t.Fatalf("cut %+v: message %d: %q, %v", cut, i, got, err)
			}
		}
		if n := srv.Journal().Connections(); cut != nil && n != 2 {
			t.Fatalf("cut %+v: %d connections", *cut, n)
		}
		return from, first.Octets(imaptest.FromServer)
	}
	for name, e := range map[string]upstream.Extent{"retr": {}, "top": {Top: true}} {
		t.Run(name, func(t *testing.T) {
			from, to := run(e, nil)
			for _, how := range []imaptest.Ending{imaptest.FIN, imaptest.RST} {
				for at := from; at < to; at++ {
					run(e, &imaptest.Cut{Dir: imaptest.FromServer, After: at, How: how})
				}
			}
		})
	}
}

func TestInexactSizesAreReadAheadOnceKnown(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	const messages = 100
	for i := range messages {
		srv.INBOX().AppendBody(strings.NewReader(nth(i)), 70) // some octets more than there are
	}
	s := open(t, newStore(t, srv, imap.Options{}))
	s.each(0, 1, nth, upstream.Extent{})
	if n := fetches(srv); n > 8 {
		t.Errorf("%d commands for %d bodies", n, messages)
	}
}

func TestReadAheadWithoutRoomIsOff(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 20)
	s := open(t, newStore(t, srv, imap.Options{ReadAhead: readahead.NewPool(0, 0)}))
	s.each(0, 1, nth, upstream.Extent{})
	if n := fetches(srv); n != 20 {
		t.Errorf("%d commands, want one for each message", n)
	}
}

func TestSetsOfScatteredUIDsFitACommand(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	for i := range 2000 {
		srv.INBOX().Append(nth(i))
		srv.INBOX().Append("between")
	}
	for uid := uint32(2); uid <= 4000; uid += 2 {
		srv.INBOX().Expunge(uid)
	}
	s := open(t, newStore(t, srv, imap.Options{}))
	s.each(0, 1, nth, upstream.Extent{})
	for _, c := range srv.Journal().Commands("UID FETCH") {
		if len(c.Line) > 8000 {
			t.Fatalf("a command of %d octets", len(c.Line))
		}
	}
}

func TestAClosedMaildropLetsTheWindowGo(t *testing.T) {
	pool := readahead.NewPool(1<<20, 1<<20)
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 50)
	s := open(t, newStore(t, srv, imap.Options{ReadAhead: pool}))
	s.each(0, 1, nth, upstream.Extent{})
	s = open(t, newStore(t, srv, imap.Options{ReadAhead: pool}))
	for i := range 5 {
		if _, err := s.retrieve(i, upstream.Extent{}); err != nil {
			t.Fatal(err)
		}
	}
	if pool.Left() == 1<<20 {
		t.Error("nothing is held")
	}
	if _, err := s.Update(t.Context(), upstream.Changes{Remove: []int{1}}); err != nil {
		t.Error(err)
	}
	if n := 1<<20 - pool.Left(); n != 0 {
		t.Errorf("%d octets are held behind Update", n)
	}
	s.Close()
	_, err := s.Retrieve(t.Context(), 6, upstream.Extent{})
	if _, ok := errors.AsType[*upstream.Error](err); !ok {
		t.Errorf("Retrieve behind Close: %v", err)
	}
}

// BenchmarkRetrieve reads 1,000 messages of 4 kB one after the other, through
// the fault bench in the same process.
func BenchmarkRetrieve(b *testing.B) {
	for name, window := range map[string]int64{"alone": 0, "ahead": 4 << 20} {
		b.Run(name, func(b *testing.B) {
			const messages = 1000
			text := message(1) + strings.Repeat("0123456789012345678901234567890123456789012345678901234567890\r\n", 62)
			srv := imaptest.New(b, imaptest.Full())
			for range messages {
				srv.INBOX().Append(text)
			}
			s := open(b, newStore(b, srv, imap.Options{ReadAhead: readahead.NewPool(window, 64<<20)}))
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				body, err := s.Retrieve(b.Context(), i%messages, upstream.Extent{})
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, body); n != int64(len(text)) || err != nil {
					b.Fatal(n, err)
				}
				body.Close()
				i++
			}
		})
	}
}
