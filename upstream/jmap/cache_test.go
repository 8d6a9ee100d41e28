package jmap_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

// cachedStore is a store with a cache, which tells how it listed last.
func cachedStore(t *testing.T, s *jmaptest.Server, octets int64, change func(*jmap.Options)) (*jmap.Store, *string) {
	t.Helper()
	how := new(string)
	cache := jmap.NewCache(octets)
	return newStore(t, s, func(o *jmap.Options) {
		o.Cache, o.Trace.Listed = cache, func(h string) { *how = h }
		if change != nil {
			change(o)
		}
	}), how
}

// listedAs opens the maildrop, and compares it with that of a store that knows
// nothing.
func listedAs(t *testing.T, s *jmaptest.Server, store *jmap.Store) {
	t.Helper()
	_, got := open(t, store)
	_, want := open(t, newStore(t, s, nil))
	text := func(m upstream.Maildrop) (out []string) {
		for i := range m.Len() {
			out = append(out, fmt.Sprintf("%s %d", m.AppendUIDL(nil, i), m.Size(i)))
		}
		return out
	}
	if g, w := text(got), text(want); !slices.Equal(g, w) {
		t.Errorf("listed %q, want %q", g, w)
	}
}

// TestTheNextLoginAsksForWhatChanged, and finds the maildrop as it is.
func TestTheNextLoginAsksForWhatChanged(t *testing.T) {
	second := func(n int) time.Time { return time.Date(2026, 10, 1, 0, 0, n, 0, time.UTC) }
	for _, tt := range []struct {
		name     string
		change   func(s *jmaptest.Server, ids []string)
		how      string
		requests int // with the one for the session
	}{
		{"nothing", func(*jmaptest.Server, []string) {}, "unchanged", 2},
		{"the_state_alone", func(s *jmaptest.Server, _ []string) { s.Touch() }, "unchanged", 2},
		{"one_came", func(s *jmaptest.Server, _ []string) { s.Deliver([]byte("longer than the others")) }, "added", 3},
		{"one_came_among_the_old", func(s *jmaptest.Server, _ []string) { s.DeliverAt([]byte(small), second(2), jmaptest.Inbox) }, "added", 3},
		{"one_came_elsewhere", func(s *jmaptest.Server, _ []string) { s.DeliverAt([]byte(small), second(99), jmaptest.Archive) }, "added", 3},
		{"one_came_and_went", func(s *jmaptest.Server, _ []string) { s.Destroy(s.Deliver([]byte(small))) }, "unchanged", 2},
		{"the_first_went", func(s *jmaptest.Server, ids []string) { s.Destroy(ids[0]) }, "removed", 2},
		{"the_last_went", func(s *jmaptest.Server, ids []string) { s.Destroy(ids[4]) }, "removed", 2},
		{"one_went_to_another_mailbox", func(s *jmaptest.Server, ids []string) {
			s.Put(ids[2], jmaptest.Archive, true)
			s.Put(ids[2], jmaptest.Inbox, false)
		}, "removed", 3},
		{"one_went_and_came_back", func(s *jmaptest.Server, ids []string) {
			s.Put(ids[2], jmaptest.Inbox, false)
			s.Put(ids[2], jmaptest.Inbox, true)
		}, "removed", 3},
		{"one_was_read", func(s *jmaptest.Server, ids []string) { s.Mark(ids[1], "$seen", true) }, "removed", 3},
		{"one_was_hidden", func(s *jmaptest.Server, ids []string) { s.Mark(ids[1], jmap.HiddenKeyword, true) }, "removed", 3},
		{"all_went", func(s *jmaptest.Server, ids []string) {
			for _, id := range ids {
				s.Destroy(id)
			}
		}, "removed", 2},
		{"all_went_and_one_came", func(s *jmaptest.Server, ids []string) {
			for _, id := range ids {
				s.Destroy(id)
			}
			s.Deliver([]byte(small))
		}, "removed", 3},
		{"more_than_a_request_tells", func(s *jmaptest.Server, ids []string) {
			for range 20 {
				s.Deliver([]byte(small))
			}
		}, "full", 0},
		{"the_server_forgot", func(s *jmaptest.Server, ids []string) { s.Destroy(ids[0]); s.Forget(); s.Touch() }, "full", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{MaxGet: 10})
			var ids []string
			for i := range 5 {
				ids = append(ids, s.DeliverAt([]byte(small), second(i), jmaptest.Inbox))
			}
			store, how := cachedStore(t, s, 1<<20, nil)
			open(t, store)
			if *how != "full" {
				t.Errorf("at first: %s", *how)
			}
			tt.change(s, ids)
			before := len(s.Requests())
			open(t, store)
			if *how != tt.how {
				t.Errorf("it was listed as %s, want %s", *how, tt.how)
			}
			if n := len(s.Requests()) - before; tt.requests > 0 && n != tt.requests {
				t.Errorf("%d requests, want those for the session, for the changes, and for what has changed if anything has", n)
			}
			listedAs(t, s, store)
			if *how == "full" {
				t.Error("after that it is listed from the start again")
			}
		})
	}
}

