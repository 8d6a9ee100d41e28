package imap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

func TestBodiesTakeEveryDialect(t *testing.T) {
	for name, d := range map[string]imaptest.Dialect{
		"plain":       {},
		"uid_last":    {Order: imaptest.UIDLast},
		"size_first":  {Order: imaptest.SizeFirst},
		"extra_items": {ExtraItems: []string{"MODSEQ (8)"}, ExtraFlags: true},
		"lower_case":  {LowerCase: true},
		"quoted":      {Body: imaptest.BodyQuoted},
		"flags_first": {FlagsFirst: true},
		"no_text":     {Text: imaptest.TextNone},
		"noise":       {Noise: []string{"* VANISHED 41", "* 1 FETCH (UID 1 FLAGS (\\Seen))", "* 1 FETCH (FLAGS ())", "* 9 EXISTS", "* 8 EXPUNGE"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := imaptest.Full()
			p.Dialect = d
			srv := imaptest.New(t, p)
			bodies := []string{message(1), "plain words in one line", "", "a \"quoted\" \\ line", strings.Repeat("x", 100_000)}
			for _, b := range bodies {
				srv.INBOX().Append(b)
			}
			s := open(t, newStore(t, srv, imap.Options{}))
			for i, want := range bodies {
				if got, err := s.retrieve(i, upstream.Extent{}); got != want || err != nil {
					t.Errorf("message %d: %.60q, %v; want %.60q", i, got, err, want)
				}
			}
			if n := srv.Journal().Connections(); n != 1 {
				t.Errorf("it took %d connections", n)
			}
		})
	}
}

func TestEveryFormOfGoneIsGone(t *testing.T) {
	for name, p := range map[string]imaptest.Profile{
		"nothing":       {Caps: []string{"UIDPLUS"}},
		"nil":           {Caps: []string{"UIDPLUS"}, Dialect: imaptest.Dialect{Gone: imaptest.GoneNIL}},
		"no":            {Caps: []string{"UIDPLUS"}, Dialect: imaptest.Dialect{Gone: imaptest.GoneNO}},
		"made_up":       {Caps: []string{"UIDPLUS"}, Dialect: imaptest.Dialect{Gone: imaptest.GoneMadeUp}},
		"expungeissued": {Caps: []string{"UIDPLUS"}, Dialect: imaptest.Dialect{Gone: imaptest.GoneExpungeIssued}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.New(t, p)
			fill(srv, 3)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.INBOX().Expunge(2)
			for range 2 { // before and after the server has told of it
				_, err := s.retrieve(1, upstream.Extent{})
				wantKind(t, err, upstream.Gone)
			}
			if got, err := s.retrieve(2, upstream.Extent{}); got != message(3) || err != nil {
				t.Errorf("the next message: %q, %v", got, err)
			}
			if s.Len() != 3 {
				t.Errorf("the snapshot has %d messages, want 3 still", s.Len())
			}
			if n := srv.Journal().Connections(); n != 1 {
				t.Errorf("it took %d connections", n)
			}
		})
	}
}

func TestAMadeUpMessageIsNotServed(t *testing.T) {
	for name, want := range map[string]upstream.Extent{"retr": {}, "top": {Top: true, Lines: 3}} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Courier())
			srv.INBOX().Append(message(1))
			srv.INBOX().Append(message(2) + strings.Repeat("x", 100_000))
			srv.INBOX().Append(message(3))
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.INBOX().Expunge(2)
			got, err := s.retrieve(1, want)
			wantKind(t, err, upstream.Gone)
			if got != "" {
				t.Errorf("got %q", got)
			}
			if got, err := s.retrieve(2, upstream.Extent{}); got != message(3) || err != nil {
				t.Errorf("the next message: %q, %v", got, err)
			}
		})
	}
}

