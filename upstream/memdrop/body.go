package memdrop

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/popgate/popgate/upstream"
)

func (m *maildrop) Retrieve(ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
	msg, a, s := m.list[i], m.account, m.account.store
	s.mu.Lock()
	s.calls.Retrieve++
	s.mu.Unlock()
	if m.body != nil {
		return nil, fail("retrieve", upstream.Internal, errors.New("a body is open"))
	}
	if m.updated {
		return nil, fail("retrieve", upstream.Internal, errors.New("the maildrop was updated"))
	}
	ctx, cancel := a.join(ctx)
	b, err := m.retrieve(ctx, msg, want)
	if err != nil {
		cancel()
		return nil, err
	}
	b.cancel = cancel
	m.body = b
	return b, nil
}

func (m *maildrop) retrieve(ctx context.Context, msg *message, want upstream.Extent) (*body, error) {
	a, s := m.account, m.account.store
	hooks := s.hooks()
	if hooks.Retrieve != nil {
		if err := hooks.Retrieve(ctx, a.user.name, msg.ID); err != nil {
			return nil, err
		}
	}
	if err := a.ended(ctx, "retrieve"); err != nil {
		return nil, err
	}
	b := &body{maildrop: m, ctx: ctx, rest: msg.Body}
	if want.Top {
		b.rest = top(b.rest, want.Lines)
	}
	b.octets = int64(len(b.rest))
	if hooks.Octets != nil {
		b.octets = hooks.Octets(a.user.name, msg.ID, b.octets)
	}
	if hooks.Body != nil {
		b.cut = hooks.Body(a.user.name, msg.ID)
	}
	if b.cut != nil {
		b.rest = b.rest[:max(0, min(b.cut.After, int64(len(b.rest))))]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if msg.gone {
		return nil, fail("retrieve", upstream.Gone, nil)
	}
	s.bodies++
	return b, nil
}

// top returns the header, the empty line, and n lines of what follows.
func top(p []byte, n int) []byte {
	inBody := false
	for end := 0; end < len(p); {
		if inBody {
			if n == 0 {
				return p[:end]
			}
			n--
		}
		nl := bytes.IndexByte(p[end:], '\n')
		if nl < 0 {
			break
		}
		if line := p[end : end+nl]; len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			inBody = true
		}
		end += nl + 1
	}
	return p
}

type body struct {
	maildrop *maildrop
	ctx      context.Context // the caller's, joined with the account's life
	cancel   context.CancelFunc
	rest     []byte
	octets   int64
	cut      *Cut
	closed   bool
}

func (b *body) Octets() int64 { return b.octets }

func (b *body) Read(p []byte) (int, error) {
	if b.closed {
		return 0, fail("read", upstream.Internal, errors.New("the body is closed"))
	}
	if err := b.maildrop.account.ended(b.ctx, "read"); err != nil {
		return 0, err
	}
	if len(b.rest) > 0 {
		n := copy(p, b.rest)
		b.rest = b.rest[n:]
		return n, nil
	}
	if b.cut == nil {
		return 0, io.EOF
	}
	if b.cut.Err == nil {
		<-b.ctx.Done()
		return 0, b.maildrop.account.ended(b.ctx, "read")
	}
	return 0, b.cut.Err
}

func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.cancel()
	b.maildrop.body = nil
	s := b.maildrop.account.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies--
	return nil
}
