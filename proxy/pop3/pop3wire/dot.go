package pop3wire

import (
	"bytes"
	"io"
)

// A DotWriter sends message text as a multi-line response (RFC 1939 section 3).
//
// Line ends are made CRLF first: a bare LF gets its CR. Then every line that
// begins with a dot gets one more. A bare CR is kept and begins no line, since
// there are clients that end a line at LF alone and none that must end it at CR.
// All other octets pass as they are. Writes may cut the text anywhere; none of
// them allocates.
//
// Errors of the destination are returned and kept: nothing is written after one.
// Nothing but Finish writes the terminator. A DotWriter is not safe for
// concurrent use.
type DotWriter struct {
	dst    io.Writer
	octets int64
	state  dotState
	err    error
}

// dotState is what was written last.
type dotState uint8

const (
	lineStart dotState = iota // nothing yet, or a line end
	inLine
	afterCR
)

// In variables, so that no write has to make them: an interface call lets what
// it is given escape.
var (
	oneDot  = []byte(".")
	oneCR   = []byte("\r")
	oneCRLF = []byte("\r\n")
)

// NewDotWriter returns a DotWriter to dst, at the beginning of a message.
func NewDotWriter(dst io.Writer) *DotWriter { return &DotWriter{dst: dst} }

// Octets returns the size of the text so far as RFC 1939 section 11 counts it:
// with CRLF line ends, without the dots that were added. After an error it
// does not count what failed.
func (w *DotWriter) Octets() int64 { return w.octets }

// Write sends p.
func (w *DotWriter) Write(p []byte) (int, error) {
	done := 0 // p[:done] was passed on
	for at := 0; at < len(p); {
		if w.state == lineStart && p[at] == '.' {
			w.pass(p[done:at])
			w.put(oneDot)
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
			w.pass(oneCR)
			done = nl
		}
		w.state = lineStart
		at = nl + 1
	}
	w.pass(p[done:])
	if w.err != nil {
		return done, w.err
	}
	return len(p), nil
}

// Finish ends the last line if the text did not, and sends the terminator. It
// is to be called once, and only if the text is complete.
func (w *DotWriter) Finish() error {
	if w.state != lineStart {
		w.pass(oneCRLF)
		w.state = lineStart
	}
	w.put(oneDot)
	w.put(oneCRLF)
	return w.err
}

// pass writes octets that count, put such that do not.
func (w *DotWriter) pass(p []byte) {
	w.put(p)
	if w.err == nil {
		w.octets += int64(len(p))
	}
}

func (w *DotWriter) put(p []byte) {
	if w.err == nil && len(p) > 0 {
		_, w.err = w.dst.Write(p)
	}
}
