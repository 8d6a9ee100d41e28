package proof_test

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// harnessPipe is a connection in memory that holds what was written until it is
// read, as a socket does. Both ends have the same address, of loopback, so that
// a login in clear text is taken. It works inside and outside of a bubble of
// testing/synctest.
func harnessPipe() (client, server net.Conn) {
	up, down := newHarnessStream(), newHarnessStream()
	return &harnessEnd{in: down, out: up}, &harnessEnd{in: up, out: down}
}

// harnessEnd is one end of a harnessPipe.
type harnessEnd struct{ in, out *harnessStream }

var harnessAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1110}

func (e *harnessEnd) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *harnessEnd) Write(p []byte) (int, error) { return e.out.write(p) }
func (e *harnessEnd) LocalAddr() net.Addr         { return harnessAddr }
func (e *harnessEnd) RemoteAddr() net.Addr        { return harnessAddr }

// Close ends both directions; what was written before can still be read.
func (e *harnessEnd) Close() error {
	e.out.close(false)
	e.in.close(true)
	return nil
}

func (e *harnessEnd) CloseWrite() error {
	e.out.close(false)
	return nil
}

func (e *harnessEnd) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *harnessEnd) SetReadDeadline(t time.Time) error {
	e.in.setLimit(&e.in.readBy, t)
	return nil
}

func (e *harnessEnd) SetWriteDeadline(t time.Time) error {
	e.out.setLimit(&e.out.writeBy, t)
	return nil
}

// harnessStream is one direction of a harnessPipe.
type harnessStream struct {
	mu      sync.Mutex
	changed *sync.Cond
	held    []byte
	ended   bool // nobody writes any more
	deaf    bool // nobody reads any more

	readBy, writeBy harnessLimit
}

// harnessLimit is a deadline.
type harnessLimit struct {
	at    time.Time
	timer *time.Timer
}

// harnessWindow is how much a harnessPipe holds in one direction, in octets.
const harnessWindow = 64 << 10

func newHarnessStream() *harnessStream {
	s := &harnessStream{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (l *harnessLimit) passed() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

func (s *harnessStream) setLimit(l *harnessLimit, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.at = t
	switch {
	case t.IsZero() || s.ended && s.deaf:
		if l.timer != nil {
			l.timer.Stop()
		}
	case l.timer != nil:
		l.timer.Reset(time.Until(t))
	default:
		l.timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed.Broadcast()
		})
	}
	s.changed.Broadcast()
}

func (s *harnessStream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.deaf:
			return 0, net.ErrClosed
		case s.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.held) > 0:
			n := copy(p, s.held)
			s.held = s.held[n:]
			s.changed.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *harnessStream) write(p []byte) (done int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended:
			return done, net.ErrClosed
		case s.deaf:
			return done, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
		case s.writeBy.passed():
			return done, os.ErrDeadlineExceeded
		}
		n := min(len(p)-done, harnessWindow-len(s.held))
		if n > 0 {
			s.held = append(s.held, p[done:done+n]...)
			s.changed.Broadcast()
		}
		if done += n; done == len(p) {
			return done, nil
		}
		s.changed.Wait()
	}
}

// close is by the reader or the writer.
func (s *harnessStream) close(reader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reader {
		s.deaf, s.held = true, nil
	} else {
		s.ended = true
	}
	if s.ended && s.deaf {
		for _, l := range []*harnessLimit{&s.readBy, &s.writeBy} {
			if l.timer != nil {
				l.timer.Stop()
			}
		}
	}
	s.changed.Broadcast()
}
