package wrap

import (
	"fmt"
	"io"
	"slices"

	"github.com/popgate/popgate/upstream"
)

// idleReads is how many reads in a row may give neither an octet nor an error.
const idleReads = 100

// contractBody checks one body. The first error of Read is its last.
type contractBody struct {
	inner    upstream.Body
	maildrop *contractMaildrop
	count    int64 // octets given
	idle     int   // reads in a row that gave nothing
	closed   bool
	err      error
}

func (b *contractBody) Octets() int64 { return b.inner.Octets() }

func (b *contractBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, violation("read", "the body is closed")
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.inner.Read(p)
	if n < 0 || n > len(p) {
		b.err = violation("read", "%d octets for a buffer of %d", n, len(p))
		return 0, b.err
	}
	b.count += int64(n)
	b.err = b.check(n, len(p), err)
	return n, b.err
}

// check judges one read of n octets and its error, into a buffer of size.
func (b *contractBody) check(n, size int, err error) error {
	octets := b.Octets()
	if octets >= 0 && b.count > octets {
		return violation("read", "%d octets were announced and %d came", octets, b.count)
	}
	switch {
	case err == io.EOF:
		if octets >= 0 && b.count != octets {
			return violation("read", "%d octets were announced and the body ends well after %d", octets, b.count)
		}
		return err
	case err != nil:
		return checkError("read", err)
	case n > 0 || size == 0:
		b.idle = 0
		return nil
	}
	if b.idle++; b.idle >= idleReads {
		return violation("read", "%d reads in a row gave nothing", b.idle)
	}
	return nil
}

func (b *contractBody) Close() error {
	if !b.closed {
		b.closed = true
		b.maildrop.bodyOpen = false
	}
	return checkError("close", b.inner.Close())
}

// checkError returns err if it has the form of the hinge.
func checkError(op string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := err.(*upstream.Error)
	switch {
	case !ok:
		return &upstream.Error{Kind: upstream.Internal, Op: op, Err: fmt.Errorf("contract: an error of type %T: %w", err, err)}
	case e == nil:
		return violation(op, "an error that is a nil *upstream.Error")
	case e.Op == "" || !slices.Contains(upstream.Kinds(), e.Kind):
		return &upstream.Error{Kind: upstream.Internal, Op: op, Sent: e.Sent, Err: fmt.Errorf("contract: an error of kind %d and operation %q: %w", e.Kind, e.Op, e)}
	}
	return err
}

func violation(op, format string, args ...any) error {
	return &upstream.Error{Kind: upstream.Internal, Op: op, Err: fmt.Errorf("contract: "+format, args...)}
}
