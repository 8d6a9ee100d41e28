package wrap_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
	"github.com/popgate/popgate/upstream/wrap"
)

// opened is the result of an Open in a goroutine of its own.
type opened struct {
	err  error
	took time.Duration
}

func openSoon(ctx context.Context, a upstream.Account) <-chan opened {
	c := make(chan opened, 1)
	began := time.Now()
	go func() {
		_, err := a.Open(ctx)
		c <- opened{err, time.Since(began)}
	}()
	return c
}

func mustOpen(t *testing.T, a upstream.Account) {
	t.Helper()
	if _, err := a.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestLockWaits(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options wrap.LockOptions
		wait    time.Duration // until Busy
	}{
		{"three_seconds_by_default", wrap.LockOptions{}, 3 * time.Second},
		{"as_long_as_set", wrap.LockOptions{Wait: time.Minute}, time.Minute},
		{"not_at_all", wrap.LockOptions{Wait: -1}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var waited []string
				tt.options.Trace.Waited = func(d time.Duration, got bool) { waited = append(waited, fmt.Sprint(d, got)) }
				s := wrap.Lock(newStore(), tt.options)
				first, second, other := login(t, s, "alice"), login(t, s, "alice"), login(t, s, "bob")
				defer first.Close()
				defer second.Close()
				defer other.Close()
				mustOpen(t, first)
				mustOpen(t, other) // another maildrop is another lock
				got := <-openSoon(t.Context(), second)
				wantError(t, "the second Open", got.err, upstream.Busy, "lock: busy")
				if got.took != tt.wait {
					t.Errorf("it took %v, want %v", got.took, tt.wait)
				}
				if tt.wait > 0 && (len(waited) != 1 || waited[0] != fmt.Sprint(tt.wait, false)) {
					t.Errorf("traced: %q", waited)
				}
				second.Close()
				first.Close()
				third := login(t, s, "alice")
				defer third.Close()
				mustOpen(t, third)
			})
		})
	}
}

func TestLockIsHandedOverInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wrap.Lock(newStore(), wrap.LockOptions{Wait: time.Hour})
		holder := login(t, s, "alice")
		mustOpen(t, holder)
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 5 {
			a := login(t, s, "alice")
			wg.Go(func() {
				if _, err := a.Open(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				a.Close()
			})
			synctest.Wait()
		}
		holder.Close()
		wg.Wait()
		if got := fmt.Sprint(order); got != "[0 1 2 3 4]" {
			t.Errorf("the order is %v", got)
		}
	})
}

// Every way out of a wait leaves the queue in order.
func TestLockWaitEnds(t *testing.T) {
	for _, how := range []string{"context", "close", "timeout"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := wrap.Lock(newStore(), wrap.LockOptions{Wait: 10 * time.Second})
				holder, quitter, next := login(t, s, "alice"), login(t, s, "alice"), login(t, s, "alice")
				mustOpen(t, holder)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				q := openSoon(ctx, quitter)
				synctest.Wait()
				time.Sleep(time.Second)
				n := openSoon(t.Context(), next)
				synctest.Wait()
				kind, words := upstream.Unavailable, ""
				switch how {
				case "context":
					words = "client gone"
					cancel(errors.New(words))
				case "close":
					words = "closed"
					quitter.Close()
				case "timeout":
					kind = upstream.Busy
				}
				wantError(t, "the Open that waits", (<-q).err, kind, words)
				quitter.Close()
				holder.Close()
				if got := <-n; got.err != nil {
					t.Errorf("the next in the queue: %v", got.err)
				}
				next.Close()
				last := login(t, s, "alice")
				mustOpen(t, last)
				last.Close()
			})
		})
	}
}