// TestWhatIsNotProvedIsListedFromTheStart: a server that is wrong about what
// changed makes no list wrong.
func TestWhatIsNotProvedIsListedFromTheStart(t *testing.T) {
	tell := func(method string, change func(r map[string]any)) func(string, map[string]any) {
		return func(m string, r map[string]any) {
			if m == method {
				change(r)
			}
		}
	}
	for _, tt := range []struct {
		name    string
		rewrite func(method string, reply map[string]any)
	}{
		{"what_came_is_not_told", tell("Email/changes", func(r map[string]any) { r["created"] = []string{} })},
		{"what_went_is_not_told", tell("Email/changes", func(r map[string]any) { r["destroyed"] = []string{} })},
		{"neither_is_told", tell("Email/changes", func(r map[string]any) { r["created"], r["destroyed"] = []string{}, []string{} })},
		{"another_went_than_is_told", tell("Email/changes", func(r map[string]any) { r["created"], r["destroyed"] = []string{}, []string{"Mother"} })},
		{"it_is_since_another_state", tell("Email/changes", func(r map[string]any) { r["oldState"] = "s0" })},
		{"it_is_up_to_another_state", tell("Email/changes", func(r map[string]any) { r["newState"] = "s1" })},
		{"there_are_more", tell("Email/changes", func(r map[string]any) { r["hasMoreChanges"] = true })},
		{"the_state_has_no_end", tell("Email/changes", func(r map[string]any) { r["newState"] = strings.Repeat("s", 256) })},
		{"no_total", tell("Email/query", func(r map[string]any) {
			if r["position"] != 0 {
				delete(r, "total")
			}
		})},
		{"a_message_is_left_out", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) > 0 && l[0].(map[string]any)["keywords"] != nil {
				r["list"] = []any{}
			}
		}},
		{"the_last_has_another_size", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) == 1 && l[0].(map[string]any)["keywords"] == nil {
				l[0].(map[string]any)["size"] = 1
			}
		}},
		{"the_last_has_another_time", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) == 1 && l[0].(map[string]any)["keywords"] == nil {
				l[0].(map[string]any)["receivedAt"] = "2030-01-01T00:00:00Z"
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			var ids []string
			for range 5 {
				ids = append(ids, s.Deliver([]byte(small)))
			}
			store, how := cachedStore(t, s, 1<<20, nil)
			open(t, store)
			s.Destroy(ids[1])
			s.Deliver([]byte(small))
			s.Rewrite(tt.rewrite)
			_, m := open(t, store)
			if *how != "full" || m.Len() != 5 || slices.Contains(uidls(m), ids[1]) {
				t.Errorf("listed as %s: %q", *how, uidls(m))
			}
		})
	}
	for _, problem := range []string{"cannotCalculateChanges", "unknownMethod", "serverFail", "requestTooLarge"} {
		s := jmaptest.New(t, jmaptest.Options{})
		s.Deliver([]byte(small))
		store, how := cachedStore(t, s, 1<<20, nil)
		open(t, store)
		s.OnCall(func(m string, _ map[string]any) *jmaptest.Reply {
			if m != "Email/changes" {
				return nil
			}
			return jmaptest.Problem(problem)
		})
		if open(t, store); *how != "full" {
			t.Errorf("%s: listed as %s", problem, *how)
		}
	}
}

