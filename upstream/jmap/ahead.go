package jmap

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/popgate/popgate/upstream/readahead"
)

// maxAheadRequests is how many requests fetch ahead at a time, beside the one for
// the message that the client waits for.
const maxAheadRequests = 4

// maxAheadFailures is how often in a session fetching ahead may fail. Then each
// message is asked for on its own: a message that the server cannot give must not
// cost a window again and again.
const maxAheadFailures = 3

// ahead is what a maildrop fetches before it is asked for. The session plans,
// starts and takes; the requests of a batch fill room that was reserved for them.
type ahead struct {
	drop     *maildrop
	requests int // at a time; 0: the server does not allow any

	mu     sync.Mutex // Close comes from another goroutine
	window *readahead.Window
	closed bool

	batch  *batch // under way, or ended and not looked at yet; nil: none
	failed int    // batches
}

// batch are the messages that are fetched ahead together.
type batch struct {
	items    []item
	next     atomic.Int64 // the item that no request has yet
	failed   atomic.Bool
	unwanted bool // the session ended it
	start    time.Time
	took     time.Duration // when done
	cancel   context.CancelFunc
	done     chan struct{} // closed when nobody writes into the room of an item any more
}

// item is one message of a batch.
type item struct {
	i    int
	url  string
	room []byte
}

func newAhead(m *maildrop) *ahead {
	o := &m.client.store.o
	a := &ahead{drop: m, requests: maxAheadRequests, window: readahead.NewWindow(o.ReadAhead, m.Len())}
	if n := m.client.limits.Concurrent; n > 0 {
		a.requests = int(min(n-1, maxAheadRequests))
	}
	context.AfterFunc(m.life, a.close)
	return a
}

// take returns message i, if it was fetched ahead. It waits for a batch that has
// it, and ends one that has not.
func (a *ahead) take(ctx context.Context, i int, e readahead.Extent) (text []byte, ok bool) {
	if b := a.underWay(); b != nil {
		if !b.has(i) {
			b.unwanted = true
			b.cancel()
		}
		select {
		case <-b.done:
			a.settle(b)
		case <-ctx.Done():
			return nil, false
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	text, dropped, ok := a.window.Take(i, e)
	if ok {
		a.drop.client.store.o.Trace.readAhead(1, dropped)
	}
	return text, ok
}

func (a *ahead) underWay() *batch {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.batch
}

// settle decides what becomes of a batch that is done.
func (a *ahead) settle(b *batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.batch = nil
	if !b.failed.Load() {
		a.window.Arrived(b.took)
		return
	}
	if !b.unwanted {
		a.failed++
	}
	a.letGo()
}

// letGo drops what is held. The caller has the lock.
func (a *ahead) letGo() { a.drop.client.store.o.Trace.readAhead(0, a.window.Drop()) }

// halt ends the requests of a batch that nobody will ask for.
func (a *ahead) halt() {
	if b := a.underWay(); b != nil {
		b.unwanted = true
		b.cancel()
	}
}

// close gives back the room, when nobody writes into it any more.
func (a *ahead) close() {
	a.mu.Lock()
	a.closed = true
	b := a.batch
	a.mu.Unlock()
	if b != nil {
		<-b.done // at once: the requests end with the life of the maildrop
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.letGo()
}

// begin is told that message i is asked for, and begins to fetch what comes next
// beside it. The blobs of the messages are known where they may be fetched.
func (a *ahead) begin(i int, e readahead.Extent) {
	m := a.drop
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.batch != nil {
		return
	}
	planned, dropped := a.window.Plan(i, e, func(i int) int64 {
		size := m.Size(i)
		switch {
		case a.requests < 1 || a.failed >= maxAheadFailures || m.known(i) == "",
			e == readahead.Top && size > firstPiece: // most of it is not wanted
			return math.MaxInt64 // more than any window has room for
		}
		return size
	})
	m.client.store.o.Trace.readAhead(0, dropped)
	b := &batch{done: make(chan struct{}), start: time.Now()}
	for _, i := range planned {
		url, err := m.client.blobURL(m.known(i))
		room := a.window.Room(i, m.Size(i))
		if err != nil || room == nil {
			a.letGo()
			return
		}
		b.items = append(b.items, item{i, url, room})
	}
	if len(b.items) == 0 {
		return
	}
	if planned[0] < i { // in the order in which they are going to be asked for
		slices.Reverse(b.items)
	}
	a.batch = b
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(m.life)
	go a.run(ctx, b)
}

// run fetches the items of a batch.
func (a *ahead) run(ctx context.Context, b *batch) {
	var all sync.WaitGroup
	for range min(a.requests, len(b.items)) {
		all.Go(func() {
			for n := b.next.Add(1); int(n) <= len(b.items) && !b.failed.Load(); n = b.next.Add(1) {
				if a.fetch(ctx, b.items[n-1]) != nil {
					b.failed.Store(true)
					b.cancel() // the rest of them is let go anyway
				}
			}
		})
	}
	all.Wait()
	b.cancel()
	b.took = time.Since(b.start)
	close(b.done)
}

// fetch fills the room of one message. Without an error the message is whole.
func (a *ahead) fetch(ctx context.Context, it item) error {
	b := a.drop.newBody(ctx, it.i)
	defer b.end()
	b.url = it.url
	if err := b.open(); err != nil {
		return err
	}
	defer b.now.Close()
	if _, err := io.ReadFull(b, it.room); err != nil && len(it.room) > 0 {
		return err
	}
	var more [1]byte
	if _, err := b.Read(more[:]); err != io.EOF {
		return errors.New("not at its end")
	}
	return nil
}

func (b *batch) has(i int) bool {
	for _, it := range b.items {
		if it.i == i {
			return true
		}
	}
	return false
}