func TestLockIsFreedWhenOpenFails(t *testing.T) {
	for _, how := range []string{"error", "panic", "limit"} {
		t.Run(how, func(t *testing.T) {
			inner := newStore(memdrop.Message{ID: "a"}, memdrop.Message{ID: "b"})
			var s upstream.Store = inner
			limits := wrap.LimitOptions{}
			switch how {
			case "error":
				inner.SetFaults(memdrop.Faults{Open: func(context.Context, string) error {
					return &upstream.Error{Kind: upstream.Unavailable, Op: "open"}
				}})
			case "panic":
				inner.SetFaults(memdrop.Faults{Open: func(context.Context, string) error { panic("a fault in the store") }})
			case "limit":
				limits.Messages = 1
			}
			s = wrap.Lock(wrap.Limit(s, limits), wrap.LockOptions{Wait: -1})
			a := login(t, s, "alice")
			defer a.Close()
			func() {
				defer func() {
					if r := recover(); (r != nil) != (how == "panic") {
						t.Errorf("recovered %v", r)
					}
				}()
				if _, err := a.Open(t.Context()); err == nil {
					t.Error("Open succeeded")
				}
			}()
			inner.SetFaults(memdrop.Faults{})
			inner.Expunge("alice", "a")
			b := login(t, s, "alice")
			defer b.Close()
			mustOpen(t, b) // a is not closed yet
			a.Close()      // and gives nothing away that is b's
			c := login(t, s, "alice")
			defer c.Close()
			_, err := c.Open(t.Context())
			wantError(t, "Open beside the holder", err, upstream.Busy, "")
		})
	}
}

// slowClose is a store whose accounts do not get away.
type slowClose struct {
	upstream.Store
	closing chan struct{}
	let     chan struct{}
}

type slowCloseAccount struct {
	upstream.Account
	s *slowClose
}

func (s *slowClose) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := s.Store.Login(ctx, c)
	return &slowCloseAccount{a, s}, err
}

func (a *slowCloseAccount) Close() error {
	a.s.closing <- struct{}{}
	<-a.s.let
	return a.Account.Close()
}

func TestLockIsFreeBeforeTheAccountIsClosed(t *testing.T) {
	slow := &slowClose{newStore(), make(chan struct{}, 9), make(chan struct{})}
	s := wrap.Lock(slow, wrap.LockOptions{Wait: -1})
	a := login(t, s, "alice")
	mustOpen(t, a)
	done := make(chan error)
	go func() { done <- a.Close() }()
	<-slow.closing
	b := login(t, s, "alice")
	mustOpen(t, b)
	close(slow.let)
	if err := <-done; err != nil {
		t.Error(err)
	}
	a.Close() // again: gives away nothing
	c := login(t, s, "alice")
	_, err := c.Open(t.Context())
	wantError(t, "Open beside the holder", err, upstream.Busy, "")
	b.Close()
	c.Close()
}

func TestLockSecondOpenOfOneAccount(t *testing.T) {
	s := wrap.Lock(newStore(), wrap.LockOptions{})
	a := login(t, s, "alice")
	defer a.Close()
	mustOpen(t, a)
	_, err := a.Open(t.Context())
	wantError(t, "the second Open", err, upstream.Internal, "opened twice")
}

// Whatever happens at once, a maildrop has one holder at most, and in the end
// everything is free.
func TestLockExcludes(t *testing.T) {
	inner := newStore()
	s := wrap.Lock(inner, wrap.LockOptions{Wait: 20 * time.Millisecond})
	var holders, got atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for round := range 60 {
				a := login(t, s, "alice")
				ctx, cancel := context.WithCancel(t.Context())
				switch (i + round) % 4 {
				case 0:
					go cancel()
				case 1:
					wg.Go(func() { a.Close() })
				}
				if _, err := a.Open(ctx); err == nil && (i+round)%4 != 1 { // one that is closed beside holds nothing for sure
					if holders.Add(1) != 1 {
						t.Error("two holders")
					}
					got.Add(1)
					holders.Add(-1)
				}
				a.Close()
				cancel()
			}
		})
	}
	wg.Wait()
	if got.Load() == 0 {
		t.Error("nobody ever got the lock")
	}
	a := login(t, s, "alice")
	mustOpen(t, a)
	a.Close()
	if open, _ := inner.InUse(); open != 0 {
		t.Errorf("%d accounts are open", open)
	}
}

// An account that is closed takes no lock, even where the store would open it:
// nothing would ever set it free.
func TestLockIsNotTakenAfterClose(t *testing.T) {
	s := wrap.Lock(&fake{}, wrap.LockOptions{Wait: -1})
	a := login(t, s, "alice")
	a.Close()
	_, err := a.Open(t.Context())
	wantError(t, "Open after Close", err, upstream.Unavailable, "closed")
	b := login(t, s, "alice")
	defer b.Close()
	mustOpen(t, b)
}
