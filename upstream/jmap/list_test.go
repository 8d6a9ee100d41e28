package jmap_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

func uidls(m upstream.Maildrop) (out []string) {
	for i := range m.Len() {
		out = append(out, string(m.AppendUIDL(nil, i)))
	}
	return out
}

// TestOrderIsByTimeAndThenById: within a second the server has an order of its own,
// which is not kept.
func TestOrderIsByTimeAndThenById(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{MaxGet: 2})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var same []string
	for range 5 {
		same = append(same, s.DeliverAt([]byte(small), at, jmaptest.Inbox))
	}
	early := s.DeliverAt([]byte(small), at.Add(-time.Second), jmaptest.Inbox)
	late := s.DeliverAt([]byte(small), at.Add(time.Second), jmaptest.Inbox)
	slices.Sort(same)
	want := append(append([]string{early}, same...), late)
	_, m := open(t, newStore(t, s, nil))
	if got := uidls(m); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

// TestUniqueIDs holds the format for ever.
func TestUniqueIDs(t *testing.T) {
	long := strings.Repeat("L", 71)
	for _, tt := range []struct{ name, id, want string }{
		{"as_it_is", "Mf00d_-9", "Mf00d_-9"},
		{"seventy", long[:70], long[:70]},
		{"seventy_one_is_folded", long, "#ef28ece0c3bf0bc97914ac3a65a56e57f476fbde35c8608f6906dce945cea006"},
		{"with_the_mark_of_folding", "#x", "#acfa92747bb3b6fcdd0e61da682d2fc4fa45c96f5315faeebfd94fa2697e5a9d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{ID: func(int) string { return tt.id }})
			s.Deliver([]byte(small))
			_, m := open(t, newStore(t, s, nil))
			if got := uidls(m); len(got) != 1 || got[0] != tt.want {
				t.Errorf("unique-id of %q: %q, want %q", tt.id, got, tt.want)
			}
		})
	}
}

// TestAListThatIsNotWholeFailsTheOpen: clients forget what a list lacks.
func TestAListThatIsNotWholeFailsTheOpen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(method string, reply map[string]any)
		want   upstream.Kind
	}{
		{"get_leaves_one_out", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) > 0 {
				r["list"] = l[1:]
			}
		}, upstream.Unavailable},
		{"get_tells_one_twice", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) > 0 {
				r["list"] = append(l[:1:1], l...)
			}
		}, upstream.Unavailable},
		{"get_tells_another", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) > 0 {
				r["list"] = append(l[:1:1], map[string]any{"id": "Mother", "size": 1})
			}
		}, upstream.Unavailable},
		{"negative_size", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) > 0 {
				l[0].(map[string]any)["size"] = -1
			}
		}, upstream.Unavailable},
		{"size_of_no_integer", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) > 0 {
				l[0].(map[string]any)["size"] = 1e300
			}
		}, upstream.Unavailable},
		{"no_time", func(m string, r map[string]any) {
			if l, ok := r["list"].([]any); ok && m == "Email/get" && len(l) > 0 {
				l[0].(map[string]any)["receivedAt"] = "yesterday"
			}
		}, upstream.Unavailable},
		{"no_total", func(m string, r map[string]any) {
			if m == "Email/query" {
				delete(r, "total")
			}
		}, upstream.Unavailable},
		{"total_is_larger", func(m string, r map[string]any) {
			if m == "Email/query" {
				r["total"] = 8
			}
		}, upstream.Unavailable},
		{"total_is_far_larger", func(m string, r map[string]any) {
			if m == "Email/query" {
				r["total"] = 1 << 60
			}
		}, upstream.TooBig},
		{"an_empty_id", func(m string, r map[string]any) {
			if m == "Email/query" {
				r["ids"] = []string{""}
			}
		}, upstream.Unavailable},
		{"an_id_with_a_space", func(m string, r map[string]any) {
			if m == "Email/query" {
				r["ids"] = []string{"a b"}
			}
		}, upstream.Unavailable},
		{"an_endless_id", func(m string, r map[string]any) {
			if m == "Email/query" {
				r["ids"] = []string{strings.Repeat("x", 256)}
			}
		}, upstream.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{TCP: true, MaxGet: 4})
			for range 5 {
				s.Deliver([]byte(small))
			}
			s.Rewrite(tt.change)
			a, err := newStore(t, s, nil).Login(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			_, err = a.Open(t.Context())
			wantKind(t, "Open", err, tt.want)
		})
	}
}

