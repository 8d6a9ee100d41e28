package jmap_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
	"github.com/popgate/popgate/upstream/readahead"
)

func nth(i int) string {
	return fmt.Sprintf("Subject: message %d\r\n\r\nText of message %d.\r\n", i, i) + strings.Repeat("x", i%50)
}

// each retrieves the messages from, from+step, ... and compares them.
func each(t *testing.T, m upstream.Maildrop, from, step int, e upstream.Extent) {
	t.Helper()
	for i := from; i >= 0 && i < m.Len(); i += step {
		if got, err := retrieve(t, m, i, e); err != nil || got != nth(i) {
			t.Errorf("message %d: %q, %v", i, got, err)
		}
	}
}

// crowd counts the downloads that a server has under way, and delays each.
func crowd(s *jmaptest.Server, delay time.Duration) (most *atomic.Int64) {
	most = new(atomic.Int64)
	var now atomic.Int64
	s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
		if r.Op != "download" {
			return nil
		}
		n := now.Add(1)
		context.AfterFunc(r.HTTP.Context(), func() { now.Add(-1) })
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return &jmaptest.Fault{Delay: delay}
	})
	return most
}

// TestMessagesInARowAreFetchedAhead, as many at a time as the server allows, and the
// pool is whole in the end.
func TestMessagesInARowAreFetchedAhead(t *testing.T) {
	const messages, delay = 200, 20 * time.Millisecond
	for _, tt := range []struct {
		name       string
		concurrent int
		from, step int
		e          upstream.Extent
		most       int64
		within     time.Duration
	}{
		{"retr", 5, 0, 1, upstream.Extent{}, 5, messages * delay / 3},
		{"from_the_end", 5, messages - 1, -1, upstream.Extent{}, 5, messages * delay / 3},
		{"top_0", 5, 0, 1, upstream.Extent{Top: true}, 5, messages * delay / 3},
		{"two_at_a_time", 2, 0, 1, upstream.Extent{}, 2, messages * delay * 11 / 10},
		// What the server sees of a download may end a moment after the next begins.
		{"one_at_a_time", 1, 0, 1, upstream.Extent{}, 2, messages * delay * 11 / 10},
		{"every_other", 5, 0, 2, upstream.Extent{}, 2, messages * delay * 6 / 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := jmaptest.New(t, jmaptest.Options{MaxConcurrent: tt.concurrent})
				for i := range messages {
					s.Deliver([]byte(nth(i)))
				}
				pool := readahead.NewPool(1<<20, 4<<20)
				var used, dropped int
				a, m := open(t, newStore(t, s, func(o *jmap.Options) {
					o.ReadAhead = pool
					o.Trace.ReadAhead = func(u, d int) { used += u; dropped += d }
				}))
				most := crowd(s, delay)
				start := time.Now()
				each(t, m, tt.from, tt.step, tt.e)
				took := time.Since(start)
				a.Close()
				synctest.Wait()
				if n := most.Load(); n > tt.most || tt.most == 5 && n < 4 {
					t.Errorf("%d downloads at a time, want %d or fewer", n, tt.most)
				}
				if took > tt.within {
					t.Errorf("it took %v, want %v or less", took, tt.within)
				}
				if ahead := tt.concurrent > 1 && tt.step != 2; ahead != (used > 0) || dropped != 0 {
					t.Errorf("%d messages fetched ahead were asked for, %d let go", used, dropped)
				}
				if left := pool.Left(); left != 4<<20 {
					t.Errorf("the pool has %d octets left of %d", left, 4<<20)
				}
				t.Logf("%d messages in %v, %d ahead", messages, took, used)
			})
		})
	}
}

// TestAClientThatGoesElsewhereCostsAWindow and no more, and gets what it asks for.
func TestAClientThatGoesElsewhereCostsAWindow(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			for i := range 100 {
				s.Deliver([]byte(nth(i)))
			}
			pool := readahead.NewPool(1<<20, 1<<20)
			a, m := open(t, newStore(t, s, func(o *jmap.Options) { o.ReadAhead = pool }))
			crowd(s, delay)
			for _, i := range []int{3, 4, 90, 91, 50, 7, 8, 8, 9} {
				if got, err := retrieve(t, m, i, upstream.Extent{}); err != nil || got != nth(i) {
					t.Errorf("message %d: %q, %v", i, got, err)
				}
			}
			r, err := m.Update(t.Context(), upstream.Changes{Remove: []int{8}})
			if err != nil || r.Removed != 1 {
				t.Errorf("Update: %+v, %v", r, err)
			}
			a.Close()
			synctest.Wait()
			if left := pool.Left(); left != 1<<20 {
				t.Errorf("the pool has %d octets left of %d", left, 1<<20)
			}
		})
	}
}

