package imap

import (
	"context"
	"io"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
)

// TOP is fetched in pieces that begin small, because most headers are, and grow
// fast, because a client may ask for more lines than there are.
const (
	firstPiece = 16 << 10
	maxPiece   = 4 << 20
	pieceGrows = 4
)

// Retrieve asks for the body and reads up to its first octet. A connection that
// is lost by then is made anew once.
func (m *maildrop) Retrieve(ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
	if err := m.take(opFetch); err != nil {
		return nil, err
	}
	defer m.leave()
	open := func() (upstream.Body, error) { return m.open(ctx, i, want) }
	b, err := open()
	if err != nil && !m.conn.alive() && ctx.Err() == nil {
		if err = m.reconnect(ctx, []int{i}); err == nil {
			b, err = open()
		}
	}
	if err != nil {
		return nil, err
	}
	m.body = &heldBody{body: b, drop: m}
	return m.body, nil
}

// heldBody is the maildrop's open body. It holds the lock while it is read.
type heldBody struct {
	body upstream.Body
	drop *maildrop
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.drop.mu.Lock()
	defer b.drop.mu.Unlock()
	return b.body.Read(p)
}

func (b *heldBody) Octets() int64 { return b.body.Octets() }

func (b *heldBody) Close() error {
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
func (b *heldBody) close() {
	b.body.Close()
	b.drop.body = nil
}

func (m *maildrop) open(ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
	// Every line has an octet at least, so that more lines than octets are the
	// whole message.
	if !want.Top || m.octets[i] <= firstPiece || int64(want.Lines) >= m.octets[i] {
		s, err := m.conn.openSection(ctx, m.uids[i], nil)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	p := &pieces{ctx: ctx, conn: m.conn, uid: m.uids[i], octets: m.octets[i], want: firstPiece}
	if err := p.next(); err != nil {
		return nil, err
	}
	return p, nil
}

// Octets is the size of the literal.
func (s *section) Octets() int64 { return s.size }

// pieces is a body fetched in parts, each when the one before has been read.
type pieces struct {
	ctx    context.Context
	conn   *conn
	uid    uint32
	octets int64 // of the message, as the server lists it
	at     int64 // where the present piece begins
	want   int64 // how much the present piece was asked to hold
	now    *section
	err    error
}

// next asks for the piece at p.at.
func (p *pieces) next() error {
	s, err := p.conn.openSection(p.ctx, p.uid, &imap2.SectionPartial{Offset: p.at, Size: p.want})
	if err != nil {
		return err
	}
	if s.size > p.want {
		return s.broken(failf(upstream.Unavailable, opFetch, "asked for %d octets, got %d", p.want, s.size))
	}
	p.now = s
	return nil
}

func (p *pieces) Read(b []byte) (int, error) {
	for p.err == nil {
		n, err := p.now.Read(b)
		if n > 0 {
			return n, nil
		}
		switch {
		case err == nil:
		case err != io.EOF:
			p.err = err
		case p.now.size < p.want:
			p.err = io.EOF // a piece shorter than asked for is the last
		default:
			p.at += p.now.size
			p.want = min(p.want*pieceGrows, maxPiece)
			switch err := p.next(); {
			case upstream.KindOf(err) == upstream.Gone && p.at >= p.octets:
				p.err = io.EOF // some servers say NIL for the empty rest
			case err != nil:
				p.err = err
			}
		}
	}
	return 0, p.err
}

// Octets is -1: the server announces pieces, not the body.
func (p *pieces) Octets() int64 { return -1 }

func (p *pieces) Close() error {
	if p.err == nil {
		p.err = io.ErrClosedPipe
	}
	return p.now.Close()
}
