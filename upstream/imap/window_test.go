package imap_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/imap/ledger"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

func newLedger(t testing.TB, file string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), ledger.Options{File: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// shownUIDs are the UIDs that a session on the store shows.
func shownUIDs(t testing.TB, s *imap.Store) string {
	t.Helper()
	v := open(t, s)
	defer v.Close()
	return v.uids()
}

func (s *session) uids() string {
	var out []string
	for _, id := range strings.Fields(s.ids()) {
		_, uid, _ := strings.Cut(id, ".")
		out = append(out, uid)
	}
	return strings.Join(out, " ")
}

func wantShown(t testing.TB, s *imap.Store, want string) {
	t.Helper()
	if got := shownUIDs(t, s); got != want {
		t.Errorf("%q are shown, want %q", got, want)
	}
}

// The conformance suite sees nothing of a window that holds all of a mailbox.
func TestAStoreWithAWindowIsAStore(t *testing.T) {
	for _, tt := range []struct {
		profile imaptest.Profile
		policy  imap.Policy
		window  imap.Window
	}{
		{imaptest.Full(), imap.Hide, imap.Window{Since: 24 * time.Hour}},
		{imaptest.Courier(), imap.Expunge, imap.Window{Unseen: true}},
		{imaptest.Minimal(), imap.Trash, imap.Window{Newest: 1 << 20}},
	} {
		t.Run(tt.profile.Name, func(t *testing.T) {
			t.Parallel()
			upstreamtest.Run(t, benchHarness(tt.profile, imap.Options{Delete: tt.policy, Window: tt.window}))
		})
	}
}

func TestAWindowShowsWhatIsInIt(t *testing.T) {
	const day = 24 * time.Hour
	for _, p := range []imaptest.Profile{imaptest.Full(), imaptest.Courier(), imaptest.Minimal()} {
		for i, tt := range []struct {
			window imap.Window
			want   string
		}{
			{imap.Window{Since: 3 * day}, "2 3 4 5 6"},
			{imap.Window{Since: day}, "4 5 6"},
			{imap.Window{Unseen: true}, "1 3 5 6"},
			{imap.Window{Newest: 2}, "5 6"},
			{imap.Window{Newest: 100}, "1 2 3 4 5 6"},
			{imap.Window{Unseen: true, Newest: 3}, "3 5 6"},
			{imap.Window{Since: day, Unseen: true}, "5 6"},
			{imap.Window{Since: 1000 * day, Newest: 1}, "6"},
		} {
			file := filepath.Join(t.TempDir(), fmt.Sprint(i))
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(day / 2)
				srv := imaptest.New(t, p)
				fill(srv, 6) // the last today at noon, the others a day apart
				for uid := range uint32(6) {
					srv.INBOX().SetDate(uid+1, time.Now().UTC().AddDate(0, 0, int(uid)-5))
				}
				srv.INBOX().SetFlags(2, `\Seen`)
				srv.INBOX().SetFlags(4, `\Seen`)
				store := newStore(t, srv, imap.Options{Window: tt.window, Ledger: newLedger(t, file)})
				if got := shownUIDs(t, store); got != tt.want {
					t.Errorf("%s: %+v shows %q, want %q", p.Name, tt.window, got, tt.want)
				}
			})
		}
	}
}

// The date of receipt is compared without its time, in the zone of the server:
// what is younger is never missed, what is two days older never shown.
func TestAWindowOfDaysIsNeverTooSmall(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for i := range 60 {
			time.Sleep(time.Duration(r.Int64N(int64(50 * time.Hour))))
			srv := imaptest.New(t, imaptest.Full())
			days := 1 + r.IntN(5)
			since := time.Duration(days) * 24 * time.Hour
			zone := time.FixedZone("", (r.IntN(27)-12)*3600) // from -12 to +14
			var want, never []string
			for n := range 40 {
				age := time.Duration(r.Int64N(int64(10 * 24 * time.Hour)))
				uid := srv.INBOX().Append(message(n))
				srv.INBOX().SetDate(uid, time.Now().Add(-age).In(zone))
				switch {
				case age < since:
					want = append(want, fmt.Sprint(uid))
				case age > since+49*time.Hour+14*time.Hour:
					never = append(never, fmt.Sprint(uid))
				}
			}
			l := newLedger(t, filepath.Join(dir, fmt.Sprint(i)))
			store := newStore(t, srv, imap.Options{Window: imap.Window{Since: since}, Ledger: l})
			got := strings.Fields(shownUIDs(t, store))
			for _, uid := range want {
				if !slices.Contains(got, uid) {
					t.Errorf("%d days, zone %v: %s is not shown, it is young enough", days, zone, uid)
				}
			}
			for _, uid := range never {
				if slices.Contains(got, uid) {
					t.Errorf("%d days, zone %v: %s is shown, it is far too old", days, zone, uid)
				}
			}
			store.Close()
			l.Close()
		}
	})
}