func TestAMessageThatGoesBetweenPiecesIsNotWhole(t *testing.T) {
	srv := imaptest.New(t, imaptest.Courier())
	srv.INBOX().Append(message(1))
	srv.INBOX().Append(message(2) + strings.Repeat("x", 100_000))
	s := open(t, newStore(t, srv, imap.Options{}))
	b, err := s.Retrieve(t.Context(), 1, upstream.Extent{Top: true, Lines: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	srv.INBOX().Expunge(2)
	n, err := io.Copy(io.Discard, b)
	wantKind(t, err, upstream.Gone)
	if n != 16<<10 {
		t.Errorf("%d octets, want the first piece", n)
	}
}

func TestInexactSizesAreCheckedOnce(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	for i := range 4 {
		srv.INBOX().AppendBody(strings.NewReader(message(i)), 1000)
	}
	s := open(t, newStore(t, srv, imap.Options{}))
	for i := range 4 {
		if got, err := s.retrieve(i, upstream.Extent{}); got != message(i) || err != nil {
			t.Errorf("message %d: %q, %v", i, got, err)
		}
	}
	if n := len(srv.Journal().Commands("NOOP")); n != 1 {
		t.Errorf("%d NOOPs, want 1", n)
	}
}

func TestABodyIsWholeOrAnError(t *testing.T) {
	body := message(1)
	for _, how := range []imaptest.Ending{imaptest.FIN, imaptest.RST} {
		for k := range len(body) {
			srv := imaptest.New(t, imaptest.Full())
			srv.INBOX().Append(body)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.Before("UID FETCH", 0, imaptest.CutLiteral(int64(k), how))
			got, err := s.retrieve(0, upstream.Extent{})
			if err == nil || !strings.HasPrefix(body, got) {
				t.Fatalf("cut after %d octets: %q, %v", k, got, err)
			}
			wantKind(t, err, upstream.Unavailable)
			s.Close()
		}
	}
}

func TestABodyThatIsCutOnceGoesOn(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 64) // over the overlap of 512
	for _, how := range []imaptest.Ending{imaptest.FIN, imaptest.RST} {
		for k := 0; k < len(body); k += 37 {
			srv := imaptest.New(t, imaptest.Full())
			srv.INBOX().Append(body)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.Before("UID FETCH", 2, imaptest.CutLiteral(int64(k), how))
			if got, err := s.retrieve(0, upstream.Extent{}); got != body || err != nil {
				t.Fatalf("cut after %d octets: %d octets, %v", k, len(got), err)
			}
			if n := srv.Journal().Connections(); n != 2 {
				t.Errorf("it took %d connections, want 2", n)
			}
			s.Close()
		}
	}
}

func TestPiecesThatAreCutOnceGoOn(t *testing.T) {
	var b strings.Builder
	for i := 0; b.Len() < 400<<10; i++ {
		fmt.Fprintf(&b, "line %d\r\n", i)
	}
	body := b.String()
	for nth := 2; nth <= 4; nth++ {
		for _, k := range []int64{0, 1, 511, 16 << 10, 60 << 10} {
			srv := imaptest.New(t, imaptest.Full())
			srv.INBOX().Append(body)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.Before("UID FETCH", nth, imaptest.CutLiteral(k, imaptest.FIN))
			if got, err := s.retrieve(0, upstream.Extent{Top: true, Lines: 1 << 17}); got != body || err != nil {
				t.Fatalf("piece %d cut after %d octets: %d octets, %v", nth-1, k, len(got), err)
			}
			s.Close()
		}
	}
}

func TestABodyGoesOnOnlyIfItIsTheSame(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 64)
	const cut = 700
	for name, change := range map[string]func(*imaptest.Server){
		"uidvalidity": func(srv *imaptest.Server) { srv.INBOX().Recreate(); srv.INBOX().Append(body) },
		"gone":        func(srv *imaptest.Server) { srv.INBOX().Expunge(1) },
		"down":        func(srv *imaptest.Server) { srv.Before("EXAMINE", 0, imaptest.End(imaptest.FIN)) },
		"password":    func(srv *imaptest.Server) { srv.SetPassword(imaptest.DefaultUser, "other") },
		"size": func(srv *imaptest.Server) {
			srv.Before("UID FETCH", 3, imaptest.Raw("* 1 FETCH (UID 1 RFC822.SIZE 7)\r\n{tag} OK\r\n"))
		},
		"octets_before": func(srv *imaptest.Server) {
			srv.Before("UID FETCH", 4, imaptest.Raw(fmt.Sprintf("* 1 FETCH (UID 1 BODY[]<188> {836}\r\n%s)\r\n{tag} OK\r\n", strings.Repeat("x", 836))))
		},
		"length_of_rest": func(srv *imaptest.Server) {
			srv.Before("UID FETCH", 4, imaptest.Raw(fmt.Sprintf("* 1 FETCH (UID 1 BODY[]<188> {600}\r\n%s)\r\n{tag} OK\r\n", body[188:788])))
		},
		"a_second_cut":   func(srv *imaptest.Server) { srv.Before("UID FETCH", 4, imaptest.CutLiteral(600, imaptest.FIN)) },
		"no_to_the_rest": func(srv *imaptest.Server) { srv.Before("UID FETCH", 4, imaptest.NO("no partial fetch")) },
		"nil_for_the_rest": func(srv *imaptest.Server) {
			srv.Before("UID FETCH", 4, imaptest.Raw("* 1 FETCH (UID 1 BODY[]<188> NIL)\r\n{tag} OK\r\n"))
		},
		"all_from_the_head": func(srv *imaptest.Server) {
			srv.Before("UID FETCH", 4, imaptest.Raw(fmt.Sprintf("* 1 FETCH (UID 1 BODY[] {1024}\r\n%s)\r\n{tag} OK\r\n", body)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			srv.INBOX().Append(body)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.Before("UID FETCH", 2, imaptest.CutLiteral(cut, imaptest.FIN))
			srv.Before("AUTHENTICATE", 2, imaptest.Do(func(imaptest.Command) { change(srv) })) // on the new connection
			got, err := s.retrieve(0, upstream.Extent{})
			if err == nil || !strings.HasPrefix(body, got) {
				t.Errorf("%d octets, %v", len(got), err)
			}
			wantKind(t, err, upstream.Unavailable)
			s.Close()
		})
	}
}

func TestAWholeLiteralWithoutOKIsNotWhole(t *testing.T) {
	for name, after := range map[string]imaptest.Action{
		"no": imaptest.NO("disk error"), "bad": imaptest.BAD("hm"), "fin": imaptest.End(imaptest.FIN), "bye": imaptest.BYE("down"),
		"wrong_uid_behind_the_body": imaptest.Raw("* 1 FETCH (UID 2 FLAGS ())\r\n{tag} NO x\r\n"),
		"a_foreign_tag":             imaptest.Raw("X99 OK done\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			fill(srv, 1)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.After("UID FETCH", 0, after)
			if got, err := s.retrieve(0, upstream.Extent{}); err == nil {
				t.Errorf("got %q and a clean end", got)
			}
		})
	}
}

