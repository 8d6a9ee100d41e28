package pop3

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Times that are not worth a setting.
const (
	lastWords  = 5 * time.Second // for a write once the server is going down
	gatherTime = time.Second / 4 // for octets of a message to wait for more
	lingerTime = time.Second     // for a client to hear the last reply
	lingerSize = 256 << 10       // octets it may send meanwhile
)

// past is a deadline that is over.
var past = time.Unix(1, 0)

// A conn is the client's connection with its deadlines: one per command line
// for reading, one per piece for writing.
type conn struct {
	raw       net.Conn // deadlines are set here, below TLS
	writeTime time.Duration

	mu    sync.Mutex
	top   net.Conn // octets go through here: raw, or TLS over it
	woken bool

	writeErr error // of the first write that failed
}

func (c *conn) stream() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.top
}

// upgrade puts TLS over the connection.
func (c *conn) upgrade(top net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.top = top
}

// wake ends the read that is under way, and every later one at once.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	c.raw.SetReadDeadline(past)
	c.raw.SetWriteDeadline(time.Now().Add(lastWords))
}

// armRead sets the time by which the next line must be there.
func (c *conn) armRead(by time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.woken {
		c.raw.SetReadDeadline(by)
	}
}

// stopRead ends the read that is under way.
func (c *conn) stopRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.SetReadDeadline(past)
}

func (c *conn) armWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.writeTime
	if c.woken {
		d = min(d, lastWords)
	}
	c.raw.SetWriteDeadline(time.Now().Add(d))
}

// Read reads by the deadline that armRead has set.
func (c *conn) Read(p []byte) (int, error) { return c.stream().Read(p) }

// Write writes one piece. After an error it writes nothing more.
func (c *conn) Write(p []byte) (int, error) {
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	c.armWrite()
	n, err := c.stream().Write(p)
	c.writeErr = err
	return n, err
}

// linger lets the client read the last reply: a connection that is closed with
// input unread is reset, and the reply is lost on its way.
func (c *conn) linger() {
	half, ok := c.stream().(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.raw.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, c.stream(), lingerSize)
}

// addrPort returns the address of one end, the zero value where it is not of IP.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
