package wrap

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
)

// A name that nobody holds takes no memory.
func TestLocksForget(t *testing.T) {
	l := newLocks()
	if l.acquire("a") != nil || !l.tryAcquire("b") || l.tryAcquire("a") {
		t.Fatal("the locks are not free at first, or not held then")
	}
	early, late := l.acquire("a"), l.acquire("a")
	l.leave("a", late)
	l.release("a")
	<-early.turn
	l.leave("a", early) // too late: it has the lock, and gives it back
	l.release("b")
	if n := len(l.queue); n != 0 {
		t.Errorf("%d names are kept", n)
	}
}

// What is remembered is bounded, and forgotten when there is nothing left to know.
func TestThrottleForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 100
		s := Throttle(refusing{}, ThrottleOptions{Delay: -1, Entries: most}).(*throttleStore)
		entries := func() (n int) {
			for by, m := range s.guesses.memories {
				if len(m.entries) != len(m.order) || len(m.entries) > most {
					t.Errorf("%s: %d names, %d in the order", by, len(m.entries), len(m.order))
				}
				n += len(m.entries)
			}
			return n
		}
		for i := range 10_000 {
			ip := netip.AddrFrom4([4]byte{byte(i/100 + 1), byte(i % 100), 1, 1})
			s.Login(t.Context(), upstream.Credentials{User: ip.String(), Client: netip.AddrPortFrom(ip, 1)})
			entries()
		}
		if n := entries(); n == 0 {
			t.Error("nothing is remembered of 10,000 wrong passwords")
		}
		time.Sleep(time.Hour)
		for _, m := range s.guesses.memories {
			m.forget(s.guesses.now())
		}
		if n := entries(); n != 0 {
			t.Errorf("%d names are remembered after an hour", n)
		}
	})
}

// refusing is a store that lets nobody in.
type refusing struct{}

func (refusing) Login(context.Context, upstream.Credentials) (upstream.Account, error) {
	return nil, &upstream.Error{Kind: upstream.Refused, Op: "login"}
}
