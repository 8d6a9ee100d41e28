package imap

import (
	"bytes"
	"context"
	"io"
	"math"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/readahead"
)

// TOP is fetched in pieces that begin small, because most headers are, and grow
// fast, because a client may ask for more lines than there are.
const (
	firstPiece = 16 << 10
	maxPiece   = 4 << 20
	pieceGrows = 4
)

// maxOverlap is how many octets before the place of a loss are read again, to
// be compared.
const maxOverlap = 512

// Retrieve gives the body that was fetched ahead, or asks for it and reads up to
// its first octet. A connection that is lost by then is made anew once.
func (m *maildrop) Retrieve(ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
	if err := m.take(opFetch); err != nil {
		return nil, err
	}
	defer m.leave()
	b := &body{drop: m, ctx: ctx, i: i, total: -1}
	// Every line has an octet at least, so that more lines than octets are the
	// whole message.
	if want.Top && int64(want.Lines) < m.octets[i] {
		b.extent = readahead.Top
	}
	if err := b.begin(); err != nil {
		return nil, err
	}
	if b.piece == 0 {
		b.total = b.now.octets()
	}
	m.body = b
	return b, nil
}

// body is the maildrop's open body: one section, or what was held of it, or, for
// TOP, growing pieces, each fetched when the one before has been read. It holds
// the maildrop's lock while it is read. A connection that is lost on the way is
// made anew once, and the body goes on where it was cut, if it is proved to be
// the same.
type body struct {
	drop   *maildrop
	ctx    context.Context
	i      int
	extent readahead.Extent
	now    source
	at     int64 // octets given out so far
	total  int64 // octets of the body; -1 where pieces are fetched
	piece  int64 // octets the next piece is asked to hold; 0: no pieces
	asked  int64 // octets the present piece was asked to hold

	tail    []byte // the last octets given out, at most maxOverlap
	resumed bool
	err     error
}

// source is where a body's octets come from: a *section or a *held.
type source interface {
	io.ReadCloser
	octets() int64 // that it has in all
	abandon()      // is Close without regard to the connection
}

// Octets is the size of the literal; -1 where pieces are fetched, because the
// server announces those and not the body.
func (b *body) Octets() int64 { return b.total }

// part is what to ask for at first.
func (b *body) part() *imap2.SectionPartial {
	if b.piece == 0 {
		return nil
	}
	return &imap2.SectionPartial{Size: b.piece}
}

// begin finds the first octets.
func (b *body) begin() error {
	if b.takeHeld() {
		return nil
	}
	if a := b.plan(); a != nil && b.open(b.part(), a) == nil {
		return b.checkMadeUp()
	}
	// Whatever is wrong with another message is not wrong with this one.
	b.piece = 0
	if b.extent == readahead.Top && b.drop.octets[b.i] > firstPiece {
		b.piece = firstPiece
	}
	err := b.open(b.part(), nil)
	if err != nil && b.lost() {
		if err = b.drop.reconnect(b.ctx, []int{b.i}); err == nil {
			err = b.open(b.part(), nil)
		}
	}
	if err != nil {
		return err
	}
	return b.checkMadeUp()
}

// checkMadeUp asks for the message again where the server may have made it up,
// once it is known to be there.
func (b *body) checkMadeUp() error {
	if !b.suspect() {
		return nil
	}
	b.now.Close()
	if err := b.drop.stillThere(b.ctx, b.i); err != nil {
		return err
	}
	return b.open(b.part(), nil)
}

// open asks for a part of the body, or for the whole where part is nil, and for
// the messages of a beside it.
func (b *body) open(part *imap2.SectionPartial, a *ahead) error {
	s, err := b.drop.conn.openSection(b.ctx, request{uid: b.drop.uids[b.i], part: part, ahead: a})
	if err != nil {
		return err
	}
	if part != nil {
		b.asked = part.Size
		if s.size > part.Size {
			return s.broken(failf(upstream.Unavailable, opFetch, "asked for %d octets, got %d", part.Size, s.size))
		}
	}
	b.now = s
	return nil
}

