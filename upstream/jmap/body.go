package jmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

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

// drainMax is how many octets are read to an end that nobody wants, to keep the
// connection.
const drainMax = 32 << 10

var errClosed = errors.New("the maildrop is closed")

// errNotFound says that the server does not have the blob.
var errNotFound = errors.New("the server does not have that blob")

// maxOverlap is how many octets before the place of a cut are read again, to be
// compared.
const maxOverlap = 512

// Retrieve gives the body that was fetched ahead, or asks for the blob and reads
// up to the header of the answer.
func (m *maildrop) Retrieve(ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
	if err := m.idle(opFetch); err != nil {
		return nil, err
	}
	b := m.newBody(ctx, i)
	// Every line has an octet at least, so that more lines than octets are the
	// whole message.
	extent := readahead.Whole
	if want.Top && int64(want.Lines) < b.size {
		extent = readahead.Top
	}
	if extent == readahead.Top && b.size > firstPiece && !m.noRanges {
		b.piece = firstPiece
	}
	if text, ok := m.ahead.take(b.ctx, i, extent); ok {
		b.piece, b.now, b.left = 0, io.NopCloser(bytes.NewReader(text)), b.size
	} else if err := b.begin(i); err != nil {
		b.end()
		return nil, err
	} else {
		m.ahead.begin(i, extent)
	}
	m.body = b
	return b, nil
}

// body is one blob being read: one answer, or, for TOP, growing ranges, each asked
// for when the one before has been read. Where the server knows ranges, an answer
// that is cut on the way is continued once, if the rest is proved to be of the
// same.
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

	ranges  bool   // the server says that it knows them
	resumed bool   // once is enough
	tail    []byte // the last octets given out, at most maxOverlap, where the server knows ranges

	err error
}

// newBody is the body of message i, without its beginning. It ends with ctx and
// with the maildrop.
func (m *maildrop) newBody(ctx context.Context, i int) *body {
	b := &body{drop: m, size: m.Size(i)}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	b.stop = context.AfterFunc(m.life, func() { b.cancel(errClosed) })
	t := m.client.store.o.StallTime
	b.stall = time.AfterFunc(t, func() { b.cancel(fmt.Errorf("the body stood still for %v", t)) })
	b.stall.Stop()
	return b
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

// open asks for the next range, or for the whole.
func (b *body) open() error {
	to := b.size
	if b.piece > 0 {
		to = min(b.at+b.piece, b.size)
	}
	resp, err := b.ask(b.at, to, b.piece > 0)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && b.piece > 0 {
		b.drop.noRanges = true
		b.piece, to = 0, b.size
	}
	b.now, b.left = resp.Body, to-b.at
	b.ranges = b.piece > 0 || strings.EqualFold(resp.Header.Get("Accept-Ranges"), "bytes")
	return nil
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
			b.keepTail(p[:n])
			b.err = b.resume(lost(b.ctx, opFetch, err))
			if n > 0 {
				return n, nil
			}
			continue
		}
		b.keepTail(p[:n])
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

func (b *body) keepTail(p []byte) {
	if !b.ranges || b.resumed {
		return
	}
	b.tail = append(b.tail, p[max(0, len(p)-maxOverlap):]...)
	b.tail = b.tail[max(0, len(b.tail)-maxOverlap):]
}

// next asks for the range behind the present one.
func (b *body) next() error {
	b.now.Close()
	b.piece = min(b.piece*pieceGrows, maxPiece)
	return b.open()
}

// resume goes on where the body was cut. A blob is the same for ever (RFC 8620
// section 6.1); that this is so is proved by its size and by the octets before the
// cut. Otherwise the body ends in cause.
func (b *body) resume(cause error) error {
	if !b.ranges || b.resumed || b.left == 0 || b.ctx.Err() != nil {
		return cause
	}
	b.resumed = true
	b.now.Close()
	resp, err := b.ask(b.at-int64(len(b.tail)), b.at+b.left, true)
	if err != nil {
		return cause
	}
	if resp.StatusCode != http.StatusPartialContent {
		resp.Body.Close()
		return cause
	}
	b.now = resp.Body
	again := make([]byte, len(b.tail))
	if _, err := io.ReadFull(readerFunc(b.read), again); err != nil || !bytes.Equal(again, b.tail) {
		return cause
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

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
