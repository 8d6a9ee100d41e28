package imaptest

import (
	"context"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
)

// A DialFunc opens a connection, like net.Dialer.DialContext.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// transport carries connections to one serving function, over net.Pipe or TCP,
// and ends all of them with the test.
type transport struct {
	serve func(n int, c net.Conn) // n counts connections from 1

	ln net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool
	refuse int
	count  int
	dialed []string
	conns  map[net.Conn]struct{}
}

func newTransport(t testing.TB, tcp bool, serve func(int, net.Conn)) *transport {
	t.Helper()
	tr := &transport{serve: serve, conns: map[net.Conn]struct{}{}}
	if tcp {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("imaptest: %v", err)
		}
		tr.ln = ln
		tr.wg.Go(tr.accept)
	}
	return tr
}

func (tr *transport) accept() {
	for {
		c, err := tr.ln.Accept()
		if err != nil {
			return // the listener was closed
		}
		if !tr.start(c) {
			c.Close()
		}
	}
}

// start serves c in a goroutine of its own; it reports false once closed.
func (tr *transport) start(c net.Conn) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.closed {
		return false
	}
	tr.count++
	n := tr.count
	tr.conns[c] = struct{}{}
	tr.wg.Go(func() {
		defer func() {
			c.Close()
			tr.mu.Lock()
			delete(tr.conns, c)
			tr.mu.Unlock()
		}()
		tr.serve(n, c)
	})
	return true
}

// dial opens a connection to the server, whatever addr says.
func (tr *transport) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tr.mu.Lock()
	tr.dialed = append(tr.dialed, addr)
	refused := tr.refuse > 0
	if refused {
		tr.refuse--
	}
	tr.mu.Unlock()
	down := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	if refused {
		return nil, down
	}
	if tr.ln != nil {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", tr.ln.Addr().String())
	}
	client, server := net.Pipe()
	if !tr.start(server) {
		client.Close()
		server.Close()
		return nil, down
	}
	return client, nil
}

// disconnect ends every connection of this moment.
func (tr *transport) disconnect(how Ending) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for c := range tr.conns {
		if how == RST {
			linger0(c)
		}
		c.Close()
	}
}

func (tr *transport) close() {
	tr.mu.Lock()
	tr.closed = true
	tr.mu.Unlock()
	if tr.ln != nil {
		tr.ln.Close()
	}
	tr.disconnect(FIN)
	tr.wg.Wait()
}

// addr is the address of the TCP listener, "" over net.Pipe.
func (tr *transport) addr() string {
	if tr.ln == nil {
		return ""
	}
	return tr.ln.Addr().String()
}

// finish ends c as how says. It returns when the peer is gone: closing a TCP
// connection with input unread would turn the FIN into a RST.
func finish(c net.Conn, how Ending) {
	switch how {
	case RST:
		linger0(c)
		c.Close()
		return
	case FIN:
		half, ok := c.(interface{ CloseWrite() error })
		if !ok { // net.Pipe has no half-close
			c.Close()
			return
		}
		half.CloseWrite()
	}
	io.Copy(io.Discard, c)
	c.Close()
}

// linger0 makes the next Close of a TCP connection send RST.
func linger0(c net.Conn) {
	if tc, ok := c.(*net.TCPConn); ok {
		tc.SetLinger(0)
	}
}

func (tr *transport) dialWith(wrap func(n int, c net.Conn) net.Conn) DialFunc {
	var mu sync.Mutex
	count := 0
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := tr.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		count++
		n := count
		mu.Unlock()
		return wrap(n, c), nil
	}
}

func (tr *transport) dialedAddrs() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]string(nil), tr.dialed...)
}

func (tr *transport) refuseNext(n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.refuse = n
}
