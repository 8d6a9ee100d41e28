package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	imap2 "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

// drainMax is how many octets of an unwanted rest are read to keep the
// connection; a longer rest costs the connection instead.
const drainMax = 256 << 10

// A request is what one UID FETCH of BODY.PEEK[] asks for.
type request struct {
	uid   uint32
	part  *imap2.SectionPartial // nil: the whole
	ahead *ahead                // further messages in the same command; nil: none
}

// ahead is what a command asks for beside its message.
type ahead struct {
	uids []uint32                              // ascending
	room func(uid uint32, octets int64) []byte // where a body goes; nil: nowhere
	end  func(whole bool, took time.Duration)  // called once: the command is over, and whether all of it can be trusted
}

// A section is one UID FETCH of BODY.PEEK[], whole or in part, being read. Its
// Read gives io.EOF only after the literal was read to its announced length and
// the server said OK. What comes beside the message is set aside before that: the
// tagged reply is behind it.
type section struct {
	request
	conn  *conn
	ctx   context.Context
	stop  func() bool
	start time.Time
	cmd   *imapclient.FetchCommand
	size  int64

	msg   *imapclient.FetchMessageData // being read; nil: between two
	of    imap2.UID                    // of msg; 0: not told yet
	body  bool                         // msg had its body
	lit   imap2.LiteralReader          // the last one
	left  int64                        // octets of lit that are still to come
	aside time.Time                    // since when messages are set aside

	failed bool  // lit gave an error, after which it must not be touched
	err    error // the end, once reached: io.EOF or an *upstream.Error
}

// openSection asks for a message's body, or a part of it, and reads up to the
// first octet. Every form in which servers say that the message is gone is an
// error of kind Gone, after which the connection goes on.
func (c *conn) openSection(ctx context.Context, r request) (*section, error) {
	s := &section{request: r, conn: c, ctx: ctx, start: time.Now()}
	if !c.alive() {
		return nil, s.endAhead(failf(upstream.Unavailable, opFetch, "the connection to the server is lost"))
	}
	if ctx.Err() != nil {
		return nil, s.endAhead(fail(upstream.Unavailable, opFetch, context.Cause(ctx)))
	}
	expect := imapguard.Expect{Body: r.uid}
	set := imap2.UIDSetNum(imap2.UID(r.uid))
	if r.ahead != nil {
		expect = imapguard.Expect{Bodies: true}
		for _, uid := range r.ahead.uids {
			set.AddNum(imap2.UID(uid))
		}
	}
	c.guard.Begin(expect)
	s.stop = context.AfterFunc(ctx, func() { c.guard.Abort() })
	s.cmd = c.client.Fetch(set, &imap2.FetchOptions{
		UID:         true,
		BodySection: []*imap2.FetchItemBodySection{{Peek: true, Partial: r.part}},
	})
	for {
		switch err := s.advance(); {
		case err == io.EOF:
			return nil, s.gone()
		case err != nil:
			return nil, s.broken(err)
		case s.of == imap2.UID(s.uid):
			s.size = s.left
			return s, nil
		}
		if err := s.setAside(); err != nil {
			return nil, s.broken(err)
		}
	}
}

// advance goes on to the next body of the reply, behind the one that was read to
// its end. io.EOF: there is none.
func (s *section) advance() error {
	for {
		if s.msg == nil {
			if s.msg = s.cmd.Next(); s.msg == nil {
				return io.EOF
			}
			s.of, s.body = 0, false
		}
		switch item := s.msg.Next().(type) {
		case nil:
			s.msg = nil
		case imapclient.FetchItemDataUID:
			if s.of != 0 && item.UID != s.of || !s.askedFor(uint32(item.UID)) {
				return fmt.Errorf("asked for UID %d, got UID %d", max(s.of, imap2.UID(s.uid)), item.UID)
			}
			s.of = item.UID
		case imapclient.FetchItemDataBodySection:
			if item.Literal == nil {
				continue // NIL
			}
			s.lit, s.left = item.Literal, item.Literal.Size()
			if s.of == 0 || s.body {
				return errors.New("two bodies for one message, or one without a UID")
			}
			s.body = true
			return nil
		}
	}
}

