package imaptest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Direction is a direction of a connection.
type Direction uint8

// The directions.
const (
	FromServer Direction = iota // what Read gives
	ToServer                    // what Write takes
)

// A Cut ends a connection at an exact octet.
type Cut struct {
	Dir   Direction
	After int64  // octets in that direction that still pass
	How   Ending // of the whole connection; Drip goes on octet by octet
	// Every is the time between octets of a Drip; 0 splits them without delay.
	Every time.Duration
}

// Op is a call on a connection.
type Op uint8

// The calls that a Fault can hit.
const (
	OpRead Op = iota
	OpWrite
	OpClose
	OpSetDeadline // and SetReadDeadline, SetWriteDeadline
	ops           // their number
)

// A Fault fails one call.
type Fault struct {
	Op  Op
	Nth int   // which call of that kind, from 1
	Err error // what the call returns
	// Short lets half of the octets of the Read or Write pass first.
	Short bool
}

// A CutConn is the client's end of a connection that breaks where it is told
// to. Octets behind a cut of ToServer are taken as a socket buffer takes them:
// the Write succeeds, and only the next call shows the loss. It is safe for
// concurrent use like any net.Conn.
type CutConn struct {
	net.Conn
	cut    *Cut
	faults []Fault

	readLimit, writeLimit *deadline

	mu    sync.Mutex
	octs  [2]int64
	calls [ops]int
	dead  bool // the cut was reached, and it is not a Drip
	done  chan struct{}
}

// NewCutConn wraps c; cut may be nil.
func NewCutConn(c net.Conn, cut *Cut, faults ...Fault) *CutConn {
	return &CutConn{Conn: c, cut: cut, faults: faults, done: make(chan struct{}),
		readLimit: newDeadline(), writeLimit: newDeadline()}
}

// Octets is the number of octets that passed in that direction.
func (c *CutConn) Octets(d Direction) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.octs[d]
}

// Calls is the number of calls so far.
func (c *CutConn) Calls(op Op) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

// Reached reports whether the connection ended at its cut.
func (c *CutConn) Reached() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// call counts a call and returns the fault that hits it.
func (c *CutConn) call(op Op) *Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[op]++
	for i := range c.faults {
		if c.faults[i].Op == op && c.faults[i].Nth == c.calls[op] {
			return &c.faults[i]
		}
	}
	return nil
}

// room is how many of n octets may pass, and whether they drip.
func (c *CutConn) room(d Direction, n int) (pass int, drip, dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return 0, false, true
	}
	if c.cut == nil || c.cut.Dir != d {
		return n, false, false
	}
	left := c.cut.After - c.octs[d]
	if c.cut.How == Drip && left <= 0 {
		return min(n, 1), true, false
	}
	return int(min(int64(n), left)), false, false
}

// count counts octets and reports whether they reach the cut.
func (c *CutConn) count(d Direction, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.octs[d] += int64(n)
	reached := !c.dead && c.cut != nil && c.cut.Dir == d && c.cut.How != Drip && c.octs[d] >= c.cut.After
	c.dead = c.dead || reached
	return reached
}

// end ends the connection below as the cut says.
func (c *CutConn) end() {
	switch c.cut.How {
	case RST:
		linger0(c.Conn)
		c.Conn.Close()
	case FIN:
		c.Conn.Close()
	}
}

// broken is what a call returns once the cut was reached.
func (c *CutConn) broken(op string, limit *deadline) error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
	}
	switch c.cut.How {
	case RST:
		return &net.OpError{Op: op, Net: "tcp", Err: syscall.ECONNRESET}
	case FIN:
		if op == "read" {
			return io.EOF
		}
		return &net.OpError{Op: op, Net: "tcp", Err: syscall.EPIPE}
	}
	select {
	case <-c.done:
		return net.ErrClosed
	case <-limit.passed():
		return os.ErrDeadlineExceeded
	}
}

// pause waits between the octets of a Drip.
func (c *CutConn) pause(limit *deadline) error {
	if c.cut.Every == 0 {
		return nil
	}
	timer := time.NewTimer(c.cut.Every)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.done:
		return net.ErrClosed
	case <-limit.passed():
		return os.ErrDeadlineExceeded
	}
}

// Read reads what the cut lets pass.
func (c *CutConn) Read(p []byte) (int, error) {
	fault := c.call(OpRead)
	if fault != nil {
		if !fault.Short || len(p) < 2 {
			return 0, fault.Err
		}
		p = p[:len(p)/2]
	}
	if c.count(FromServer, 0) { // a cut after 0 octets
		c.end()
	}
	n, drip, dead := c.room(FromServer, len(p))
	if dead {
		return 0, c.broken("read", c.readLimit)
	}
	if drip {
		if err := c.pause(c.readLimit); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p[:n])
	if c.Reached() { // by a Write meanwhile: nothing is seen of the answer
		return 0, c.broken("read", c.readLimit)
	}
	if c.count(FromServer, n) {
		c.end()
	}
	if fault != nil && err == nil {
		err = fault.Err
	}
	return n, err
}

// Write writes what the cut lets pass.
func (c *CutConn) Write(p []byte) (int, error) {
	fault := c.call(OpWrite)
	if fault != nil {
		if !fault.Short {
			return 0, fault.Err
		}
		n, err := c.write(p[:len(p)/2])
		if err == nil {
			err = fault.Err
		}
		return n, err
	}
	return c.write(p)
}

func (c *CutConn) write(p []byte) (int, error) {
	if c.count(ToServer, 0) {
		c.end()
	}
	if _, _, dead := c.room(ToServer, len(p)); dead {
		return 0, c.broken("write", c.writeLimit)
	}
	for done := 0; done < len(p); {
		n, drip, dead := c.room(ToServer, len(p)-done)
		if dead {
			return len(p), nil
		}
		if drip {
			if err := c.pause(c.writeLimit); err != nil {
				return done, err
			}
		}
		// Counted first: the server may answer before Write returns here.
		reached := c.count(ToServer, n)
		wrote, err := c.Conn.Write(p[done : done+n])
		done += wrote
		if wrote < n {
			c.count(ToServer, wrote-n)
		}
		if reached {
			c.end()
		}
		if err != nil {
			return done, err
		}
	}
	return len(p), nil
}

// Close closes the connection; once is enough.
func (c *CutConn) Close() error {
	fault := c.call(OpClose)
	c.mu.Lock()
	select {
	case <-c.done:
	default:
		close(c.done)
	}
	c.mu.Unlock()
	c.readLimit.set(time.Time{})
	c.writeLimit.set(time.Time{})
	err := c.Conn.Close()
	if fault != nil {
		return fault.Err
	}
	return err
}

// SetDeadline sets both deadlines.
func (c *CutConn) SetDeadline(t time.Time) error {
	return c.setDeadline(t, c.Conn.SetDeadline, c.readLimit, c.writeLimit)
}

// SetReadDeadline sets the deadline of Read.
func (c *CutConn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(t, c.Conn.SetReadDeadline, c.readLimit)
}

// SetWriteDeadline sets the deadline of Write.
func (c *CutConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(t, c.Conn.SetWriteDeadline, c.writeLimit)
}

func (c *CutConn) setDeadline(t time.Time, set func(time.Time) error, limits ...*deadline) error {
	if fault := c.call(OpSetDeadline); fault != nil {
		return fault.Err
	}
	for _, l := range limits {
		l.set(t)
	}
	err := set(t)
	if c.Reached() { // the connection below is gone, the client does not know
		return nil
	}
	return err
}
