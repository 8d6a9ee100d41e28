package wrap

import "testing"

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