// TestCloseEndsWhatIsFetchedAhead, by another goroutine and while it is under way.
func TestCloseEndsWhatIsFetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		for i := range 50 {
			s.Deliver([]byte(nth(i)))
		}
		pool := readahead.NewPool(1<<20, 1<<20)
		a, m := open(t, newStore(t, s, func(o *jmap.Options) { o.ReadAhead = pool }))
		each(t, m, 0, 30, upstream.Extent{}) // 0 and 30
		s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
			if r.Op != "download" {
				return nil
			}
			return &jmaptest.Fault{Delay: time.Second}
		})
		if _, err := retrieve(t, m, 31, upstream.Extent{}); err != nil {
			t.Fatal(err)
		}
		if pool.Left() == 1<<20 {
			t.Error("nothing is fetched ahead")
		}
		start := time.Now()
		go func() {
			time.Sleep(10 * time.Millisecond)
			a.Close()
		}()
		_, err := retrieve(t, m, 32, upstream.Extent{})
		if err == nil || time.Since(start) != 10*time.Millisecond {
			t.Errorf("Retrieve beside Close: %v after %v", err, time.Since(start))
		}
		synctest.Wait()
		if left := pool.Left(); left != 1<<20 {
			t.Errorf("the pool has %d octets left of %d", left, 1<<20)
		}
	})
}

// TestWhatFailsAheadIsAskedForAlone: nothing that was cut or that is of another
// length is given out, and after three windows no more is fetched ahead.
func TestWhatFailsAheadIsAskedForAlone(t *testing.T) {
	for name, f := range map[string]jmaptest.Fault{
		"cut":             {End: jmaptest.FIN, After: 10},
		"of_other_length": {Change: func(b []byte) []byte { return b[1:] }},
		"longer":          {Change: func(b []byte) []byte { return append([]byte("x"), b...) }},
		"gone":            {Status: 404},
		"busy":            {Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{TCP: true, Chunked: name == "longer" || name == "of_other_length"})
			for i := range 100 {
				s.Deliver([]byte(nth(i)))
			}
			bad := map[string]bool{}
			for i, e := range s.Emails("") {
				bad[e.Blob] = i%10 == 5
			}
			s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
				if !bad[r.Blob] {
					return nil
				}
				return &f
			})
			pool := readahead.NewPool(1<<20, 1<<20)
			_, m := open(t, newStore(t, s, func(o *jmap.Options) { o.ReadAhead = pool }))
			for i := range m.Len() {
				got, err := retrieve(t, m, i, upstream.Extent{})
				if i%10 != 5 && (err != nil || got != nth(i)) {
					t.Errorf("message %d: %q, %v", i, got, err)
				}
				if i%10 == 5 && err == nil {
					t.Errorf("message %d is taken for whole: %q", i, got)
				}
			}
			if n := len(s.Requests()); n > 3*70+150 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestACutBodyGoesOn where the server knows ranges, once, and only if the rest is
// proved to be of the same.
func TestACutBodyGoesOn(t *testing.T) {
	whole := large(100_000)
	for _, tt := range []struct {
		name   string
		ranges bool
		cuts   int
		change func(i int, b []byte) []byte // of the answer i, from 1
		ok     bool
	}{
		{"once", true, 1, nil, true},
		{"twice", true, 2, nil, false},
		{"without_ranges", false, 1, nil, false},
		{"other_octets_before_the_cut", true, 1, func(i int, b []byte) []byte {
			if i == 2 {
				b = []byte(strings.Replace(string(b), "a", "b", 1))
			}
			return b
		}, false},
		{"a_rest_of_another_length", true, 1, func(i int, b []byte) []byte {
			if i == 2 {
				b = b[:len(b)-1]
			}
			return b
		}, false},
	} {
		for _, after := range []int64{0, 1, 511, 512, 40_000, int64(len(whole)) - 1} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, after), func(t *testing.T) {
				s := jmaptest.New(t, jmaptest.Options{TCP: true, Ranges: tt.ranges})
				s.Deliver([]byte(whole))
				_, m := open(t, newStore(t, s, nil))
				n := 0
				s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
					if r.Op != "download" {
						return nil
					}
					n++
					f := &jmaptest.Fault{}
					if i := n; tt.change != nil {
						f.Change = func(b []byte) []byte { return tt.change(i, b) }
					}
					if n <= tt.cuts {
						f.End, f.After = jmaptest.FIN, after
						if n == 2 {
							f.After = 0
						}
					}
					return f
				})
				got, err := retrieve(t, m, 0, upstream.Extent{})
				// With nothing before the cut there is nothing to compare, and a blob is
				// the same for ever.
				ok := tt.ok || tt.name == "other_octets_before_the_cut" && after < 10
				if (err == nil) != ok || ok && !tt.ok && len(got) != len(whole) || tt.ok && got != whole {
					t.Errorf("%d octets of %d, %v", len(got), len(whole), err)
				}
				if err != nil {
					wantKind(t, "Read", err, upstream.Unavailable)
				}
			})
		}
	}
}
