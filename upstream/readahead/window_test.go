package readahead_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/popgate/popgate/upstream/readahead"
)

const (
	windowOctets = 1 << 20
	poolOctets   = 4 << 20
)

// user is a store's part: it asks a window for messages and fills it at once.
type user struct {
	w       *readahead.Window
	size    int64
	took    time.Duration
	fetched []int // how many messages came ahead with each request that had to be made
}

func newUser(p *readahead.Pool, messages int, size int64) *user {
	return &user{w: readahead.NewWindow(p, messages), size: size}
}

// ask returns whether the message was there.
func (u *user) ask(i int, e readahead.Extent) bool {
	if _, _, ok := u.w.Take(i, e); ok {
		return true
	}
	ahead, _ := u.w.Plan(i, e, func(int) int64 { return u.size })
	for _, j := range ahead {
		copy(u.w.Room(j, u.size), "text")
	}
	u.w.Arrived(u.took)
	u.fetched = append(u.fetched, len(ahead))
	return false
}

func TestASequenceIsFetchedAhead(t *testing.T) {
	for name, down := range map[string]bool{"up": false, "down": true} {
		t.Run(name, func(t *testing.T) {
			p := readahead.NewPool(windowOctets, poolOctets)
			u := newUser(p, 1000, 4000)
			for n := range 1000 {
				if down {
					n = 999 - n
				}
				u.ask(n, readahead.Whole)
			}
			// The second request is the first that can know of the sequence.
			if want := []int{0, 16, 64, 258, 258}; !slices.Equal(u.fetched[:5], want) || len(u.fetched) > 8 {
				t.Errorf("fetched ahead %v, want it to begin with %v and to be short", u.fetched, want)
			}
			if got := p.Left(); got != poolOctets {
				t.Errorf("%d octets are reserved still", poolOctets-got)
			}
		})
	}
}

func TestNothingIsFetchedAheadWithoutASequence(t *testing.T) {
	for name, asked := range map[string][]int{
		"jumps":       {5, 9, 2, 7, 0},
		"again":       {3, 3, 3},
		"two_apart":   {0, 2, 4, 6},
		"first_alone": {0},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(readahead.NewPool(windowOctets, poolOctets), 10, 100)
			for _, i := range asked {
				u.ask(i, readahead.Whole)
			}
			if sum(u.fetched) > 0 {
				t.Errorf("fetched ahead %v", u.fetched)
			}
		})
	}
	t.Run("of_one_extent_only", func(t *testing.T) {
		u := newUser(readahead.NewPool(windowOctets, poolOctets), 10, 100)
		u.ask(0, readahead.Top)
		u.ask(1, readahead.Whole)
		u.ask(2, readahead.Top)
		if sum(u.fetched) > 0 {
			t.Errorf("fetched ahead %v", u.fetched)
		}
	})
	t.Run("of_no_size", func(t *testing.T) {
		u := newUser(readahead.NewPool(windowOctets, poolOctets), 10, math.MaxInt64)
		u.ask(0, readahead.Whole)
		if ahead, _ := u.w.Plan(1, readahead.Whole, func(int) int64 { return math.MaxInt64 }); len(ahead) > 0 {
			t.Errorf("fetched ahead %v", ahead)
		}
	})
	t.Run("without_room", func(t *testing.T) {
		for _, p := range []*readahead.Pool{nil, readahead.NewPool(0, poolOctets), readahead.NewPool(windowOctets, 0), readahead.NewPool(100, 100)} {
			u := newUser(p, 10, 100)
			for i := range 10 {
				u.ask(i, readahead.Whole)
			}
			if sum(u.fetched) > 0 {
				t.Errorf("fetched ahead %v", u.fetched)
			}
		}
	})
}

func TestAClientThatGoesElsewhereCostsOneWindow(t *testing.T) {
	p := readahead.NewPool(windowOctets, poolOctets)
	u := newUser(p, 1000, 1000)
	u.ask(0, readahead.Whole)
	u.ask(1, readahead.Whole)
	if u.ask(2, readahead.Top) {
		t.Error("the top was taken for the whole")
	}
	if got := p.Left(); got != poolOctets {
		t.Errorf("%d octets are reserved still", poolOctets-got)
	}
	u.ask(10, readahead.Whole)
	u.ask(11, readahead.Whole)
	if got := u.fetched[len(u.fetched)-1]; got == 0 || got > u.fetched[1] {
		t.Errorf("the new sequence began with %d, want as few as the first one, %d", got, u.fetched[1])
	}
	if n := u.w.Drop(); n != u.fetched[len(u.fetched)-1] {
		t.Errorf("dropped %d, held %d", n, u.fetched[len(u.fetched)-1])
	}
}

func TestAMessageAheadIsTakenOverThoseBefore(t *testing.T) {
	u := newUser(readahead.NewPool(windowOctets, poolOctets), 100, 1000)
	u.ask(0, readahead.Whole)
	u.ask(1, readahead.Whole)
	if _, dropped, ok := u.w.Take(5, readahead.Whole); !ok || dropped != 3 {
		t.Errorf("Take(5): %v, %d dropped; want 2, 3 and 4 dropped", ok, dropped)
	}
	if _, _, ok := u.w.Take(3, readahead.Whole); ok {
		t.Error("3 is there after 5")
	}
}

