package pop3

import (
	"context"
	"errors"
	"io"
	"os"
)

var errClientGone = errors.New("the client is gone")

// whileConnected returns a context that ends when the client leaves, for the
// time that the store takes to log in: a client that hangs up must not keep a
// lock, nor the mail service busy. The session must not read before it has
// called unwatch, which reports whether it left.
//
// A client that has sent more commands and then closed its half of the
// connection is still served.
func (s *session) whileConnected(ctx context.Context) (_ context.Context, unwatch func() (gone bool)) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.conn.armRead(s.began.Add(s.opts.LoginTime + s.opts.UpstreamTime))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			err := s.in.Prefetch()
			if err == nil {
				continue
			}
			full := errors.Is(err, io.ErrShortBuffer)
			stopped := errors.Is(err, os.ErrDeadlineExceeded)
			if !full && !stopped && !s.in.HasLine() {
				cancel(errClientGone)
			}
			return
		}
	}()
	return ctx, func() bool {
		s.conn.stopRead()
		<-done
		cancel(nil)
		return context.Cause(ctx) == errClientGone
	}
}
