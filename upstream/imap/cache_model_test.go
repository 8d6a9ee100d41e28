package imap_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/imap/listcache"
)

// world is one mailbox, other clients at random work in it, and a store that
// knows it from session to session.
type world struct {
	t       *testing.T
	r       *rand.Rand
	srv     *imaptest.Server
	store   *cached
	cache   *listcache.Cache
	during  bool               // others work while it is listed
	fixed   []imaptest.Message // the mailbox as it was when it was last opened
	under   uint32             // and its UIDVALIDITY
	held    []*visitor         // open sessions
	tally   map[string]int
	deleted []string // hidden or \Deleted: what no session shows
}

// visitor is an open session and what it showed at first.
type visitor struct {
	*session
	first string
	sizes []int64
}

func newWorld(t *testing.T, seed uint64, p imaptest.Profile, policy imap.Policy, tally map[string]int) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 11)), srv: imaptest.New(t, p), tally: tally}
	w.srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
	w.deleted = []string{imap.HiddenKeyword}
	if !p.Has("UIDPLUS") {
		w.deleted = append(w.deleted, `\Deleted`)
	}
	w.cache = newCache(t, listcache.Options{})
	w.store = newCached(t, w.srv, imap.Options{Delete: policy, Trash: "Bin", Cache: w.cache})
	look := imaptest.Do(func(imaptest.Command) { w.fixed, w.under = w.srv.INBOX().Messages(), w.srv.INBOX().UIDValidity() })
	between := imaptest.Do(func(imaptest.Command) {
		if w.during && w.r.IntN(4) == 0 {
			w.others(1 + w.r.IntN(2))
		}
	})
	for _, verb := range []string{"EXAMINE", "SELECT"} {
		w.srv.After(verb, 0, look)
		w.srv.After(verb, 0, between)
	}
	for _, verb := range []string{"UID FETCH", "UID SEARCH"} {
		w.srv.Before(verb, 0, between)
		w.srv.After(verb, 0, between)
	}
	return w
}

// others lets other clients do n things.
func (w *world) others(n int) {
	box := w.srv.INBOX()
	for range n {
		uids := box.UIDs()
		pick := func() uint32 { return uids[w.r.IntN(len(uids))] }
		switch c := w.r.IntN(100); {
		case c < 45 || len(uids) == 0:
			box.Append(strings.Repeat("x", 1+w.r.IntN(50)) + "\r\n\r\n")
		case c < 75:
			box.Expunge(pick())
		case c < 80:
			box.Expunge(uids[len(uids)-1]) // the witness
		case c < 90:
			box.SetFlags(pick(), [][]string{{imap.HiddenKeyword}, {`\Deleted`}, {`\Seen`}, nil}[w.r.IntN(4)]...)
		case c < 95:
			box.SetUIDNext(uids[len(uids)-1] + 1 + w.r.Uint32N(10))
		case c < 97:
			box.Expunge(uids...)
		case c < 98:
			box.Recreate()
		default:
			box.Append("a\r\n\r\n")
			box.Expunge(box.UIDs()[len(box.UIDs())-1])
		}
	}
}

// visit opens a session, whose snapshot has to be the mailbox as it was when it
// was opened.
func (w *world) visit() {
	before := w.srv.Journal().Len()
	a, err := w.store.Login(w.t.Context(), alice)
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := a.Open(w.t.Context())
	if err != nil {
		a.Close()
		if e, ok := errors.AsType[*upstream.Error](err); !ok || !w.during || e.Kind != upstream.Unavailable {
			w.t.Fatal(err)
		}
		w.tally["given up"]++
		return
	}
	s := &session{w.t, a, d}
	w.tally[w.store.how[len(w.store.how)-1]]++
	for _, e := range w.srv.Journal().Since(before) {
		if e.Kind == imaptest.Received {
			w.tally["commands"]++
		}
	}
	if w.during {
		w.showsAbout(s)
	} else {
		s.shows(w.under, slices.DeleteFunc(slices.Clone(w.fixed), func(m imaptest.Message) bool {
			return slices.ContainsFunc(w.deleted, m.Has)
		}))
	}
	v := &visitor{session: s, first: s.ids()}
	for i := range s.Len() {
		v.sizes = append(v.sizes, s.Size(i))
	}
	w.held = append(w.held, v)
	w.known()
}

