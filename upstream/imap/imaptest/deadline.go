package imaptest

import (
	"sync"
	"time"
)

// A deadline is a channel that closes at a time that can be moved. A move
// reaches those who wait already.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired bool
	ch      chan struct{}
}

func newDeadline() *deadline { return &deadline{ch: make(chan struct{})} }

// passed is closed when the deadline has passed.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ch
}

// set moves the deadline to t; the zero time takes it away.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.expired {
		d.ch, d.expired = make(chan struct{}), false
	}
	if t.IsZero() {
		return
	}
	var mine *time.Timer
	mine = time.AfterFunc(max(0, time.Until(t)), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == mine { // else it was moved as it fired
			d.expired = true
			close(d.ch)
		}
	})
	d.timer = mine
}