// suspect reports whether the server may have made the body up: it is short, and
// not of the listed size.
func (b *body) suspect() bool {
	s, listed := b.now.octets(), b.drop.octets[b.i]
	whole := b.piece == 0 || s < b.asked
	return whole && s != listed && s <= drainMax && !b.drop.inexact
}

// lost reports whether a new connection may help.
func (b *body) lost() bool { return !b.drop.conn.alive() && !b.drop.over && b.ctx.Err() == nil }

// shared reports whether the present command asked for other messages too, and
// may have failed for their sake.
func (b *body) shared() bool {
	s, ok := b.now.(*section)
	return ok && s.ahead != nil && b.drop.conn.alive()
}

func (b *body) Read(p []byte) (int, error) {
	b.drop.mu.Lock()
	defer b.drop.mu.Unlock()
	for b.err == nil {
		n, err := b.now.Read(p)
		b.at += int64(n)
		if n > 0 {
			b.tail = append(b.tail, p[max(0, n-maxOverlap):n]...)
			b.tail = b.tail[max(0, len(b.tail)-maxOverlap):]
			return n, nil
		}
		switch {
		case err == nil:
		case err == io.EOF:
			b.err = b.next()
		case !b.resumed && (b.lost() || b.shared()):
			b.err = b.resume(err)
		default:
			b.err = err
		}
	}
	return 0, b.err
}

// next asks for the piece behind the present one; io.EOF if there is none.
func (b *body) next() error {
	switch {
	case b.piece == 0:
		return io.EOF
	case b.now.octets() < b.asked: // a piece shorter than asked for is the last
		if b.at != b.drop.octets[b.i] && !b.drop.inexact {
			if err := b.drop.stillThere(b.ctx, b.i); err != nil {
				return err
			}
		}
		return io.EOF
	}
	b.piece = min(b.piece*pieceGrows, maxPiece)
	err := b.open(&imap2.SectionPartial{Offset: b.at, Size: b.piece}, nil)
	switch {
	case err == nil:
		return nil
	case upstream.KindOf(err) == upstream.Gone && b.at >= b.drop.octets[b.i]:
		return io.EOF // some servers say NIL for the empty rest
	case !b.resumed && b.lost():
		return b.resume(err)
	}
	return err
}

// resume goes on where the body was cut, on a new connection if that was lost. The
// message is proved to be the same by the mailbox's UIDVALIDITY and UIDNEXT, by
// its size as listed, by the length of the rest, and by the octets before the
// cut. Otherwise the body ends in cause.
func (b *body) resume(cause error) error {
	b.resumed = true
	start := b.at - int64(len(b.tail))
	size := b.piece + int64(len(b.tail))
	if b.piece == 0 {
		size = b.total - start
	}
	if start > math.MaxUint32 || size > math.MaxUint32 || size <= 0 {
		return cause // over what a partial FETCH can say, RFC 3501 section 9
	}
	if b.lost() && b.drop.reconnect(b.ctx, []int{b.i}) != nil {
		return cause
	}
	if b.open(&imap2.SectionPartial{Offset: start, Size: size}, nil) != nil {
		return cause
	}
	again := make([]byte, len(b.tail))
	_, err := io.ReadFull(b.now, again)
	if err != nil || !bytes.Equal(again, b.tail) || b.piece == 0 && b.now.octets() != size {
		b.now.abandon()
		return cause
	}
	return nil
}

func (b *body) Close() error {
	b.drop.mu.Lock()
	if b.drop.body != b {
		b.drop.mu.Unlock()
		return nil
	}
	b.close()
	b.drop.leave()
	return nil
}

// close is Close under the lock.
func (b *body) close() {
	b.now.Close()
	b.drop.body = nil
}