func TestMethodErrorsHaveKinds(t *testing.T) {
	for kind, want := range map[string]upstream.Kind{
		"serverUnavailable": upstream.Unavailable, "serverFail": upstream.Unavailable, "anchorNotFound": upstream.Unavailable,
		"rateLimit": upstream.Unavailable, "never heard of\r\n+OK": upstream.Unavailable,
		"forbidden": upstream.Internal, "accountNotFound": upstream.Internal, "unknownMethod": upstream.Internal,
		"unsupportedFilter": upstream.Internal,
	} {
		for _, method := range []string{"Mailbox/get", "Email/query", "Email/get"} {
			s := jmaptest.New(t, jmaptest.Options{})
			s.OnCall(func(m string, _ map[string]any) *jmaptest.Reply {
				if m != method {
					return nil
				}
				return jmaptest.Problem(kind)
			})
			a, err := newStore(t, s, nil).Login(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			_, err = a.Open(t.Context())
			wantKind(t, method+" "+kind, err, want)
			if err != nil && strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("the error has lines of the server's: %q", err)
			}
			a.Close()
		}
	}
}

// TestMessagesThatComeAndGoWhileListing neither hide nor double another, wherever
// they are; the next page begins behind the last message, not at a number.
func TestMessagesThatComeAndGoWhileListing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *jmaptest.Server, ids []string)
		gone   []int // may be in the list or not
		pages  int
	}{
		{"one_goes_before", func(s *jmaptest.Server, ids []string) { s.Destroy(ids[0]) }, []int{0}, 3},
		{"one_goes_behind", func(s *jmaptest.Server, ids []string) { s.Destroy(ids[5]) }, []int{5}, 2},
		{"many_go_before", func(s *jmaptest.Server, ids []string) { s.Destroy(ids[0]); s.Destroy(ids[1]) }, []int{0, 1}, 3},
		{"the_anchor_goes", func(s *jmaptest.Server, ids []string) { s.Destroy(ids[2]) }, []int{2}, 4},
		{"one_comes_before", func(s *jmaptest.Server, ids []string) {
			s.DeliverAt([]byte(small), time.Unix(0, 0), jmaptest.Inbox)
		}, nil, 3},
		{"one_comes_behind", func(s *jmaptest.Server, ids []string) { s.Deliver([]byte(small)) }, nil, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{MaxGet: 3})
			var ids []string
			for range 7 {
				ids = append(ids, s.Deliver([]byte(small)))
			}
			pages := 0
			s.OnCall(func(m string, _ map[string]any) *jmaptest.Reply {
				if m == "Email/query" {
					if pages++; pages == 2 {
						tt.change(s, ids)
					}
				}
				return nil
			})
			_, m := open(t, newStore(t, s, nil))
			got := uidls(m)
			for i, id := range ids {
				n := 0
				for _, g := range got {
					if g == id {
						n++
					}
				}
				if n != 1 && !(slices.Contains(tt.gone, i) && n == 0) {
					t.Errorf("message %d is listed %d times", i, n)
				}
			}
			if pages != tt.pages {
				t.Errorf("%d pages, want %d", pages, tt.pages)
			}
		})
	}
	t.Run("the_anchor_goes_each_time", func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{MaxGet: 1})
		s.Deliver([]byte(small))
		s.Deliver([]byte(small))
		s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
			if args["anchor"] != nil {
				return jmaptest.Problem("anchorNotFound")
			}
			return nil
		})
		a, err := newStore(t, s, nil).Login(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		_, err = a.Open(t.Context())
		wantKind(t, "Open", err, upstream.Unavailable)
	})
}

// TestALostAnswerIsAskedForOnceMore, where the request changes nothing.
func TestALostAnswerIsAskedForOnceMore(t *testing.T) {
	for _, method := range []string{"Mailbox/get", "Email/query"} {
		for _, after := range []int64{-2, -1, 20} {
			for _, times := range []int{1, 2} {
				s := jmaptest.New(t, jmaptest.Options{TCP: true})
				s.Deliver([]byte(small))
				s.Hook(jmaptest.Times(times, jmaptest.Method(method), jmaptest.Fault{End: jmaptest.FIN, After: after}))
				a, err := newStore(t, s, nil).Login(t.Context(), alice)
				if err != nil {
					t.Fatal(err)
				}
				_, err = a.Open(t.Context())
				if times == 1 && err != nil {
					t.Errorf("%s cut at %d once: %v", method, after, err)
				}
				if after > 0 && times == 2 {
					wantKind(t, method+" cut twice", err, upstream.Unavailable)
				}
				a.Close()
			}
		}
	}
}

// TestAServerThatRepeatsAPageIsGivenUp, and does not fill the memory.
func TestAServerThatRepeatsAPageIsGivenUp(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{MaxGet: 50})
	for range 100 {
		s.Deliver([]byte(small))
	}
	s.OnCall(func(m string, args map[string]any) *jmaptest.Reply {
		delete(args, "anchor")
		return nil
	})
	store := newStore(t, s, func(o *jmap.Options) { o.MaxMessages = 1000 })
	a, err := store.Login(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	_, err = a.Open(t.Context())
	wantKind(t, "Open", err, upstream.Unavailable)
}

