package pop3

import (
	"context"
	"errors"
	"io"
	"os"
)

var errClientGone = errors.New("the client is gone")

// whileConnected runs f, the store's part of a login, with a context that ends
// when the client leaves: a client that hangs up must not keep a lock, nor the
// mail service busy. It reports whether the client left.
//
// The session itself watches the client, and f has another goroutine. So what f
// needs of a stack, many times what a session needs ever after, goes with it.
//
// A client that has sent more commands and then closed its half of the
// connection is still served.
func (s *session) whileConnected(ctx context.Context, f func(context.Context)) (gone bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.conn.armRead(s.began.Add(s.opts.LoginTime + s.opts.UpstreamTime))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.conn.stopRead()
		s.guard(func() { f(ctx) })
	}()
	if s.leaves() {
		cancel(errClientGone)
	}
	<-done
	return context.Cause(ctx) == errClientGone
}

// leaves reads ahead until the client has left, or until there is no more to see
// of it: the reading was stopped, or there is no room.
func (s *session) leaves() bool {
	for {
		err := s.in.Prefetch()
		if err == nil {
			continue
		}
		full := errors.Is(err, io.ErrShortBuffer)
		stopped := errors.Is(err, os.ErrDeadlineExceeded)
		return !full && !stopped && !s.in.HasLine()
	}
}