// What was shown once stays: over the next sessions, another window, and a
// restart.
func TestWhatWasShownOnceStays(t *testing.T) {
	for _, cached := range []bool{false, true} {
		srv := imaptest.New(t, imaptest.Full())
		box := srv.INBOX()
		fill(srv, 5)
		file := filepath.Join(t.TempDir(), "ledger")
		l := newLedger(t, file)
		o := imap.Options{Window: imap.Window{Unseen: true}, Ledger: l}
		if cached {
			o.Cache = newCache(t, listcache.Options{})
		}
		box.SetFlags(2, `\Seen`)
		store := newStore(t, srv, o)
		wantShown(t, store, "1 3 4 5")
		box.SetFlags(1, `\Seen`)
		box.SetFlags(4, `\Seen`)
		wantShown(t, store, "1 3 4 5")
		box.Append(message(6))
		box.Append(message(7), `\Seen`)
		wantShown(t, store, "1 3 4 5 6")
		box.Expunge(3)
		wantShown(t, store, "1 4 5 6")
		box.SetFlags(2) // unread again
		wantShown(t, store, "1 2 4 5 6")
		box.SetFlags(2, `\Seen`)

		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		o.Ledger = newLedger(t, file)
		store = newStore(t, srv, o)
		wantShown(t, store, "1 2 4 5 6")
		o.Window = imap.Window{Newest: 1}
		store = newStore(t, srv, o)
		wantShown(t, store, "1 2 4 5 6 7")
		for range 3 {
			box.Append(message(8))
		}
		wantShown(t, store, "1 2 4 5 6 7 10")
	}
}

func TestAWindowOfTheNewestGrowsUntilTheyAreDeleted(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 10)
	store := newStore(t, srv, imap.Options{Window: imap.Window{Newest: 3}, Ledger: newLedger(t, filepath.Join(t.TempDir(), "ledger"))})
	wantShown(t, store, "8 9 10")
	fill(srv, 2)
	wantShown(t, store, "8 9 10 11 12")
	s := open(t, store)
	if rec, err := s.Update(t.Context(), upstream.Changes{Remove: []int{0, 1, 2, 3}}); err != nil || rec.Removed != 4 {
		t.Errorf("Update() = %+v, %v", rec, err)
	}
	s.Close()
	wantShown(t, store, "6 7 12") // the newest three
}

// What is outside of the window is not touched, and does not move the numbers.
func TestOnlyWhatIsShownIsDeleted(t *testing.T) {
	for _, policy := range []imap.Policy{imap.Expunge, imap.Trash, imap.Hide} {
		for _, p := range []imaptest.Profile{imaptest.Full(), imaptest.WithoutUIDPLUS(), imaptest.WithoutMOVE()} {
			srv := imaptest.New(t, p)
			srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
			box := srv.INBOX()
			fill(srv, 9)
			for _, uid := range []uint32{1, 3, 4, 8} {
				box.SetFlags(uid, `\Seen`)
			}
			store := newStore(t, srv, imap.Options{Delete: policy, Window: imap.Window{Unseen: true}, Ledger: newLedger(t, filepath.Join(t.TempDir(), "ledger")), Cache: newCache(t, listcache.Options{})})
			s := open(t, store)
			if got := s.uids(); got != "2 5 6 7 9" {
				t.Fatalf("%s are shown", got)
			}
			for i, uid := range []int{2, 5, 6, 7, 9} {
				if got, err := s.retrieve(i, upstream.Extent{}); err != nil || got != message(uid) {
					t.Errorf("message %d: %q, %v", i, got, err)
				}
			}
			before := srv.Journal().Len()
			if rec, err := s.Update(t.Context(), upstream.Changes{Remove: []int{1, 4}, Seen: []int{0, 1}}); err != nil || rec.Removed != 2 {
				t.Errorf("Update() = %+v, %v", rec, err)
			}
			for _, e := range srv.Journal().Since(before) {
				if m := e.Mutation; e.Kind == imaptest.Mutated && m.Mailbox == "INBOX" && !slices.Contains([]uint32{2, 5, 9}, m.UID) {
					t.Errorf("%s: %v", p.Name, m)
				}
			}
			s.Close()
			wantShown(t, store, "2 6 7")
		}
	}
}