func TestLimits(t *testing.T) {
	t.Run("messages", func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		for range 3 {
			s.Deliver([]byte(small))
		}
		a, err := newStore(t, s, func(o *jmap.Options) { o.MaxMessages = 2 }).Login(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		_, err = a.Open(t.Context())
		wantKind(t, "Open", err, upstream.TooBig)
	})
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprintf("octets_of_an_answer/without_a_length_%v", chunked), func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{TCP: true, Chunked: chunked})
			a, err := newStore(t, s, nil).Login(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			s.Hook(jmaptest.Once(jmaptest.Method("Email/query"), jmaptest.Fault{Change: func(b []byte) []byte {
				return append([]byte(strings.Repeat(" ", 32<<20)), b...)
			}}))
			_, err = a.Open(t.Context())
			wantKind(t, "Open", err, upstream.Unavailable)
		})
	}
	t.Run("time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{MaxGet: 1})
			for range 100 {
				s.Deliver([]byte(small))
			}
			a, err := newStore(t, s, nil).Login(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			s.Hook(func(jmaptest.Request) *jmaptest.Fault { return &jmaptest.Fault{Delay: 30 * time.Second} })
			start := time.Now()
			_, err = a.Open(t.Context())
			wantKind(t, "Open", err, upstream.Unavailable)
			if d := time.Since(start); d != 5*time.Minute {
				t.Errorf("it took %v", d)
			}
		})
	})
}

// TestMailboxes: by role, by name, by path.
func TestMailboxes(t *testing.T) {
	list := []jmaptest.Mailbox{
		{ID: "i", Name: "Eingang", Role: "inbox"}, {ID: "w", Name: "Work"}, {ID: "o", Name: "Orders", Parent: "w"},
		{ID: "n", Name: "Orders", Parent: "o"}, {ID: "s", Name: "a/b"}, {ID: "loop", Name: "Loop", Parent: "pool"}, {ID: "pool", Name: "Pool", Parent: "loop"},
	}
	for name, want := range map[string]string{
		"": "i", "INBOX": "i", "inbox": "i", "Eingang": "i", "Work": "w", "Work/Orders": "o", "Work/Orders/Orders": "n", "a/b": "s",
		"Orders": "", "work": "", "Loop": "", "Pool/Loop": "", "Work/": "",
	} {
		s := jmaptest.New(t, jmaptest.Options{})
		s.SetMailboxes(list...)
		for _, m := range list {
			s.DeliverAt([]byte("Subject: "+m.ID+"\r\n\r\n"), time.Unix(0, 0), m.ID)
		}
		a, err := newStore(t, s, func(o *jmap.Options) { o.Mailbox = name }).Login(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.Open(t.Context())
		if want == "" {
			wantKind(t, fmt.Sprintf("Open of %q", name), err, upstream.Internal)
		} else if err != nil {
			t.Errorf("Open of %q: %v", name, err)
		} else if got, err := retrieve(t, m, 0, upstream.Extent{}); err != nil || got != "Subject: "+want+"\r\n\r\n" {
			t.Errorf("%q shows %q, %v; want the message of %s", name, got, err, want)
		}
		a.Close()
	}
}

// uuid is an id as Apache James makes them.
func uuid(i int) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(b[8:], uint64(i)*0xc2b2ae3d27d4eb4f)
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// TestASnapshotIsSmall: 24 octets a message or less, with ids as Cyrus and Fastmail
// make them and with UUIDs.
func TestASnapshotIsSmall(t *testing.T) {
	const n = 10_000
	for name, id := range map[string]func(i int) string{
		"cyrus":                    nil,
		"uuid":                     uuid,
		"short_and_of_all_letters": func(i int) string { return fmt.Sprintf("e%07X", i) },
		"not_alike":                func(i int) string { return fmt.Sprint("x", i) },
	} {
		t.Run(name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{ID: id})
			want := map[string]bool{}
			for range n {
				want[s.Deliver([]byte(small))] = true
			}
			store := newStore(t, s, nil)
			heap := func() int64 {
				runtime.GC()
				runtime.GC() // pools give up what they hold at the second
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			_, m := open(t, store) // warms up what the client and the server keep
			for _, id := range uidls(m) {
				if !want[id] {
					t.Fatalf("%q is no id that was delivered", id)
				}
				delete(want, id)
			}
			if len(want) > 0 {
				t.Errorf("%d are missing", len(want))
			}
			const more = 2
			drops := []upstream.Maildrop{m}
			before := heap()
			for range more {
				_, m := open(t, store)
				drops = append(drops, m)
			}
			got := (heap() - before) / (more * n)
			runtime.KeepAlive(drops)
			t.Logf("%d octets a message", got)
			if got < 4 || got > 24 {
				t.Errorf("%d octets a message", got)
			}
		})
	}
}