func (s *section) askedFor(uid uint32) bool {
	if uid == s.uid || s.ahead == nil {
		return uid == s.uid
	}
	_, ok := slices.BinarySearch(s.ahead.uids, uid)
	return ok
}

// setAside reads a body that is not the message's own.
func (s *section) setAside() error {
	if s.of == imap2.UID(s.uid) || s.ahead == nil {
		return errors.New("two answers with a body for one message")
	}
	if s.aside.IsZero() {
		s.aside = time.Now()
	}
	room := s.ahead.room(uint32(s.of), s.left)
	if room == nil && s.left > drainMax {
		return fmt.Errorf("a body of %d octets where a smaller one was announced", s.left)
	}
	rest := readerFunc(s.readLiteral)
	if _, err := io.ReadFull(rest, room); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, rest)
	return err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// readLiteral reads from the body that advance went to. io.EOF comes at its
// announced end.
func (s *section) readLiteral(p []byte) (int, error) {
	n, err := s.lit.Read(p)
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		err = imapguard.ErrCut
	}
	s.failed = err != nil && err != io.EOF
	return n, err
}

func (s *section) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.readLiteral(p)
	switch {
	case err == io.EOF:
		s.err = s.finish()
	case err != nil:
		s.err = s.broken(err)
	default:
		return n, nil
	}
	if n > 0 {
		return n, nil // the end is told by the next call
	}
	return 0, s.err
}

// octets is the announced length.
func (s *section) octets() int64 { return s.size }

// finish reads what follows the literal, to the tagged OK.
func (s *section) finish() error {
	if err := s.tagged(); err != nil {
		return s.end(err)
	}
	s.end(nil)
	return io.EOF
}

// gone ends a command that brought no body for its message.
func (s *section) gone() error {
	err := s.tagged()
	if err == nil {
		err = failf(upstream.Gone, opFetch, "the server answers with no body")
	}
	return s.end(err)
}

// tagged reads to the tagged reply and ends the command.
func (s *section) tagged() error {
	for {
		err := s.advance()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = s.setAside()
		}
		if err != nil {
			return s.lost(err)
		}
	}
	err := s.cmd.Close()
	if err != nil && !refused(err) {
		return s.lost(err)
	}
	if !s.stop() { // the context ended, and the connection with it
		return s.lost(context.Cause(s.ctx))
	}
	status := s.conn.guard.Status()
	s.conn.guard.End()
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*imap2.Error](err); ok && e.Type == imap2.StatusResponseTypeNo && e.Code == "" {
		return fail(upstream.Gone, opFetch, err) // the older form, RFC 2180 section 4.1
	}
	return classify(s.ctx, opFetch, err, status)
}

func (s *section) end(err error) error {
	s.conn.store.traceEnd(opFetch, s.start, err)
	return s.endAhead(err)
}

// endAhead tells what was asked for beside the message how the command went.
func (s *section) endAhead(err error) error {
	if s.ahead != nil {
		var took time.Duration
		if !s.aside.IsZero() {
			took = time.Since(s.aside)
		}
		s.ahead.end(err == nil, took)
	}
	return err
}

// broken ends a command whose answer cannot be read to its end.
func (s *section) broken(err error) error { return s.end(s.lost(err)) }

// lost gives up the connection. The order matters: the library's reader must
// have ended before the command is let go.
func (s *section) lost(err error) error {
	s.stop()
	status := s.conn.guard.Status()
	s.conn.dead = true
	s.conn.guard.Abort()
	switch {
	case s.failed: // the reader was let go by the failure
	case s.left > 0:
		io.Copy(io.Discard, s.lit) // fails at once, and lets the reader go
	case s.msg != nil:
		for s.msg.Next() != nil { // the same for literals not taken yet
		}
	}
	<-s.conn.client.Closed()
	s.cmd.Close()
	s.conn.client.Close()
	return classify(s.ctx, opFetch, err, status)
}

// Close lets the section go. A short rest is read, a long one costs the
// connection.
func (s *section) Close() error {
	if s.err != nil {
		return nil
	}
	if s.left > drainMax {
		s.abandon()
		return nil
	}
	for s.err == nil {
		io.Copy(io.Discard, s)
	}
	return nil
}

// abandon lets the section go at the cost of the connection.
func (s *section) abandon() {
	if s.err == nil {
		s.err = s.broken(errors.New("the rest was not wanted"))
	}
}