func TestAnotherMessagesBodyIsNeverTaken(t *testing.T) {
	for name, raw := range map[string]string{
		"other_uid":            "* 2 FETCH (UID 2 BODY[] {3}\r\nabc)\r\n{tag} OK\r\n",
		"other_uid_behind":     "* 1 FETCH (BODY[] {3}\r\nabc UID 2)\r\n{tag} OK\r\n",
		"two_uids":             "* 1 FETCH (UID 1 BODY[] {3}\r\nabc UID 2)\r\n{tag} OK\r\n",
		"two_bodies":           "* 1 FETCH (UID 1 BODY[] {3}\r\nabc BODY[] {3}\r\ndef)\r\n{tag} OK\r\n",
		"two_quoted_bodies":    "* 1 FETCH (UID 1 BODY[] \"abc\" BODY[] \"abc\")\r\n{tag} OK\r\n",
		"a_literal_and_no_end": "* 1 FETCH (UID 1 BODY[] {3}\r\nabc\r\n{tag} OK\r\n",
		"garbage":              "what is this\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			fill(srv, 2)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.Before("UID FETCH", 0, imaptest.Raw(raw))
			if got, err := s.retrieve(0, upstream.Extent{}); err == nil {
				t.Errorf("got %q and a clean end", got)
			}
			s.Close()
		})
	}
}

func TestALostConnectionIsMadeAnewBetweenCommands(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 3)
	s := open(t, newStore(t, srv, imap.Options{}))
	for i := range 3 {
		srv.Disconnect(imaptest.FIN)
		if got, err := s.retrieve(i, upstream.Extent{}); got != message(i+1) || err != nil {
			t.Errorf("message %d after the loss: %q, %v", i, got, err)
		}
	}
	if n := srv.Journal().Connections(); n != 4 {
		t.Errorf("it took %d connections, want 4", n)
	}
}

func TestAConnectionIsMadeAnewOnlyToTheSameMailbox(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*imaptest.Server)
		want   upstream.Kind
	}{
		{"uidvalidity", func(srv *imaptest.Server) { srv.INBOX().Recreate(); fill(srv, 3) }, upstream.Changed},
		{"uidnext_fell", func(srv *imaptest.Server) {
			v := srv.INBOX().UIDValidity()
			srv.Before("EXAMINE", 0, imaptest.Raw(fmt.Sprintf("* 1 EXISTS\r\n* OK [UIDVALIDITY %d] x\r\n* OK [UIDNEXT 2] x\r\n{tag} OK [READ-ONLY] x\r\n", v)))
		}, upstream.Changed},
		{"size", func(srv *imaptest.Server) {
			srv.Before("UID FETCH", 2, imaptest.Raw("* 1 FETCH (UID 1 RFC822.SIZE 7)\r\n{tag} OK\r\n"))
		}, upstream.Changed},
		{"password", func(srv *imaptest.Server) { srv.SetPassword(imaptest.DefaultUser, "other") }, upstream.Refused},
		{"down", func(srv *imaptest.Server) { srv.Refuse(9) }, upstream.Unavailable},
		{"gone", func(srv *imaptest.Server) { srv.INBOX().Expunge(1) }, upstream.Gone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			fill(srv, 3)
			s := open(t, newStore(t, srv, imap.Options{}))
			srv.Disconnect(imaptest.FIN)
			tt.change(srv)
			_, err := s.retrieve(0, upstream.Extent{})
			wantKind(t, err, tt.want)
			s.Close()
		})
	}
}

