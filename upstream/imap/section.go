package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	imap2 "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

// drainMax is how many octets of an unwanted rest are read to keep the
// connection; a longer rest costs the connection instead.
const drainMax = 256 << 10

// A section is one UID FETCH of BODY.PEEK[], whole or in part, being read. Its
// Read gives io.EOF only after the literal was read to its announced length and
// the server said OK.
type section struct {
	conn  *conn
	ctx   context.Context
	stop  func() bool
	start time.Time
	uid   imap2.UID
	cmd   *imapclient.FetchCommand
	msg   *imapclient.FetchMessageData
	lit   imap2.LiteralReader
	size  int64
	left  int64

	failed bool  // lit gave an error, after which it must not be touched
	err    error // the end, once reached: io.EOF or an *upstream.Error
}

// openSection asks for a message's body, or a part of it, and reads up to the
// first octet. Every form in which servers say that the message is gone is an
// error of kind Gone, after which the connection goes on.
func (c *conn) openSection(ctx context.Context, uid uint32, part *imap2.SectionPartial) (*section, error) {
	if !c.alive() {
		return nil, failf(upstream.Unavailable, opFetch, "the connection to the server is lost")
	}
	if ctx.Err() != nil {
		return nil, fail(upstream.Unavailable, opFetch, context.Cause(ctx))
	}
	s := &section{conn: c, ctx: ctx, start: time.Now(), uid: imap2.UID(uid)}
	c.guard.Begin(imapguard.Expect{Body: uid})
	s.stop = context.AfterFunc(ctx, func() { c.guard.Abort() })
	s.cmd = c.client.Fetch(imap2.UIDSetNum(s.uid), &imap2.FetchOptions{
		UID:         true,
		BodySection: []*imap2.FetchItemBodySection{{Peek: true, Partial: part}},
	})
	if s.msg = s.cmd.Next(); s.msg == nil {
		return nil, s.gone("no such message")
	}
	for s.lit == nil {
		item := s.msg.Next()
		if item == nil {
			return nil, s.gone("no body")
		}
		if body, ok := item.(imapclient.FetchItemDataBodySection); ok {
			if body.Literal == nil {
				return nil, s.gone("body NIL")
			}
			s.lit = body.Literal
		} else if err := s.check(item); err != nil {
			return nil, s.broken(err)
		}
	}
	s.size = s.lit.Size()
	s.left = s.size
	return s, nil
}

// check refuses an item that speaks of another message.
func (s *section) check(item imapclient.FetchItemData) error {
	switch item := item.(type) {
	case imapclient.FetchItemDataUID:
		if item.UID != s.uid {
			return fmt.Errorf("asked for UID %d, got UID %d", s.uid, item.UID)
		}
	case imapclient.FetchItemDataBodySection:
		return errors.New("two bodies for one message")
	}
	return nil
}

func (s *section) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.lit.Read(p)
	s.left -= int64(n)
	switch {
	case err == io.EOF && s.left == 0:
		s.err = s.finish()
	case err == io.EOF:
		s.failed = true
		s.err = s.broken(imapguard.ErrCut)
	case err != nil:
		s.failed = true
		s.err = s.broken(err)
	default:
		return n, nil
	}
	if n > 0 {
		return n, nil // the end is told by the next call
	}
	return 0, s.err
}

// finish reads what follows the literal, to the tagged OK.
func (s *section) finish() error {
	if err := s.tagged(); err != nil {
		return s.end(err)
	}
	s.end(nil)
	return io.EOF
}

// gone ends a command that brought no body.
func (s *section) gone(how string) error {
	err := s.tagged()
	if err == nil {
		err = failf(upstream.Gone, opFetch, "the server answers with %s", how)
	}
	return s.end(err)
}

// tagged reads to the tagged reply and ends the command.
func (s *section) tagged() error {
	for s.msg != nil {
		item := s.msg.Next()
		if item == nil {
			break
		}
		if err := s.check(item); err != nil {
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
