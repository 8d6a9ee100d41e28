package pop3wire

import (
	"io"
	"sync"
)

// BufferSize is how much goes to a client at once, in octets.
const BufferSize = 32 << 10

// A Buffer holds what is on its way.
type Buffer [BufferSize]byte

// Buffers is where sessions take a [Buffer] from for as long as they have use
// for it. The zero value is ready. It is safe for concurrent use.
type Buffers struct{ pool sync.Pool }

// Get returns a Buffer with any contents.
func (b *Buffers) Get() *Buffer {
	if buf, ok := b.pool.Get().(*Buffer); ok {
		return buf
	}
	return new(Buffer)
}

// Put takes a Buffer that nobody uses any more.
func (b *Buffers) Put(buf *Buffer) { b.pool.Put(buf) }

// A Writer gathers what goes to a client, and sends it on Flush or when it is
// BufferSize octets. It has a buffer only while something waits in it: an idle
// session has none.
//
// Errors of the destination are returned and kept: nothing is written after one.
// A Writer is not safe for concurrent use.
type Writer struct {
	dst     io.Writer
	buffers *Buffers
	buf     *Buffer // nil: nothing waits
	room    []byte  // the octets of buf
	n       int     // how many of them wait
	err     error
}

// NewWriter returns a Writer to dst that takes its buffers from b.
func NewWriter(dst io.Writer, b *Buffers) *Writer { return &Writer{dst: dst, buffers: b} }

// Available returns an empty slice to append one line to and give to Write at
// once, which then has little to copy. Its capacity is MaxCommand or more, but
// after an error; it is no limit.
func (w *Writer) Available() []byte {
	if w.err == nil && len(w.room)-w.n < MaxCommand {
		w.makeRoom()
	}
	return w.room[w.n:w.n]
}

// Write gathers p, or sends it where it is large and does not fit: what is large
// is not worth a copy.
func (w *Writer) Write(p []byte) (int, error) {
	if len(p) >= BufferSize/2 && len(p) > len(w.room)-w.n {
		if w.Flush() != nil {
			return 0, w.err
		}
		return w.send(p)
	}
	for rest := p; ; {
		n := copy(w.room[w.n:], rest)
		w.n += n
		if rest = rest[n:]; len(rest) == 0 {
			return len(p), w.err
		}
		if w.makeRoom(); w.err != nil {
			return len(p) - len(rest), w.err
		}
	}
}

// writeByte is Write of one octet; errors are told by the next Write.
func (w *Writer) writeByte(c byte) {
	if w.n == len(w.room) {
		w.makeRoom()
	}
	if w.err == nil {
		w.room[w.n] = c
		w.n++
	}
}

// makeRoom takes a buffer, or sends what is in it. Without an error there is
// room after it.
func (w *Writer) makeRoom() {
	if w.Flush() == nil {
		w.buf = w.buffers.Get()
		w.room = w.buf[:]
	}
}

// Flush sends what waits, in one write.
func (w *Writer) Flush() error {
	if w.n > 0 {
		w.send(w.room[:w.n])
	}
	w.Discard()
	return w.err
}

func (w *Writer) send(p []byte) (n int, err error) {
	n, w.err = w.dst.Write(p)
	return n, w.err
}

// Discard drops what waits.
func (w *Writer) Discard() {
	if w.buf != nil {
		w.buffers.Put(w.buf)
	}
	w.buf, w.room, w.n = nil, nil, 0
}
