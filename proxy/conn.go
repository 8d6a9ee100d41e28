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
	if len(a.listener.Proxies) > 0 {
		client, release := a.identify(c)
		if client == nil {
			return
		}
		defer release()
		c = client
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

// identify learns from the PROXY header who the client is, and counts it. It
// returns nil where the connection is to be closed.
func (a *acceptLoop) identify(c net.Conn) (client net.Conn, release func()) {
	proxied, err := readHeader(a.handlers, c)
	switch {
	case a.handlers.Err() != nil:
		return nil, nil
	case err != nil:
		a.rejected(c, BadHeader, err)
		return nil, nil
	case len(a.listener.Clients) > 0 && !among(proxied.RemoteAddr(), a.listener.Clients):
		a.rejected(proxied, NotListed, nil)
		return nil, nil
	}
	release, why := a.server.admission.admitClient(proxied.RemoteAddr(), time.Now())
	if why != "" {
		a.rejected(proxied, why, nil)
		if a.hasWords() {
			defer a.server.refusals.leave()
			a.refuse(proxied)
		}
		return nil, nil
	}
	return proxied, release
}

var errNoTurn = errors.New("no turn for a handshake in time")

// handshake waits for its turn and for the client, both within HandshakeTime. Like
// a session it may go on when the server stops: its client has been accepted.
func (a *acceptLoop) handshake(t *tls.Conn) bool {
	s := a.server
	ctx, cancel := context.WithTimeout(a.handlers, s.options.HandshakeTime)
	defer cancel()
	if !s.handshakes.wait(ctx) {
		if a.handlers.Err() == nil {
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
		if a.handlers.Err() == nil {
			call(s.options.Trace.HandshakeFailed, a.listener.Name)
			a.log(t).Debug("handshake", "error", err)
		}
		return false
	}
	t.SetDeadline(time.Time{})
	if f := s.options.Trace.Secured; f != nil {
		state := t.ConnectionState()
		f(a.listener.Name, state.Version, state.CipherSuite)
	}
	return a.handlers.Err() == nil
}

const (
	maxRefusals  = 64          // clients that are being told that a limit refuses them
	refusalTime  = time.Second // for one of them
	refusalInput = 4096        // octets that are read from one of them
)

// reject closes c, which a limit refuses. Where there is something to say it is
// said in a goroutine of its own; when too many are at it already, the client
// hears nothing.
func (a *acceptLoop) reject(c net.Conn, why Rejection) {
	a.rejected(c, why, nil)
	if !a.hasWords() {
		c.Close()
		return
	}
	a.server.conns.Go(func() {
		defer a.server.refusals.leave()
		defer c.Close()
		a.refuse(c)
	})
}

// rejected tells the trace and the log.
func (a *acceptLoop) rejected(c net.Conn, why Rejection, err error) {
	call2(a.server.options.Trace.Rejected, a.listener.Name, why)
	n, ok := a.server.rejections.due(time.Now())
	if !ok {
		return
	}
	log := a.log(c)
	if err != nil {
		log = log.With("error", err)
	}
	log.Warn("connection refused", "limit", string(why), "unlogged", n)
}

// hasWords reports whether a client can be told now that it is refused, and
// takes a slot of refusals for it.
func (a *acceptLoop) hasWords() bool {
	return a.listener.TLS == nil && a.listener.Busy != nil && a.server.refusals.try()
}

// refuse tells it.
func (a *acceptLoop) refuse(c net.Conn) {
	c.SetDeadline(time.Now().Add(refusalTime))
	if _, err := c.Write(a.listener.Busy); err != nil {
		return
	}
	// A socket that is closed with unread input resets the connection, and the
	// client may never see the line.
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
		io.CopyN(io.Discard, c, refusalInput)
	}
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