// The cache keeps the whole list, the window is cut out of it.
func TestAWindowAndAKnownListGoTogether(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 4)
	srv.INBOX().SetFlags(1, `\Seen`)
	c := newCached(t, srv, imap.Options{Window: imap.Window{Unseen: true}, Ledger: newLedger(t, filepath.Join(t.TempDir(), "ledger"))})
	for _, tt := range []struct {
		name          string
		change        func()
		uids          string
		how, commands string
	}{
		{"first", func() {}, "2 3 4", "full", "EXAMINE, UID FETCH 1:*, UID SEARCH RETURN (ALL) UNSEEN"},
		{"unchanged", func() {}, "2 3 4", "unchanged", "EXAMINE, UID SEARCH RETURN (ALL) UNSEEN"},
		{"added", func() { srv.INBOX().Append(message(5)) }, "2 3 4 5", "added", "EXAMINE, UID FETCH 4:*, UID SEARCH RETURN (ALL) UNSEEN"},
		{"all_known", func() { srv.INBOX().Expunge(1) }, "2 3 4 5", "removed", "EXAMINE, UID SEARCH RETURN (ALL) ALL"},
		{"still", func() {}, "2 3 4 5", "unchanged", "EXAMINE"}, // all of them were shown: there is nothing to ask
	} {
		tt.change()
		s, how, commands := c.visit(t)
		if s.uids() != tt.uids || how != tt.how || commands != tt.commands {
			t.Errorf("%s: %q, %s by %s, want %q, %s by %s", tt.name, s.uids(), how, commands, tt.uids, tt.how, tt.commands)
		}
		s.Close()
	}
}

// A maildrop's window is one, by whichever way it is reached; that of another
// mailbox, or under another UIDVALIDITY, is another.
func TestTheWindowIsOfTheMaildrop(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full(), imaptest.Master("master", "key"))
	fill(srv, 3)
	other := srv.Mailbox(imaptest.DefaultUser, "Other")
	for i := range 3 {
		other.Append(message(i))
	}
	store := newStore(t, srv, imap.Options{Window: imap.Window{Unseen: true}, Ledger: newLedger(t, filepath.Join(t.TempDir(), "ledger"))})
	shown := func(c upstream.Credentials) string {
		t.Helper()
		d, err := account(t, store, c).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return (&session{t, nil, d}).uids()
	}
	shown(alice)
	for uid := range uint32(3) {
		srv.INBOX().SetFlags(uid+1, `\Seen`)
		other.SetFlags(uid+1, `\Seen`)
	}
	if got := shown(forAlice); got != "1 2 3" {
		t.Errorf("the master user is shown %q", got)
	}
	if got := shown(in("Other")); got != "" {
		t.Errorf("in another mailbox %q are shown", got)
	}
	srv.INBOX().Recreate()
	srv.INBOX().Append(message(1), `\Seen`)
	srv.INBOX().Append(message(2))
	if got := shown(alice); got != "2" {
		t.Errorf("in the mailbox that was made anew %q are shown", got)
	}
}