func TestTopOfALargeMessageLeavesTheRestWhereItIs(t *testing.T) {
	large := "Subject: large\r\n\r\n" + strings.Repeat("a line of the body, and another\r\n", 200_000)
	srv := imaptest.New(t, imaptest.Full())
	srv.INBOX().Append(large)
	s := open(t, newStore(t, srv, imap.Options{}))
	b, err := s.Retrieve(t.Context(), 0, upstream.Extent{Top: true, Lines: 3})
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 300)
	if _, err := io.ReadFull(b, head); err != nil || string(head) != large[:300] {
		t.Errorf("the top: %.60q, %v", head, err)
	}
	b.Close()
	if got, err := s.retrieve(0, upstream.Extent{Top: true, Lines: 3}); got != large || err != nil {
		t.Errorf("read to its end: %d octets, %v; want %d", len(got), err, len(large))
	}
	if n := srv.Journal().Connections(); n != 1 {
		t.Errorf("it took %d connections", n)
	}
	for _, c := range srv.Journal().Commands("UID FETCH")[1:] {
		if !strings.Contains(fmt.Sprint(c), "<") {
			t.Errorf("the whole message was asked for: %v", c)
		}
	}
}

func TestPiecesThatEndAtTheEndOfTheMessage(t *testing.T) {
	for _, size := range []int{16<<10 + 1, 80 << 10, 80<<10 + 1, 336 << 10} { // the first two pieces are 16 and 64 KiB
		for _, form := range []imaptest.BodyForm{imaptest.BodyLiteral, imaptest.BodyQuoted} {
			p := imaptest.Full()
			p.Dialect.Body = form
			srv := imaptest.New(t, p)
			body := strings.Repeat("x", size)
			srv.INBOX().Append(body)
			s := open(t, newStore(t, srv, imap.Options{}))
			if got, err := s.retrieve(0, upstream.Extent{Top: true}); got != body || err != nil {
				t.Errorf("size %d: %d octets, %v", size, len(got), err)
			}
		}
	}
}

func TestANOOPKeepsTheConnectionWhileTheClientIdles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := imaptest.New(t, imaptest.Full())
		fill(srv, 1)
		s := open(t, newStore(t, srv, imap.Options{KeepAlive: 4 * time.Minute}))
		time.Sleep(2*time.Hour + time.Minute)
		if n := len(srv.Journal().Commands("NOOP")); n != 30 {
			t.Errorf("%d NOOPs in two hours, want 30", n)
		}
		if got, err := s.retrieve(0, upstream.Extent{}); got != message(1) || err != nil {
			t.Errorf("after two hours: %q, %v", got, err)
		}
		if n := srv.Journal().Connections(); n != 1 {
			t.Errorf("it took %d connections", n)
		}
		s.Close()
		time.Sleep(time.Hour)
		if n := len(srv.Journal().Commands("NOOP")); n != 30 {
			t.Errorf("%d NOOPs after Close", n-30)
		}
	})
}

func TestASilentServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, verb := range []string{"GREETING", "CAPABILITY", "AUTHENTICATE", "EXAMINE", "UID FETCH"} {
			p := imaptest.Full()
			p.GreetingCaps = false
			srv := imaptest.New(t, p)
			fill(srv, 1)
			srv.Before(verb, 0, imaptest.End(imaptest.Stall))
			start := time.Now()
			a, err := newStore(t, srv, imap.Options{}).Login(t.Context(), alice)
			if err == nil {
				_, err = a.Open(t.Context())
				a.Close()
			}
			wantKind(t, err, upstream.Unavailable)
			if d := time.Since(start); d > 2*time.Minute {
				t.Errorf("%s: given up after %v", verb, d)
			}
		}
	})
}

func TestABodyThatStallsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := imaptest.New(t, imaptest.Full())
		fill(srv, 1)
		s := open(t, newStore(t, srv, imap.Options{}))
		srv.Before("UID FETCH", 0, imaptest.CutLiteral(10, imaptest.Stall))
		start := time.Now()
		_, err := s.retrieve(0, upstream.Extent{})
		wantKind(t, err, upstream.Unavailable)
		if d := time.Since(start); d > 2*time.Minute {
			t.Errorf("given up after %v", d)
		}
		s.Close()
	})
}

func TestTheContextEndsABody(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	srv.INBOX().Append(strings.Repeat("x", 1<<20))
	s := open(t, newStore(t, srv, imap.Options{}))
	ctx, cancel := context.WithCancelCause(t.Context())
	b, err := s.Retrieve(ctx, 0, upstream.Extent{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	why := errors.New("enough")
	cancel(why)
	_, err = io.Copy(io.Discard, b)
	wantKind(t, err, upstream.Unavailable)
	if !errors.Is(err, why) {
		t.Errorf("the error %v does not tell the cause", err)
	}
}
