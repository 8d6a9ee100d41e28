package pop3wire

import "bytes"

// A DotWriter writes message text as a multi-line response (RFC 1939 section 3).
//
// Line ends are made CRLF first: a bare LF gets its CR. Then every line that
// begins with a dot gets one more. A bare CR is kept and begins no line, since
// there are clients that end a line at LF alone and none that must end it at CR.
// All other octets pass as they are. Writes may cut the text anywhere; none of
// them allocates.
//
// Errors are those of the Writer. Nothing but Finish writes the terminator. A
// DotWriter is not safe for concurrent use.
type DotWriter struct {
	dst    *Writer
	octets int64
	state  dotState
}

// dotState is what was written last.
type dotState uint8

const (
	lineStart dotState = iota // nothing yet, or a line end
	inLine
	afterCR
)

// NewDotWriter returns a DotWriter to dst, at the beginning of a message.
func NewDotWriter(dst *Writer) *DotWriter { return &DotWriter{dst: dst} }

// Octets returns the size of the text so far as RFC 1939 section 11 counts it:
// with CRLF line ends, without the dots that were added. After an error it
// does not count what failed.
func (w *DotWriter) Octets() int64 { return w.octets }

// Write writes p.
func (w *DotWriter) Write(p []byte) (int, error) {
	done := 0 // p[:done] was passed on
	for at := 0; at < len(p); {
		if w.state == lineStart && p[at] == '.' {
			w.pass(p[done:at])
			w.dst.writeByte('.')
			done = at
		}
		nl := bytes.IndexByte(p[at:], '\n')
		if nl < 0 {
			w.state = inLine
			if p[len(p)-1] == '\r' {
				w.state = afterCR
			}
			break
		}
		nl += at
		if nl > at && p[nl-1] != '\r' || nl == at && w.state != afterCR {
			w.pass(p[done:nl])
			w.passByte('\r')
			done = nl
		}
		w.state = lineStart
		at = nl + 1
	}
	w.pass(p[done:])
	if w.dst.err != nil {
		return done, w.dst.err
	}
	return len(p), nil
}

// Finish ends the last line if the text did not, and writes the terminator. It
// is to be called once, and only if the text is complete. What it returns is no
// proof that anything was sent: only Flush of the Writer is.
func (w *DotWriter) Finish() error {
	if w.state != lineStart {
		w.passByte('\r')
		w.passByte('\n')
		w.state = lineStart
	}
	_, err := w.dst.Write(append(w.dst.Available(), terminator...))
	return err
}

// pass writes octets of the text. The dots that are added do not count.
func (w *DotWriter) pass(p []byte) {
	if _, err := w.dst.Write(p); err == nil {
		w.octets += int64(len(p))
	}
}

func (w *DotWriter) passByte(c byte) {
	if w.dst.writeByte(c); w.dst.err == nil {
		w.octets++
	}
}
