package listcache_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream/imap/listcache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCache(t testing.TB, o listcache.Options) *listcache.Cache {
	t.Helper()
	c, err := listcache.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// log keeps what is logged.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// list is a list of n messages that differs from those of another seed.
func list(n int, seed uint64) *listcache.List {
	r := rand.New(rand.NewPCG(seed, 1))
	l := &listcache.List{UIDValidity: 1 + r.Uint32N(1<<31), UIDs: make([]uint32, n), Octets: make([]int64, n)}
	uid := uint32(0)
	for i := range n {
		uid += 1 + r.Uint32N(3)
		l.UIDs[i], l.Octets[i] = uid, r.Int64N(1<<uint(8+r.IntN(30)))
	}
	l.UIDNext = uid + 1 + r.Uint32N(10)
	return l
}

func key(i int) listcache.Key { return listcache.NewKey("host", fmt.Sprint(i)) }

func want(t *testing.T, c *listcache.Cache, k listcache.Key, want *listcache.List) {
	t.Helper()
	if got := c.Get(k); !reflect.DeepEqual(got, want) {
		t.Errorf("Get() = %.200v, want %.200v", got, want)
	}
}

func TestTheListIsSharedAndNotCopied(t *testing.T) {
	c := newCache(t, listcache.Options{})
	l := list(100, 1)
	c.Put(key(1), l)
	if c.Get(key(1)) != l || c.Get(key(2)) != nil {
		t.Error("Get gives another list")
	}
	c.Drop(key(1))
	want(t, c, key(1), nil)
	c.Drop(key(1))
}

func TestANilCacheHoldsNothing(t *testing.T) {
	var c *listcache.Cache
	c.Put(key(1), list(3, 1))
	c.Drop(key(1))
	if c.Get(key(1)) != nil || c.Close() != nil {
		t.Error("it holds something")
	}
}

func TestWithoutLeavesTheListAsItIs(t *testing.T) {
	l := list(10, 1)
	before := *l
	before.UIDs, before.Octets = append([]uint32(nil), l.UIDs...), append([]int64(nil), l.Octets...)
	out := l.Without(func(uid uint32) bool { return uid == l.UIDs[0] || uid == l.UIDs[5] })
	if !reflect.DeepEqual(*l, before) {
		t.Error("the list was written")
	}
	wantUIDs := append(append([]uint32(nil), l.UIDs[1:5]...), l.UIDs[6:]...)
	wantOctets := append(append([]int64(nil), l.Octets[1:5]...), l.Octets[6:]...)
	if !reflect.DeepEqual(out.UIDs, wantUIDs) || !reflect.DeepEqual(out.Octets, wantOctets) || out.UIDNext != l.UIDNext || out.UIDValidity != l.UIDValidity {
		t.Errorf("Without() = %v", out)
	}
	if l.Without(func(uint32) bool { return false }) != l {
		t.Error("a copy where nothing is left out")
	}
	if out := l.Without(func(uint32) bool { return true }); out.Len() != 0 {
		t.Errorf("%d are left of none", out.Len())
	}
}

// Those that were used last are kept, within the bound.
func TestMemoryIsBounded(t *testing.T) {
	const each = 12*1000 + 1000 // of a list of 1000 messages, generously
	c := newCache(t, listcache.Options{Memory: 3 * each})
	for i := range 3 {
		c.Put(key(i), list(1000, uint64(i)))
	}
	want(t, c, key(0), list(1000, 0)) // now 1 is the oldest
	c.Put(key(3), list(1000, 3))
	want(t, c, key(1), nil)
	for _, i := range []int{0, 2, 3} {
		want(t, c, key(i), list(1000, uint64(i)))
	}
	c.Put(key(0), list(10_000, 9)) // larger than all: not kept, nor what it replaces
	want(t, c, key(0), nil)
	want(t, c, key(3), list(1000, 3))
	for i := range 1000 {
		c.Put(key(100+i), list(0, 1)) // empty ones take room too
	}
	kept := 0
	for i := range 1000 {
		if c.Get(key(100+i)) != nil {
			kept++
		}
	}
	if kept == 0 || kept > 3*each/100 {
		t.Errorf("%d empty lists are kept in %d octets", kept, 3*each)
	}
}

func TestKeysDoNotRunIntoEachOther(t *testing.T) {
	seen := map[listcache.Key][]string{}
	for _, parts := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {"", "abc"}, {"ABC"}, {"c", "ab"}, {}} {
		k := listcache.NewKey(parts...)
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have one key", parts, other)
		}
		seen[k] = parts
	}
}

func TestConcurrentUse(t *testing.T) {
	c := newCache(t, listcache.Options{Memory: 40_000, File: t.TempDir() + "/lists", FileOctets: 20_000})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for range 500 {
				i := r.IntN(20)
				switch r.IntN(4) {
				case 0:
					c.Put(key(i), list(r.IntN(400), uint64(i)))
				case 1:
					c.Drop(key(i))
				default:
					if l := c.Get(key(i)); l != nil && !reflect.DeepEqual(l, list(l.Len(), uint64(i))) {
						t.Errorf("key %d has another list", i)
					}
				}
			}
		})
	}
	wg.Wait()
}

// What is asked for every day stays in the file, though it never changes.
func TestAListInUseStaysInTheFile(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, err := listcache.New(t.Context(), listcache.Options{File: dir + "/lists", FileOctets: 40_000})
		if err != nil {
			t.Fatal(err)
		}
		c.Put(key(0), list(1000, 0))
		c.Put(key(1), list(1000, 1))
		time.Sleep(25 * time.Hour)
		want(t, c, key(0), list(1000, 0)) // in memory
		for i := 2; i < 9; i++ {
			synctest.Wait()
			c.Put(key(i), list(1000, uint64(i)))
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c, err = listcache.New(t.Context(), listcache.Options{File: dir + "/lists"})
		if err != nil {
			t.Fatal(err)
		}
		want(t, c, key(0), list(1000, 0))
		want(t, c, key(1), nil)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	c := newCache(b, listcache.Options{})
	c.Put(key(1), list(200_000, 1))
	b.ReportAllocs()
	for b.Loop() {
		if c.Get(key(1)) == nil {
			b.Fatal("not there")
		}
	}
}

// A list of 200,000 messages that is not in memory.
func BenchmarkGetFromTheFile(b *testing.B) {
	file := b.TempDir() + "/lists"
	c := newCache(b, listcache.Options{File: file})
	c.Put(key(1), list(200_000, 1))
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	c = newCache(b, listcache.Options{File: file, Memory: 1})
	b.ReportAllocs()
	for b.Loop() {
		if c.Get(key(1)) == nil {
			b.Fatal("not there")
		}
	}
}