func TestASlowServiceShrinksTheWindow(t *testing.T) {
	sizes := func(took time.Duration) (fetched []int) {
		u := newUser(readahead.NewPool(windowOctets, poolOctets), 5000, 1000)
		u.took = took
		for i := range 600 {
			u.ask(i, readahead.Whole)
		}
		return u.fetched[1:4]
	}
	fast, steady, slow := sizes(100*time.Millisecond), sizes(600*time.Millisecond), sizes(5*time.Second)
	if !(fast[1] > 3*fast[0] && fast[2] > 3*fast[1]) {
		t.Errorf("fast: %v, want it to grow", fast)
	}
	if steady[0] != steady[1] || steady[1] != steady[2] {
		t.Errorf("steady: %v, want it to stay", steady)
	}
	if slow[1] >= slow[0] || slow[2] == 0 {
		t.Errorf("slow: %v, want it to shrink, but not to nothing", slow)
	}
}

func TestNothingIsHeldBeforeAllArrived(t *testing.T) {
	p := readahead.NewPool(windowOctets, poolOctets)
	w := readahead.NewWindow(p, 100)
	cost := func(int) int64 { return 1000 }
	w.Plan(0, readahead.Whole, cost)
	ahead, _ := w.Plan(1, readahead.Whole, cost)
	for _, j := range ahead {
		w.Room(j, 1000)
	}
	if _, _, ok := w.Take(2, readahead.Whole); ok {
		t.Error("a message is there that nobody vouches for")
	}
	if n := w.Drop(); n != len(ahead) {
		t.Errorf("dropped %d of %d", n, len(ahead))
	}
	w.Arrived(0)
	if _, _, ok := w.Take(2, readahead.Whole); ok {
		t.Error("what was dropped has arrived")
	}
	if got := p.Left(); got != poolOctets {
		t.Errorf("%d octets are reserved still", poolOctets-got)
	}
}

func TestRoomIsForWhatWasPlanned(t *testing.T) {
	w := readahead.NewWindow(readahead.NewPool(windowOctets, windowOctets), 100)
	cost := func(int) int64 { return 1000 }
	if w.Room(1, 10) != nil {
		t.Error("room without a plan")
	}
	w.Plan(0, readahead.Whole, cost)
	ahead, _ := w.Plan(1, readahead.Whole, cost)
	last := ahead[len(ahead)-1]
	for _, tt := range []struct {
		i      int
		octets int64
		want   bool
	}{{2, 1000, true}, {2, 1000, false}, {1, 1000, false}, {0, 1, false}, {last + 1, 1, false}, {99, 1, false}, {-1, 1, false},
		{3, 5000, true}, {4, windowOctets + 1, false}, {4, math.MaxInt64 / 2, false}, {5, 0, true}} {
		if got := w.Room(tt.i, tt.octets); (got != nil) != tt.want || int64(len(got)) != map[bool]int64{true: tt.octets}[tt.want] {
			t.Errorf("Room(%d, %d) has %d octets, want %v", tt.i, tt.octets, len(got), tt.want)
		}
	}
}

// TestWindowModel: whatever is asked for, only what was fetched is given, the
// pool is never overdrawn, and in the end nothing is missing in it.
func TestWindowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := readahead.NewPool(rapid.Int64Range(0, 200_000).Draw(t, "window"), rapid.Int64Range(0, 400_000).Draw(t, "pool"))
		total := p.Left()
		sizes := rapid.SliceOfN(rapid.Int64Range(0, 30_000), 1, 60).Draw(t, "sizes")
		windows := []*readahead.Window{readahead.NewWindow(p, len(sizes)), readahead.NewWindow(p, len(sizes))}
		next := []int{0, 0}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			k := rapid.IntRange(0, 1).Draw(t, "who")
			w := windows[k]
			if rapid.IntRange(0, 20).Draw(t, "leave") == 0 {
				w.Drop()
				continue
			}
			i := next[k]
			if rapid.IntRange(0, 9).Draw(t, "jump") == 0 {
				i = rapid.IntRange(0, len(sizes)-1).Draw(t, "to")
			}
			next[k] = (i + 1) % len(sizes)
			e := readahead.Extent(rapid.SampledFrom([]int{0, 0, 0, 0, 1}).Draw(t, "extent"))
			text, _, ok := w.Take(i, e)
			if ok {
				if want := fmt.Sprint(i, e); int64(len(text)) != sizes[i] || string(text) != want[:min(len(want), len(text))]+string(make([]byte, max(0, len(text)-len(want)))) {
					t.Fatalf("message %d: %q", i, text)
				}
				continue
			}
			ahead, _ := w.Plan(i, e, func(j int) int64 { return sizes[j] })
			if !slices.IsSorted(ahead) || slices.Contains(ahead, i) {
				t.Fatalf("beside %d: %v", i, ahead)
			}
			for _, j := range ahead {
				if rapid.IntRange(0, 9).Draw(t, "lost") > 0 {
					copy(w.Room(j, sizes[j]), fmt.Sprint(j, e))
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "fails") == 0 {
				w.Drop()
			} else {
				w.Arrived(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			}
			if p.Left() < 0 {
				t.Fatalf("the pool is overdrawn: %d", p.Left())
			}
		}
		for _, w := range windows {
			w.Drop()
		}
		if p.Left() != total {
			t.Fatalf("%d of %d octets are left", p.Left(), total)
		}
	})
}

func sum(ns []int) (total int) {
	for _, n := range ns {
		total += n
	}
	return total
}
