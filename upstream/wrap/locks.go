package wrap

import (
	"container/list"
	"sync"
)

// locks is a set of named locks, each with a queue of waiters in the order of
// arrival. A name that nobody holds is not in it. Safe for concurrent use.
type locks struct {
	mu    sync.Mutex
	queue map[string]*list.List // the names that are held; lists of *waiter
}

type waiter struct {
	turn    chan struct{} // closed when the lock has been handed over
	element *list.Element // nil from then on
}

func newLocks() *locks { return &locks{queue: map[string]*list.List{}} }

// tryAcquire takes the lock if it is free.
func (l *locks) tryAcquire(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue[name] != nil {
		return false
	}
	l.queue[name] = list.New()
	return true
}

// acquire takes the lock, or else queues for it and returns the waiter. Whoever
// waits calls leave to give up.
func (l *locks) acquire(name string) *waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue[name]
	if q == nil {
		l.queue[name] = list.New()
		return nil
	}
	w := &waiter{turn: make(chan struct{})}
	w.element = q.PushBack(w)
	return w
}

// leave gives up waiting. A lock that was handed over in the meantime goes on
// to the next.
func (l *locks) leave(name string, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.element == nil {
		l.pass(name)
		return
	}
	l.queue[name].Remove(w.element)
}

// release gives the lock to the one who waits longest, or sets it free.
func (l *locks) release(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass(name)
}

func (l *locks) pass(name string) {
	q := l.queue[name]
	first := q.Front()
	if first == nil {
		delete(l.queue, name)
		return
	}
	w := q.Remove(first).(*waiter)
	w.element = nil
	close(w.turn)
}
