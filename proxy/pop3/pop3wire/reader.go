package pop3wire

import (
	"bytes"
	"errors"
	"io"
)

// The longest lines, in octets, line end included. RFC 2449 section 4 asks for
// 255 at least.
const (
	MaxCommand  = 512
	MaxResponse = 16 << 10 // PASS, AUTH, and the client's lines in a SASL exchange
)

// ErrLineTooLong is what a [Reader] returns for a line over its limit, and for
// every read after that: where the next line would begin is not known.
var ErrLineTooLong = errors.New("pop3wire: line too long")

// maxEmptyReads bounds how often a source may give nothing without an error.
const maxEmptyReads = 100

// A Reader cuts a client's octets into lines. A line ends in CRLF; a bare LF is
// accepted too. It holds MaxCommand octets, and MaxResponse while a long line is
// read. A Reader is not safe for concurrent use.
type Reader struct {
	src      io.Reader
	buf      []byte // buf[start:end] was received and not yet given out
	start    int
	end      int
	received int64
	tooLong  bool
}

// NewReader returns a Reader of src.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, MaxCommand)}
}

// ReadCommand returns the next command line without its line end. The line is
// valid until the next read.
//
// The verb decides the limit: MaxResponse where the line begins with PASS or
// AUTH and a space, in any case of letters, else MaxCommand. A longer line is
// [ErrLineTooLong]. The end of the stream is io.EOF, and io.ErrUnexpectedEOF if
// it cuts a line. Other errors of the source are returned as they are; after one
// that was a timeout, reading may go on.
func (r *Reader) ReadCommand() ([]byte, error) { return r.readLine(commandLimit) }

// ReadResponse is ReadCommand for the client's lines in a SASL exchange, with
// the limit MaxResponse.
func (r *Reader) ReadResponse() ([]byte, error) { return r.readLine(responseLimit) }

// Peek returns the next octet and leaves it in place.
func (r *Reader) Peek() (byte, error) {
	for r.start == r.end {
		if err := r.fill(MaxCommand); err != nil {
			return 0, err
		}
	}
	return r.buf[r.start], nil
}

// Prefetch receives what comes next and gives nothing out, so that the end of a
// stream is seen while nobody waits for a line. It returns io.ErrShortBuffer
// where there is no room.
func (r *Reader) Prefetch() error {
	if r.Buffered() >= MaxCommand {
		return io.ErrShortBuffer
	}
	return r.fill(MaxCommand)
}

// HasLine reports whether the next line was received whole.
func (r *Reader) HasLine() bool { return bytes.IndexByte(r.buf[r.start:r.end], '\n') >= 0 }

// Buffered returns how many octets were received and not yet given out.
func (r *Reader) Buffered() int { return r.end - r.start }

// Received returns how many octets the source has given so far. Less Buffered,
// it is the place in the stream where the next line begins.
func (r *Reader) Received() int64 { return r.received }

// commandLimit returns the limit of a line of which head is what is there so
// far. It is asked again as more arrives, so a head too short to tell is no
// trouble.
func commandLimit(head []byte) int {
	if len(head) < 5 || head[4] != ' ' {
		return MaxCommand
	}
	switch upperVerb(head[:4]) {
	case "PASS", "AUTH":
		return MaxResponse
	}
	return MaxCommand
}

func responseLimit([]byte) int { return MaxResponse }

func (r *Reader) readLine(limitOf func(head []byte) int) ([]byte, error) {
	if r.tooLong {
		return nil, ErrLineTooLong
	}
	if r.start == r.end && len(r.buf) > MaxCommand {
		r.buf, r.start, r.end = make([]byte, MaxCommand), 0, 0 // a long line has passed
	}
	for seen := 0; ; {
		have := r.buf[r.start:r.end]
		limit := limitOf(have)
		if i := bytes.IndexByte(have[seen:], '\n'); i >= 0 {
			n := seen + i + 1
			if n > limit {
				break
			}
			r.start += n
			return bytes.TrimSuffix(have[:n-1], []byte("\r")), nil
		}
		if len(have) >= limit {
			break
		}
		seen = len(have)
		if err := r.fill(limit); err != nil {
			if err == io.EOF && seen > 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	r.tooLong = true
	return nil, ErrLineTooLong
}

// fill receives at least one octet, with room for a line of limit octets.
func (r *Reader) fill(limit int) error {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		bigger := make([]byte, min(2*len(r.buf), max(limit, len(r.buf)+1)))
		copy(bigger, r.buf)
		r.buf = bigger
	}
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		r.received += int64(n)
		if n > 0 {
			return nil // an error beside octets comes again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
