package readahead

import "sync/atomic"

// Pool is what all windows together may hold. It is safe for concurrent use. A
// nil Pool has no room: its windows stay empty.
type Pool struct {
	window int64 // octets of one window at most
	left   atomic.Int64
}

// NewPool returns a Pool of total octets, whose windows hold window octets each
// at most. With 0 or less of either there is no room.
func NewPool(window, total int64) *Pool {
	p := &Pool{window: window}
	p.left.Store(total)
	return p
}

// take reserves n octets, or nothing and returns false.
func (p *Pool) take(n int64) bool {
	for {
		left := p.left.Load()
		if n > left {
			return false
		}
		if p.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

func (p *Pool) give(n int64) { p.left.Add(n) }

// Left is the number of octets that are not reserved.
func (p *Pool) Left() int64 { return p.left.Load() }