// showsAbout checks a snapshot that was made while flags changed: it lacks
// nothing but what was flagged, and holds nothing that was not there.
func (w *world) showsAbout(s *session) {
	flagged := map[uint32]bool{}
	for _, e := range w.srv.Journal().Entries() {
		if m := e.Mutation; e.Kind == imaptest.Mutated && m.Change == imaptest.Flagged && m.UIDValidity == w.under {
			flagged[m.UID] = true
		}
	}
	var left []uint32
	if w.srv.INBOX().UIDValidity() == w.under {
		left = w.srv.INBOX().UIDs()
	}
	i := 0
	for _, m := range w.fixed {
		if i == s.Len() || string(s.AppendUIDL(nil, i)) != fmt.Sprintf("%d.%d", w.under, m.UID) {
			if !flagged[m.UID] {
				w.t.Errorf("UID %d of %d is not shown: %s", m.UID, w.under, s.ids())
			}
			continue
		}
		// Courier makes a size up for what went meanwhile.
		if madeUp := w.srv.Profile().Dialect.Gone == imaptest.GoneMadeUp && !slices.Contains(left, m.UID); s.Size(i) != m.Size && !madeUp {
			w.t.Errorf("UID %d has %d octets, and %d are shown", m.UID, m.Size, s.Size(i))
		}
		i++
	}
	if i < s.Len() {
		w.t.Errorf("more is shown than was there: %s", s.ids())
	}
}

// known checks that what is kept lacks no message that is there.
func (w *world) known() {
	l := w.cache.Get(listcache.NewKey("imap", "127.0.0.1", "143", "INBOX", alice.User))
	if l == nil || l.UIDValidity != w.srv.INBOX().UIDValidity() {
		return
	}
	for _, m := range w.srv.INBOX().Messages() {
		i, ok := slices.BinarySearch(l.UIDs, m.UID)
		if m.UID < l.UIDNext && (!ok || l.Octets[i] != m.Size) {
			w.t.Errorf("UID %d is there and not known: %v", m.UID, l)
		}
	}
}

// leave ends a session, some of them with deletions.
func (w *world) leave(s *visitor) {
	if got := s.ids(); got != s.first {
		w.t.Errorf("a snapshot changed from %s to %s", s.first, got)
	}
	for i, size := range s.sizes {
		if s.Size(i) != size {
			w.t.Errorf("a size changed from %d to %d", size, s.Size(i))
		}
	}
	var marked []int
	for i := range s.Len() {
		if w.r.IntN(4) == 0 {
			marked = append(marked, i)
		}
	}
	if len(marked) > 0 {
		if _, err := s.update(marked...); err == nil {
			w.tally["deleted"]++
		}
		w.known()
	}
	s.Close()
	w.held = slices.DeleteFunc(w.held, func(v *visitor) bool { return v == s })
}

// Whatever other clients do between and during sessions: what a session with a
// known list shows is the mailbox as the server announced it.
func TestAKnownListIsTheMailbox(t *testing.T) {
	profiles := append(imaptest.Profiles(), imaptest.Full().Without("ESEARCH").Named("without-esearch"))
	noUIDNext := imaptest.Courier().Named("no-uidnext")
	noUIDNext.NoUIDNext = true
	profiles = append(profiles, noUIDNext)
	sessions, seeds := 40, 2
	if testing.Short() {
		seeds = 1
	}
	for _, p := range profiles {
		t.Run(p.Name, func(t *testing.T) {
			tally := map[string]int{}
			for seed := range uint64(seeds) {
				for _, policy := range []imap.Policy{imap.Expunge, imap.Trash, imap.Hide} {
					for _, during := range []bool{false, true} {
						w := newWorld(t, seed, p, policy, tally)
						w.others(10)
						for range sessions {
							w.others(w.r.IntN(3))
							w.during = during
							w.visit()
							w.during = during && w.r.IntN(2) == 0
							w.others(w.r.IntN(2))
							for _, s := range slices.Clone(w.held) {
								if w.r.IntN(2) == 0 {
									w.leave(s)
								}
							}
							w.during = false
							if t.Failed() {
								t.Fatalf("seed %d, policy %d, during %v", seed, policy, during)
							}
						}
						for _, s := range slices.Clone(w.held) {
							w.leave(s)
						}
					}
				}
			}
			for _, how := range imap.Listings() {
				if tally[how] == 0 && !p.NoUIDNext {
					t.Errorf("no session was listed as %s: %v", how, tally)
				}
			}
			t.Log(tally)
		})
	}
}
