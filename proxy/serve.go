package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// Serve accepts connections until ctx ends or Shutdown is called, and returns
// nil then; or until a listener fails for good, and returns its error. Either
// way nothing is accepted any more when it returns, and the handlers go on: their
// context does not end with ctx. Shutdown ends them.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	if s.bound == nil || s.served {
		s.mu.Unlock()
		return errors.New("serve: called before Listen, or twice")
	}
	s.served = true
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	handlers, endHandlers := context.WithCancelCause(context.WithoutCancel(ctx))
	accepting, endAccepting := context.WithCancel(handlers)
	s.endHandlers, s.endAccepting = endHandlers, endAccepting
	s.loops.Add(len(s.bound))
	s.mu.Unlock()

	defer context.AfterFunc(ctx, s.stop)()
	errs := make(chan error)
	for i, l := range s.listeners {
		go func() {
			loop := acceptLoop{server: s, listener: l, socket: s.bound[i], accepting: accepting, handlers: handlers}
			err := loop.run()
			if err != nil {
				s.stop()
				err = fmt.Errorf("listener %q: %w", l.Name, err)
			}
			s.loops.Done()
			errs <- err
		}()
	}
	var err error
	for range s.listeners {
		if e := <-errs; err == nil {
			err = e
		}
	}
	return err
}

// stop ends the accepting of connections.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	if s.endAccepting != nil {
		s.endAccepting() // first, so that a loop knows why its socket is closed
	}
	for _, b := range s.bound {
		b.Close()
	}
}

// ErrDrained is the cause of the end of a handler's context.
var ErrDrained = errors.New("the time to drain is over")

// Shutdown stops the accepting of connections and waits for the handlers. When
// ctx ends first, it cancels the context of those that are left, with the cause
// [ErrDrained], waits on until every one has returned, and then returns the cause
// of ctx. It may be called in any state, and more than once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.loops.Wait()
		s.conns.Wait()
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done: // both: nobody was cut off
		default:
			err = context.Cause(ctx)
		}
	}
	s.mu.Lock()
	end := s.endHandlers
	s.mu.Unlock()
	if end != nil {
		end(ErrDrained)
	}
	<-done
	return err
}

// acceptLoop serves one listener.
type acceptLoop struct {
	server    *Server
	listener  Listener
	socket    net.Listener
	accepting context.Context // ends first; parent: handlers
	handlers  context.Context
}

// Bounds of the wait after an error of Accept.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

func (a *acceptLoop) run() error {
	o := a.server.options
	backoff := time.Duration(0)
	failures := sparse{}
	for {
		c, err := a.socket.Accept()
		if err == nil { // a client that came at the last moment is served too
			backoff = 0
			call(o.Trace.Accepted, a.listener.Name)
			a.admit(c)
			continue
		}
		if a.accepting.Err() != nil {
			return nil
		}
		if !passes(err) {
			return err
		}
		call(o.Trace.AcceptFailed, a.listener.Name)
		backoff = min(max(minBackoff, 2*backoff), maxBackoff)
		if n, ok := failures.due(time.Now()); ok {
			o.Logger.Warn("accepting fails, will go on", "listener", a.listener.Name, "error", err, "wait", backoff, "unlogged", n)
		}
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-a.accepting.Done():
			timer.Stop()
		}
	}
}

// passes reports whether an error of Accept is one that time cures, or that
// concerned a single connection.
func passes(err error) bool {
	for _, errno := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EAGAIN, syscall.EPROTO, syscall.EPERM,
		syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// admit hands c to a goroutine of its own, or refuses it.
func (a *acceptLoop) admit(c net.Conn) {
	s, l := a.server, a.listener
	peer, listed := c.RemoteAddr(), l.Clients
	if len(l.Proxies) > 0 {
		listed = l.Proxies
	}
	if len(listed) > 0 && !among(peer, listed) {
		a.rejected(c, NotListed, nil)
		c.Close()
		return
	}
	if len(l.Proxies) > 0 {
		peer = nil // the header will tell
	}
	release, why := s.admission.admit(peer, time.Now())
	if why != "" {
		a.reject(c, why)
		return
	}
	call2(s.options.Trace.Open, l.Name, 1)
	s.conns.Go(func() {
		defer release()
		defer call2(s.options.Trace.Open, l.Name, -1)
		a.serve(c)
	})
}

func (a *acceptLoop) log(c net.Conn) *slog.Logger {
	peer := ""
	if addr := c.RemoteAddr(); addr != nil {
		peer = addr.String()
	}
	return a.server.options.Logger.With("listener", a.listener.Name, "peer", peer)
}

func call[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}

func call2[T, U any](f func(T, U), v T, w U) {
	if f != nil {
		f(v, w)
	}
}
