package wrap_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop/memdroptest"
	"github.com/popgate/popgate/upstream/upstreamtest"
	"github.com/popgate/popgate/upstream/wrap"
)

// processes are the locks that several processes share, which are pointers here.
type processes struct {
	mu    sync.Mutex
	held  map[string]*process
	fails error
}

type process struct{ all *processes }

func (p *process) TryLock(name string) (bool, error) {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if p.all.fails != nil {
		return false, p.all.fails
	}
	if q := p.all.held[name]; q != nil && q != p {
		return false, nil
	}
	p.all.held[name] = p
	return true, nil
}

func (p *process) Unlock(name string) error {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if p.all.held[name] == p {
		delete(p.all.held, name)
	}
	return nil
}

// twoGateways are two processes before one mail service.
func twoGateways(wait time.Duration) (old, young upstream.Store, all *processes) {
	all = &processes{held: map[string]*process{}}
	service := newStore()
	return wrap.Lock(service, wrap.LockOptions{Wait: wait, Between: &process{all}}),
		wrap.Lock(service, wrap.LockOptions{Wait: wait, Between: &process{all}}), all
}

func TestLockHoldsBetweenProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, young, all := twoGateways(0)
		first, second, third := login(t, old, "alice"), login(t, young, "alice"), login(t, young, "alice")
		mustOpen(t, first)
		a := openSoon(t.Context(), second)
		synctest.Wait() // it comes first
		b := openSoon(t.Context(), third)
		time.Sleep(time.Second)
		first.Close()
		if got := <-a; got.err != nil || got.took > 1100*time.Millisecond {
			t.Errorf("the first who waited: %+v, want the lock within a tenth of a second after it was free", got)
		}
		second.Close()
		if got := <-b; got.err != nil {
			t.Errorf("the second who waited: %v", got.err)
		}
		third.Close()
		if len(all.held) != 0 {
			t.Errorf("left behind: %v", all.held)
		}
	})
}

func TestLockThatAnotherProcessKeeps(t *testing.T) {
	for name, wait := range map[string]time.Duration{"waits": 0, "does_not_wait": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old, young, all := twoGateways(wait)
				first, second := login(t, old, "alice"), login(t, young, "alice")
				defer second.Close()
				mustOpen(t, first)
				got := <-openSoon(t.Context(), second)
				wantError(t, "Open", got.err, upstream.Busy, "lock: busy")
				if want := max(wait, 0) + map[string]time.Duration{"waits": wrap.DefaultWait}[name]; got.took != want {
					t.Errorf("it took %v, want %v", got.took, want)
				}
				first.Close()
				third := login(t, young, "alice") // nobody in this process is left with it
				mustOpen(t, third)
				third.Close()
				if len(all.held) != 0 {
					t.Errorf("left behind: %v", all.held)
				}
			})
		})
	}
}

func TestLockBetweenProcessesFails(t *testing.T) {
	_, s, all := twoGateways(0)
	all.fails = errors.New("no locks available")
	a := login(t, s, "alice")
	defer a.Close()
	_, err := a.Open(context.WithoutCancel(t.Context()))
	wantError(t, "Open", err, upstream.Unavailable, "no locks available")
	all.fails = nil
	b := login(t, s, "alice")
	defer b.Close()
	mustOpen(t, b)
}

func TestConformanceBetweenProcesses(t *testing.T) {
	upstreamtest.Run(t, func(t *testing.T) upstreamtest.Harness {
		return memdroptest.Harness(t, func(s upstream.Store) upstream.Store {
			return wrap.Lock(s, wrap.LockOptions{Between: &process{&processes{held: map[string]*process{}}}})
		})
	})
}
