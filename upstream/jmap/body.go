package jmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
)

// TOP is fetched in pieces that begin small, because most headers are, and grow
// fast, because a client may ask for more lines than there are.
const (
	firstPiece = 16 << 10
	maxPiece   = 4 << 20
	pieceGrows = 4
)

// drainMax is how many octets are read to an end that nobody wants, to keep the
// connection.
const drainMax = 32 << 10

var errClosed = errors.New("the maildrop is closed")

// errNotFound says that the server does not have the blob.
var errNotFound = errors.New("the server does not have that blob")

// Retrieve asks for the blob and reads up to the header of the answer.
func (m *maildrop) Retrieve(ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
	if err := m.idle(opFetch); err != nil {
		return nil, err
	}
	b := &body{drop: m, size: m.octets[i]}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	b.stop = context.AfterFunc(m.life, func() { b.cancel(errClosed) })
	t := m.client.store.o.StallTime
	b.stall = time.AfterFunc(t, func() { b.cancel(fmt.Errorf("the body stood still for %v", t)) })
	b.stall.Stop()
	// Every line has an octet at least, so that more lines than octets are the
	// whole message.
	if want.Top && b.size > firstPiece && int64(want.Lines) < b.size && !m.noRanges {
		b.piece = firstPiece
	}
	if err := b.begin(i); err != nil {
		b.end()
		return nil, err
	}
	m.body = b
	return b, nil
}

// body is the maildrop's open body: one answer, or, for TOP, growing ranges, each
// asked for when the one before has been read.
type body struct {
	drop   *maildrop
	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   func() bool
	url    string
	size   int64       // octets of the blob, as listed
	at     int64       // octets given out so far
	piece  int64       // octets the next range is asked to hold; 0: no ranges
	stall  *time.Timer // runs while a read is under way
	now    io.ReadCloser
	left   int64 // octets that now has yet to give
	err    error
}

// Octets is the size that was listed: the blob has it, or the body is an error.
func (b *body) Octets() int64 { return b.size }

// begin finds the blob and opens it. Where the server does not have it, that it
// told of a moment ago, it is asked once more what is there now.
func (b *body) begin(i int) error {
	for try := 1; ; try++ {
		blob, err := b.drop.blob(b.ctx, i)
		if err != nil {
			return err
		}
		if b.url, err = b.drop.client.blobURL(blob); err != nil {
			return fail(upstream.Internal, opFetch, err)
		}
		err = b.open()
		if !errors.Is(err, errNotFound) || try == 2 {
			return err
		}
		b.drop.blobs = nil
	}
}

// open asks for the next range, or for the whole. A request that ended without an
// answer is sent again once.
func (b *body) open() error {
	start := time.Now()
	err := b.openOnce()
	if b.drop.client.store.mayRepeat(b.ctx, err) {
		err = b.openOnce()
	}
	b.drop.client.store.traceEnd(opFetch, start, err)
	return err
}

func (b *body) openOnce() error {
	header := http.Header{"Accept": {"*/*"}}
	want := b.size
	if b.piece > 0 {
		want = min(b.piece, b.size-b.at)
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.at, b.at+want-1))
	}
	t := b.drop.client.store.o.CallTime
	stop := b.watch(t, "no answer within %v")
	resp, err := b.drop.client.send(b.ctx, opFetch, http.MethodGet, b.url, nil, header)
	stop()
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		if b.piece > 0 {
			b.drop.noRanges = true
		}
		want = b.size
		if b.at > 0 {
			resp.Body.Close()
			return failf(upstream.Unavailable, opFetch, "the server knew ranges, and does not any more")
		}
		b.piece = 0
	case resp.StatusCode == http.StatusPartialContent && b.piece > 0:
		told := resp.Header.Get("Content-Range")
		if told != fmt.Sprintf("bytes %d-%d/%d", b.at, b.at+want-1, b.size) {
			resp.Body.Close()
			return failf(upstream.Unavailable, opFetch, "asked for %d octets from %d on of %d, got %s", want, b.at, b.size, shown(told))
		}
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		discard(resp)
		return fail(upstream.Unavailable, opFetch, errNotFound)
	default:
		return statusOf(opFetch, resp)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		resp.Body.Close()
		return failf(upstream.Unavailable, opFetch, "%d octets were listed and %d come", want, resp.ContentLength)
	}
	b.now, b.left = resp.Body, want
	return nil
}

// watch ends the body if the function that it returns is not called in time.
func (b *body) watch(d time.Duration, text string) (stop func()) {
	timer := time.AfterFunc(d, func() { b.cancel(fmt.Errorf(text, d)) })
	return func() { timer.Stop() }
}

func (b *body) Read(p []byte) (int, error) {
	for b.err == nil {
		n, err := b.read(p)
		b.at += int64(n)
		b.left -= int64(n)
		switch {
		case b.left < 0:
			b.err = failf(upstream.Unavailable, opFetch, "more octets than the %d that were listed", b.size)
			return 0, b.err
		case err == io.EOF && b.left > 0:
			b.err = failf(upstream.Unavailable, opFetch, "the body ends after %d of %d octets", b.at, b.size)
		case err == io.EOF && b.at == b.size:
			b.err = io.EOF
		case err == io.EOF:
			b.err = b.next()
		case err != nil:
			b.err = lost(b.ctx, opFetch, err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// read is one read, which has to bring something in time.
func (b *body) read(p []byte) (int, error) {
	b.stall.Reset(b.drop.client.store.o.StallTime)
	defer b.stall.Stop()
	return b.now.Read(p)
}

// next asks for the range behind the present one.
func (b *body) next() error {
	b.now.Close()
	b.piece = min(b.piece*pieceGrows, maxPiece)
	if err := b.open(); err != nil {
		return err
	}
	return nil
}

// Close ends the transfer. A short rest is read, so that the connection can be
// used again; else it is closed.
func (b *body) Close() error {
	if b.drop.body != b {
		return nil
	}
	if b.err == nil && b.left <= drainMax && b.ctx.Err() == nil {
		stop := b.watch(drainTime, "a rest that nobody wants did not come within %v")
		io.CopyN(io.Discard, b.now, b.left+1)
		stop()
	}
	b.now.Close()
	b.end()
	b.drop.body = nil
	return nil
}

// drainTime is how long such a rest is waited for.
const drainTime = 500 * time.Millisecond

// end lets go what watches the context.
func (b *body) end() {
	b.stop()
	b.cancel(context.Canceled)
}

// pointer escapes a part of a path into an object (RFC 6901 section 3).
func pointer(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(s) }
