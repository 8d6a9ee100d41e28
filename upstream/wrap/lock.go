package wrap

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/popgate/popgate/upstream"
)

// DefaultWait is how long Open waits for a maildrop that another session holds,
// unless [LockOptions] says otherwise. A client that has just been dropped often
// comes back before its old session has ended.
const DefaultWait = 3 * time.Second

// LockOptions are the settings of [Lock]. The zero value is ready for use.
type LockOptions struct {
	// Wait is the longest wait for the lock; 0: DefaultWait, negative: none.
	Wait time.Duration
	// Between keeps the locks between processes; nil where there is one alone.
	Between Between
	Trace   LockTrace
}

// Between keeps locks with names between processes. Within this process it is
// asked by the holder of the lock alone. It is safe for concurrent use.
type Between interface {
	// TryLock takes the lock unless another process holds it, and does not wait.
	TryLock(name string) (bool, error)
	Unlock(name string) error
}

// LockTrace tells what the lock does. Nil functions are not called; they are
// called from many goroutines.
type LockTrace struct {
	// Waited is called when an Open that had to wait stops waiting; got tells
	// whether it has the lock.
	Waited func(d time.Duration, got bool)
}

// Lock gives every maildrop to one session at a time (RFC 1939 section 4).
//
// The lock is taken in Account.Open, after the proof and before the list, and
// kept by Account.Key. Open waits for it in the order of arrival; it ends in an
// error of kind Busy when the wait is over, and of kind Unavailable when its
// context ends or the account is closed before. The lock is free again at the
// beginning of Account.Close, before the account itself is closed, and at once
// when Open fails or panics. Another process is asked ten times a second whether
// it still has the lock, by the first of those who wait. Nothing is kept for a maildrop that nobody holds.
//
// Close while an Update runs frees the lock too: let Update return first.
func Lock(s upstream.Store, o LockOptions) upstream.Store {
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	return &lockStore{Store: s, options: o, locks: newLocks()}
}

type lockStore struct {
	upstream.Store
	options LockOptions
	locks   *locks
}

func (s *lockStore) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := s.Store.Login(ctx, c)
	if err != nil {
		return nil, err
	}
	return &lockAccount{Account: a, store: s, key: a.Key(), closed: make(chan struct{})}, nil
}

type lockAccount struct {
	upstream.Account
	store *lockStore
	key   string

	closed chan struct{} // ends a wait

	mu     sync.Mutex // Close may run beside Open
	opened bool
	held   bool
	done   bool // closed is closed
}

func (a *lockAccount) Open(ctx context.Context) (m upstream.Maildrop, err error) {
	if err := a.take(ctx); err != nil {
		return nil, err
	}
	taken := false
	defer func() { // by return, error or panic
		if !taken {
			a.free()
		}
	}()
	m, err = a.Account.Open(ctx)
	taken = err == nil
	return m, err
}

func (a *lockAccount) Close() error {
	a.mu.Lock()
	if !a.done {
		a.done = true
		close(a.closed)
	}
	a.mu.Unlock()
	a.free()
	return a.Account.Close()
}

var errClosed = errors.New("the account is closed")

func (a *lockAccount) take(ctx context.Context) error {
	a.mu.Lock()
	again := a.opened
	a.opened = true
	a.mu.Unlock()
	if again {
		return lockError(upstream.Internal, errors.New("opened twice"))
	}
	if err := a.wait(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		a.store.release(a.key)
		return lockError(upstream.Unavailable, errClosed)
	}
	a.held = true
	return nil
}

// free lets go of the lock if the account holds it.
func (a *lockAccount) free() {
	a.mu.Lock()
	held := a.held
	a.held = false
	a.mu.Unlock()
	if held {
		a.store.release(a.key)
	}
}

// release lets a lock go that this process has, first to the others.
func (s *lockStore) release(key string) {
	if b := s.options.Between; b != nil {
		_ = b.Unlock(key) // it fails where the locks are closed, and then none is held
	}
	s.locks.release(key)
}

// wait takes the lock, or tells why it could not.
func (a *lockAccount) wait(ctx context.Context) error {
	if ctx.Err() != nil {
		return lockError(upstream.Unavailable, context.Cause(ctx))
	}
	w := &waiting{ctx: ctx, account: a}
	defer w.end()
	err := w.forThisProcess()
	if err == nil && a.store.options.Between != nil {
		if err = w.forTheOthers(); err != nil {
			a.store.locks.release(a.key)
		}
	}
	if f := a.store.options.Trace.Waited; f != nil && w.over != nil {
		f(time.Since(w.began), err == nil)
	}
	return err
}

// waiting is one wait for the lock of an account.
type waiting struct {
	ctx     context.Context
	account *lockAccount
	began   time.Time
	over    *time.Timer // nil until there is something to wait for
}

func (w *waiting) end() {
	if w.over != nil {
		w.over.Stop()
	}
}

// until waits for c, no longer in all than the options say.
func (w *waiting) until(c <-chan struct{}, poll <-chan time.Time) error {
	if w.over == nil {
		w.began = time.Now()
		w.over = time.NewTimer(w.account.store.options.Wait)
	}
	select {
	case <-c:
		return nil
	case <-poll:
		return nil
	case <-w.over.C:
		return lockError(upstream.Busy, nil)
	case <-w.ctx.Done():
		return lockError(upstream.Unavailable, context.Cause(w.ctx))
	case <-w.account.closed:
		return lockError(upstream.Unavailable, errClosed)
	}
}

func (w *waiting) forThisProcess() error {
	locks, key := w.account.store.locks, w.account.key
	if w.account.store.options.Wait < 0 {
		if !locks.tryAcquire(key) {
			return lockError(upstream.Busy, nil)
		}
		return nil
	}
	q := locks.acquire(key)
	if q == nil {
		return nil
	}
	err := w.until(q.turn, nil)
	if err != nil {
		locks.leave(key, q)
	}
	return err
}

// pollOthers is how often another process is asked for its lock.
const pollOthers = 100 * time.Millisecond

func (w *waiting) forTheOthers() error {
	for {
		ok, err := w.account.store.options.Between.TryLock(w.account.key)
		switch {
		case err != nil:
			return lockError(upstream.Unavailable, err)
		case ok:
			return nil
		case w.account.store.options.Wait < 0:
			return lockError(upstream.Busy, nil)
		}
		poll := time.NewTimer(pollOthers)
		err = w.until(nil, poll.C)
		poll.Stop()
		if err != nil {
			return err
		}
	}
}

func lockError(kind upstream.Kind, cause error) error {
	return &upstream.Error{Kind: kind, Op: opLock, Err: cause}
}
