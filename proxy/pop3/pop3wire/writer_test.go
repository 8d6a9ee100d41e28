package pop3wire_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// pieces is a destination that remembers its writes.
type pieces struct {
	list []string
	err  error // of every write from now on
}

func (p *pieces) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	p.list = append(p.list, string(b))
	return len(b), nil
}

func TestWhatFitsIsOneWrite(t *testing.T) {
	var dst pieces
	w := pop3wire.NewWriter(&dst, new(pop3wire.Buffers))
	w.Write(pop3wire.AppendOK(w.Available(), "first"))
	w.Write(bytes.Repeat([]byte("x"), pop3wire.BufferSize-len("+OK first\r\n")))
	if len(dst.list) != 0 {
		t.Errorf("%d writes before Flush", len(dst.list))
	}
	if err := w.Flush(); err != nil || len(dst.list) != 1 || len(dst.list[0]) != pop3wire.BufferSize {
		t.Errorf("%d writes, %v", len(dst.list), err)
	}
	if w.Flush(); len(dst.list) != 1 {
		t.Error("an empty write")
	}
}

// Whatever the lines and the pieces are, the same octets come out, in writes of
// about a buffer, or of a piece that is larger; only the last is small.
func TestNothingIsLostBetweenBuffers(t *testing.T) {
	for _, size := range []int{1, 7, 511, 512, 513, 4000, pop3wire.BufferSize - 1, pop3wire.BufferSize, pop3wire.BufferSize + 1, 3*pop3wire.BufferSize + 5} {
		var dst pieces
		var want strings.Builder
		w := pop3wire.NewWriter(&dst, new(pop3wire.Buffers))
		for i := range 200_000/size + 3 {
			text := strings.Repeat(string(rune('a'+i%26)), size)
			want.WriteString(text)
			if i%2 == 0 {
				w.Write(append(w.Available(), text...))
			} else {
				io.WriteString(w, text)
			}
		}
		w.Flush()
		if got := strings.Join(dst.list, ""); got != want.String() {
			t.Errorf("lines of %d octets: %d octets came out, want %d", size, len(got), want.Len())
		}
		least := min(pop3wire.BufferSize-max(size, pop3wire.MaxCommand), size)
		for i, p := range dst.list[:len(dst.list)-1] {
			if len(p) < least || len(p) > max(pop3wire.BufferSize, size) {
				t.Errorf("lines of %d octets: write %d of %d has %d octets", size, i, len(dst.list), len(p))
			}
		}
	}
}

func TestNothingIsWrittenAfterAnError(t *testing.T) {
	broken := errors.New("broken")
	dst := pieces{err: broken}
	w := pop3wire.NewWriter(&dst, new(pop3wire.Buffers))
	if _, err := io.WriteString(w, "waits"); err != nil {
		t.Errorf("Write: %v before anything was sent", err)
	}
	if err := w.Flush(); err != broken {
		t.Errorf("Flush: %v, want %v", err, broken)
	}
	dst.err = nil
	if _, err := w.Write(append(w.Available(), "more"...)); err != broken {
		t.Errorf("Write: %v, want %v", err, broken)
	}
	if err := w.Flush(); err != broken || len(dst.list) != 0 {
		t.Errorf("Flush: %v, %q was sent", err, dst.list)
	}
}

func TestWhatIsDiscardedIsNotSent(t *testing.T) {
	var dst pieces
	w := pop3wire.NewWriter(&dst, new(pop3wire.Buffers))
	io.WriteString(w, "one")
	w.Discard()
	io.WriteString(w, "two")
	if err := w.Flush(); err != nil || len(dst.list) != 1 || dst.list[0] != "two" {
		t.Errorf("%q, %v", dst.list, err)
	}
}

// A buffer goes from one session to the next: none keeps it while nothing
// waits.
func TestAnIdleWriterHasNoBuffer(t *testing.T) {
	const sessions = 1000
	var buffers pop3wire.Buffers
	writers := make([]*pop3wire.Writer, sessions)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range writers {
		w := pop3wire.NewWriter(io.Discard, &buffers)
		w.Write(pop3wire.AppendOK(w.Available(), ""))
		w.Flush()
		writers[i] = w
	}
	runtime.ReadMemStats(&after)
	// Half of it, because under the race detector a pool forgets some.
	if took := after.TotalAlloc - before.TotalAlloc; took > sessions*pop3wire.BufferSize/2 {
		t.Errorf("%d writers take %d octets", len(writers), took)
	}
}