// What cannot be written down is not shown.
func TestNothingIsShownBeforeItIsWrittenDown(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 3)
	file := filepath.Join(t.TempDir(), "ledger")
	l := newLedger(t, file)
	store := newStore(t, srv, imap.Options{Window: imap.Window{Newest: 2}, Ledger: l})
	wantShown(t, store, "2 3")
	fill(srv, 1)
	a := account(t, store, alice)
	d, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Shown(a.Key(), srv.INBOX().UIDValidity())
	for i := range d.Len() {
		var uid uint32
		id := string(d.AppendUIDL(nil, i))
		fmt.Sscanf(id[strings.IndexByte(id, '.')+1:], "%d", &uid)
		if !s.Has(uid) {
			t.Errorf("%s is shown and not written down (%v)", id, err)
		}
	}
	fill(srv, 1)
	l.Close()
	_, err = account(t, store, alice).Open(t.Context())
	wantKind(t, err, upstream.Unavailable)

	full, err := ledger.Open(t.Context(), ledger.Options{File: filepath.Join(t.TempDir(), "full"), Octets: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	_, err = account(t, newStore(t, srv, imap.Options{Window: imap.Window{Newest: 2}, Ledger: full}), alice).Open(t.Context())
	wantKind(t, err, upstream.Internal)

	l = newLedger(t, file)
	store = newStore(t, srv, imap.Options{Window: imap.Window{Newest: 2}, Ledger: l})
	if err := os.Truncate(file, 4096); err != nil {
		t.Fatal(err)
	}
	_, err = account(t, store, alice).Open(t.Context())
	wantKind(t, err, upstream.Internal)
}

func TestASearchOfTheWindowThatFailsFailsTheLogin(t *testing.T) {
	for name, action := range map[string]imaptest.Action{
		"no": imaptest.NO("not now"), "bad": imaptest.BAD("what"), "bye": imaptest.BYE("x"), "cut": imaptest.End(imaptest.FIN),
		"too_many": imaptest.Raw("* SEARCH" + strings.Repeat(" 1 3", 2000) + "\r\n{tag} OK\r\n"),
	} {
		srv := imaptest.New(t, imaptest.Full())
		fill(srv, 3)
		l := newLedger(t, filepath.Join(t.TempDir(), "ledger"))
		srv.Before("UID SEARCH", 1, action)
		store := newStore(t, srv, imap.Options{Window: imap.Window{Unseen: true}, Ledger: l})
		a := account(t, store, alice)
		if _, err := a.Open(t.Context()); upstream.KindOf(err) != upstream.Unavailable || err == nil {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
		wantShown(t, store, "1 2 3")
	}
}

func TestAWindowNeedsALedgerAndSense(t *testing.T) {
	l := newLedger(t, filepath.Join(t.TempDir(), "ledger"))
	for _, o := range []imap.Options{
		{Window: imap.Window{Unseen: true}},
		{Window: imap.Window{Newest: -1}, Ledger: l},
		{Window: imap.Window{Since: time.Hour}, Ledger: l},
		{Window: imap.Window{Since: -24 * time.Hour}, Ledger: l},
	} {
		o.Host = "imap.example.org"
		if _, err := imap.New(o); err == nil {
			t.Errorf("%+v is taken", o.Window)
		}
	}
}

// Against a model: random changes by others, and sessions that come and go. What
// was shown stays until it is gone, and what is in the window is shown.
func TestAWindowIsSticky(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 5))
		p := imaptest.Profiles()[seed%5]
		srv := imaptest.New(t, p)
		srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
		box := srv.INBOX()
		file := filepath.Join(t.TempDir(), "ledger")
		o := imap.Options{Delete: imap.Policy(seed % 3), Trash: "Bin", Cache: newCache(t, listcache.Options{})}
		shown := map[string]bool{}
		for range 12 {
			for range r.IntN(6) {
				box.Append(message(r.IntN(1000)), [][]string{nil, {`\Seen`}}[r.IntN(2)]...)
			}
			for _, m := range box.Messages() {
				switch {
				case r.IntN(12) == 0:
					box.Expunge(m.UID)
				case r.IntN(6) == 0 && !m.Has(imap.HiddenKeyword) && !m.Has(`\Deleted`):
					box.SetFlags(m.UID, [][]string{nil, {`\Seen`}}[r.IntN(2)]...)
				}
			}
			o.Window = []imap.Window{{Unseen: true}, {Newest: 1 + r.IntN(5)}, {Unseen: true, Newest: 1 + r.IntN(5)}}[r.IntN(3)]
			l := newLedger(t, file)
			o.Ledger = l
			store := newStore(t, srv, o)
			s := open(t, store)
			got := strings.Fields(s.uids())
			var want []string
			left := o.Window.Newest
			list := box.Messages()
			slices.Reverse(list)
			for _, m := range list {
				uid := fmt.Sprint(m.UID)
				if m.Has(imap.HiddenKeyword) || !p.Has("UIDPLUS") && m.Has(`\Deleted`) {
					continue
				}
				is := (!o.Window.Unseen || !m.Has(`\Seen`)) && (o.Window.Newest == 0 || left > 0)
				if is {
					left--
				}
				if is || shown[uid] {
					want = append(want, uid)
					shown[uid] = true
				}
			}
			slices.Reverse(want)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, %s, %+v: %v are shown, want %v", seed, p.Name, o.Window, got, want)
			}
			var remove []int
			for i := range got {
				if r.IntN(5) == 0 {
					remove = append(remove, i)
				}
			}
			if rec, err := s.Update(t.Context(), upstream.Changes{Remove: remove}); err != nil || rec.Removed != len(remove) {
				t.Fatalf("seed %d: Update() = %+v, %v", seed, rec, err)
			}
			s.Close()
			store.Close()
			l.Close()
		}
	}
}
