package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"time"
)

// serve takes one connection through the handshake and its handler, and closes
// it.
func (a *acceptLoop) serve(c net.Conn) {
	raw := c
	defer func() {
		if p := recover(); p != nil {
			a.log(raw).Error("the handler panics", "panic", p, "stack", string(debug.Stack()))
			call(a.server.options.Trace.Panicked, a.listener.Name)
		}
		c.Close()
	}()
	if t, ok := c.(*net.TCPConn); ok {
		t.SetKeepAliveConfig(a.server.options.KeepAlive) // an error: the peer has gone already
	}
	if a.listener.TLS != nil {
		t := tls.Server(c, a.listener.TLS)
		c = t
		if !a.handshake(t) {
			return
		}
	}
	ctx, cancel := context.WithCancel(a.handlers)
	defer cancel()
	a.listener.Handler(ctx, c)
}

var errNoTurn = errors.New("no turn for a handshake in time")

// handshake waits for its turn and for the client, both within HandshakeTime. It
// ends when the server stops: no session begins after that.
func (a *acceptLoop) handshake(t *tls.Conn) bool {
	s := a.server
	ctx, cancel := context.WithTimeout(a.accepting, s.options.HandshakeTime)
	defer cancel()
	if !s.handshakes.wait(ctx) {
		if a.accepting.Err() == nil {
			call2(s.options.Trace.Rejected, a.listener.Name, TooManyHandshakes)
			a.log(t).Debug("refused", "error", errNoTurn)
		}
		return false
	}
	defer s.handshakes.leave()
	// The context closes the socket when it ends; every read and write is bounded
	// by the deadline as well.
	deadline, _ := ctx.Deadline()
	t.SetDeadline(deadline)
	if err := t.HandshakeContext(ctx); err != nil {
		if a.accepting.Err() == nil {
			call(s.options.Trace.HandshakeFailed, a.listener.Name)
			a.log(t).Debug("handshake", "error", err)
		}
		return false
	}
	t.SetDeadline(time.Time{})
	return a.accepting.Err() == nil
}

const (
	maxRefusals  = 64          // clients that are being told that a limit refuses them
	refusalTime  = time.Second // for one of them
	refusalInput = 4096        // octets that are read from one of them
)

// reject closes c. Where there is something to say it is said in a goroutine of
// its own; when too many are at it already, the client hears nothing.
func (a *acceptLoop) reject(c net.Conn, why Rejection) {
	s, l := a.server, a.listener
	call2(s.options.Trace.Rejected, l.Name, why)
	if n, ok := s.rejections.due(time.Now()); ok {
		a.log(c).Warn("connection refused", "limit", string(why), "unlogged", n)
	}
	if l.TLS != nil || l.Busy == nil || !s.refusals.try() {
		c.Close()
		return
	}
	s.conns.Go(func() {
		defer s.refusals.leave()
		defer c.Close()
		c.SetDeadline(time.Now().Add(refusalTime))
		if _, err := c.Write(l.Busy); err != nil {
			return
		}
		// A socket that is closed with unread input resets the connection, and the
		// client may never see the line.
		if w, ok := c.(interface{ CloseWrite() error }); ok {
			w.CloseWrite()
			io.CopyN(io.Discard, c, refusalInput)
		}
	})
}

// slots bounds how many do something at one time. A nil channel is no bound.
type slots chan struct{}

func newSlots(n int) slots {
	if n == noLimit {
		return nil
	}
	return make(slots, n)
}

func (s slots) try() bool {
	if s == nil {
		return true
	}
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait takes a slot, or gives up when ctx ends.
func (s slots) wait(ctx context.Context) bool {
	if s == nil || ctx.Err() != nil {
		return ctx.Err() == nil
	}
	select {
	case s <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s slots) leave() {
	if s != nil {
		<-s
	}
}
