package listcache

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/popgate/popgate/upstream/imap/boltfile"
)

// Options is what a Cache needs to know. Zero values of limits mean the
// defaults.
type Options struct {
	Memory int64 // octets of lists kept in memory; 64 MiB

	File       string // keeps the lists over a restart; "" for none
	FileOctets int64  // of lists kept in the file, which takes up to four times that; 64 MiB

	Logger *slog.Logger // nil discards
}

// refile is how often a list that does not change is written to the file again,
// so that the file does not take it for one that nobody asks for.
const refile = 24 * time.Hour

// A Cache holds the lists of mailboxes, those that were used last. It is safe
// for concurrent use. A nil Cache holds nothing.
type Cache struct {
	max  int64
	file atomic.Pointer[file] // nil without, and as long as another process has it

	stop  context.CancelFunc // of what waits for the file; nil where nothing does
	later sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	used    int64
	entries map[Key]*list.Element // of *entry
	order   *list.List            // the one used last in front
}

type entry struct {
	key   Key
	list  *List
	filed time.Time // when the file was given it
}

// New makes a cache, and opens its file if one is named. An error says what to
// do about the file. One that another process has is no error: while an old and a
// new gateway run side by side the new one has its lists in memory, and takes the
// file as soon as it is free. It waits until ctx ends or Close.
func New(ctx context.Context, o Options) (*Cache, error) {
	if o.Memory <= 0 {
		o.Memory = 64 << 20
	}
	if o.FileOctets <= 0 {
		o.FileOctets = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cache{max: o.Memory, entries: map[Key]*list.Element{}, order: list.New()}
	if o.File == "" {
		return c, nil
	}
	f, err := openFile(o.File, o.FileOctets, o.Logger)
	switch {
	case errors.Is(err, boltfile.ErrInUse):
		o.Logger.Warn("the cache file is in use by another process: the lists are in memory alone until it is free", "op", "cache", "file", o.File)
		ctx, c.stop = context.WithCancel(ctx)
		c.later.Go(func() { c.await(ctx, o) })
		return c, nil
	case err != nil:
		return nil, err
	}
	c.file.Store(f)
	return c, nil
}

// await opens the file once another process has let it go.
func (c *Cache) await(ctx context.Context, o Options) {
	err := boltfile.Await(ctx, func() error {
		f, err := openFile(o.File, o.FileOctets, o.Logger)
		if err == nil {
			c.file.Store(f) // Close waits for this
		}
		return err
	})
	switch {
	case err == nil:
		o.Logger.Info("the cache file is free and in use", "op", "cache", "file", o.File)
	case ctx.Err() == nil:
		o.Logger.Error("the cache file is not used", "op", "cache", "err", err)
	}
}

// Get returns the list of a mailbox, or nil. Without it in memory it is looked
// for in the file.
func (c *Cache) Get(k Key) *List {
	if c == nil {
		return nil
	}
	f := c.file.Load()
	if l := c.fromMemory(k); l != nil || f == nil {
		return l
	}
	l := f.get(k)
	if l == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[k]; ok { // put there meanwhile
		return e.Value.(*entry).list
	}
	c.keep(k, l, time.Time{})
	return l
}

func (c *Cache) fromMemory(k Key) *List {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.entries[k]
	if !ok {
		return nil
	}
	c.order.MoveToFront(at)
	e := at.Value.(*entry)
	if f := c.file.Load(); f != nil && time.Since(e.filed) > refile {
		e.filed = time.Now()
		f.put(k, e.list)
	}
	return e.list
}

// Put keeps l, which nobody may write any more, as the list of a mailbox. One
// that is larger than the whole cache is not kept in memory. The file is written
// later.
func (c *Cache) Put(k Key, l *List) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(k)
	c.keep(k, l, time.Now())
	if f := c.file.Load(); f != nil {
		f.put(k, l)
	}
}

// Drop forgets the list of a mailbox.
func (c *Cache) Drop(k Key) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(k)
	if f := c.file.Load(); f != nil {
		f.put(k, nil)
	}
}

// Close writes to the file what is to be written, and closes it. The cache goes
// on in memory. It may be called more than once.
func (c *Cache) Close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
	c.later.Wait()
	if f := c.file.Load(); f != nil {
		return f.close()
	}
	return nil
}

// keep adds an entry, and takes out those that were not used for the longest
// time until all fit.
func (c *Cache) keep(k Key, l *List, filed time.Time) {
	size := l.size()
	if size > c.max {
		return
	}
	for c.used+size > c.max {
		c.forget(c.order.Back().Value.(*entry).key)
	}
	c.used += size
	c.entries[k] = c.order.PushFront(&entry{k, l, filed})
}

func (c *Cache) forget(k Key) {
	if at, ok := c.entries[k]; ok {
		c.used -= c.order.Remove(at).(*entry).list.size()
		delete(c.entries, k)
	}
}