// TestChangesAreOfOneState: what happens while they are asked for is in none of the
// answers, or in some.
func TestChangesAreOfOneState(t *testing.T) {
	for _, tt := range []struct {
		at   string
		came bool // there is something that changed
	}{{"Email/query", false}, {"Email/get of the last", false}, {"Email/get of what changed", true}} {
		s := jmaptest.New(t, jmaptest.Options{})
		first := s.Deliver([]byte(small))
		s.Deliver([]byte(small))
		store, how := cachedStore(t, s, 1<<20, nil)
		open(t, store)
		if tt.came {
			s.Deliver([]byte(small))
		}
		once := false
		s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
			if m == "Email/get" {
				m += " of the last"
				if len(args["properties"].([]any)) > 3 {
					m = "Email/get of what changed"
				}
			}
			if m == tt.at && !once {
				once = true
				s.Mark(first, "$seen", true)
			}
			return nil
		})
		if open(t, store); *how != "full" || !once {
			t.Errorf("%s in another state: listed as %s", tt.at, *how)
		}
	}
}

// TestAListIsOfTheMailboxThatIsServedNow: the role may go to another one.
func TestAListIsOfTheMailboxThatIsServedNow(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	s.DeliverAt([]byte("of the inbox"), time.Unix(0, 0), jmaptest.Inbox)
	s.DeliverAt([]byte("other"), time.Unix(0, 0), jmaptest.Archive)
	store, how := cachedStore(t, s, 1<<20, nil)
	open(t, store)
	s.Rewrite(func(m string, r map[string]any) {
		if m != "Mailbox/get" {
			return
		}
		for _, v := range r["list"].([]any) {
			box := v.(map[string]any)
			delete(box, "role")
			if box["id"] == jmaptest.Archive {
				box["role"] = "inbox"
			}
		}
	})
	if _, m := open(t, store); *how != "full" || m.Len() != 1 || m.Size(0) != 5 {
		t.Errorf("listed as %s: %q", *how, uidls(m))
	}
}

// TestAListOfNoOneStateIsNotKept: what changed while it was listed is in no state,
// be it that one came for one that went, so that the sum is right.
func TestAListOfNoOneStateIsNotKept(t *testing.T) {
	for _, method := range []string{"Email/query", "Email/get"} {
		for at := range 5 {
			for _, another := range []bool{false, true} {
				s := jmaptest.New(t, jmaptest.Options{MaxGet: 2})
				var ids []string
				for range 4 {
					ids = append(ids, s.Deliver([]byte(small)))
				}
				n := 0
				s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
					if m == method {
						if n++; n == at+1 {
							s.DeliverAt([]byte(small), time.Unix(int64(at), 0), jmaptest.Inbox)
							if another {
								s.Put(ids[0], jmaptest.Archive, true)
								s.Put(ids[0], jmaptest.Inbox, false)
							}
						}
					}
					return nil
				})
				store, _ := cachedStore(t, s, 1<<20, nil)
				open(t, store)
				n = 100
				listedAs(t, s, store)
			}
		}
	}
}

// TestListsStayExact through whatever other clients do.
func TestListsStayExact(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := jmaptest.New(t, jmaptest.Options{MaxGet: 8})
	store, how := cachedStore(t, s, 1<<20, nil)
	hows := map[string]int{}
	for range 120 {
		for range random.IntN(6) {
			all := s.Emails("")
			if len(all) == 0 || random.IntN(3) == 0 {
				s.DeliverAt([]byte(strings.Repeat("x", random.IntN(5))), time.Unix(random.Int64N(50), 0),
					[]string{jmaptest.Inbox, jmaptest.Inbox, jmaptest.Archive}[random.IntN(3)])
				continue
			}
			switch e := all[random.IntN(len(all))]; random.IntN(5) {
			case 0:
				s.Destroy(e.ID)
			case 1:
				s.Put(e.ID, jmaptest.Inbox, random.IntN(2) == 0)
			case 2:
				s.Mark(e.ID, "$seen", random.IntN(2) == 0)
			case 3:
				s.Mark(e.ID, jmap.HiddenKeyword, random.IntN(2) == 0)
			}
		}
		if random.IntN(20) == 0 {
			s.Forget()
		}
		listedAs(t, s, store)
		hows[*how]++
	}
	if hows["unchanged"] < 5 || hows["added"] < 5 || hows["removed"] < 5 || hows["full"] > 30 {
		t.Errorf("listed %v", hows)
	}
}

// TestAListIsOfOneMailbox: a list is not taken for that of another, be it as long
// and with the same message at its end, and does not take its place either.
func TestAListIsOfOneMailbox(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	s.DeliverAt([]byte("of the inbox"), time.Unix(0, 0), jmaptest.Inbox)
	s.DeliverAt([]byte("other"), time.Unix(0, 0), jmaptest.Archive)
	s.DeliverAt([]byte("of both"), time.Unix(9, 0), jmaptest.Inbox, jmaptest.Archive)
	cache := jmap.NewCache(1 << 20)
	var hows []string
	for _, mailbox := range []string{"", "Archive", "", "Archive"} {
		store := newStore(t, s, func(o *jmap.Options) {
			o.Cache, o.Mailbox, o.Trace.Listed = cache, mailbox, func(how string) { hows = append(hows, how) }
		})
		_, m := open(t, store)
		if want := map[string]int64{"": 12, "Archive": 5}[mailbox]; m.Len() != 2 || m.Size(0) != want {
			t.Errorf("%q: %d messages, the first of %d octets", mailbox, m.Len(), m.Size(0))
		}
	}
	if want := []string{"full", "full", "unchanged", "unchanged"}; !slices.Equal(hows, want) {
		t.Errorf("listed as %q, want %q", hows, want)
	}
}

// TestTheCacheIsBounded, and 24 octets a message are enough for the ids of Cyrus
// and Fastmail, and for UUIDs.
func TestTheCacheIsBounded(t *testing.T) {
	const n = 2_000
	for _, tt := range []struct {
		name  string
		id    func(i int) string
		limit int64
		how   string
	}{
		{"cyrus", nil, 24*n + 1000, "unchanged"},
		{"uuid", uuid, 24*n + 1000, "unchanged"},
		{"cyrus_in_less", nil, 12 * n, "full"},
		{"longer_than_that", func(i int) string { return fmt.Sprintf("%s-%d", uuid(i), i) }, 24*n + 1000, "full"},
		{"nothing", nil, 0, "full"},
	} {
		s := jmaptest.New(t, jmaptest.Options{ID: tt.id})
		for i := range n {
			s.Deliver(make([]byte, i*31%50_000/1000))
		}
		store, how := cachedStore(t, s, tt.limit, nil)
		open(t, store)
		if open(t, store); *how != tt.how {
			t.Errorf("%s: listed as %s, want %s", tt.name, *how, tt.how)
		}
	}
	t.Run("the_one_used_last_stays", func(t *testing.T) {
		var servers []*jmaptest.Server
		cache := jmap.NewCache(2_000) // two lists
		var how string
		login := func(i int) string {
			store := newStore(t, servers[i], func(o *jmap.Options) {
				o.Cache, o.Trace.Listed = cache, func(h string) { how = h }
				o.URL = fmt.Sprintf("http://127.0.0.%d", i+1)
			})
			open(t, store)
			return how
		}
		for i := range 3 {
			servers = append(servers, jmaptest.New(t, jmaptest.Options{}))
			servers[i].Deliver([]byte(small))
		}
		var got []string
		for _, i := range []int{0, 1, 0, 2, 0, 1} {
			got = append(got, login(i))
		}
		if want := []string{"full", "full", "unchanged", "full", "unchanged", "full"}; !slices.Equal(got, want) {
			t.Errorf("listed as %q, want %q", got, want)
		}
	})
}
