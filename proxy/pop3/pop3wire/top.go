package pop3wire

import "bytes"

// A TopCut finds where a TOP ends: the header of a message, the blank line
// behind it, and so many lines of the body (RFC 1939 section 7). A line ends in
// CRLF or in a bare LF. It takes raw text, before dots are stuffed. The zero
// value asks for no line of the body.
type TopCut struct {
	left   int // body lines still wanted
	inBody bool
	line   topLine
}

// topLine is what the line that is being read holds so far.
type topLine uint8

const (
	empty topLine = iota
	onlyCR
	notBlank
)

// NewTopCut returns a TopCut for the given number of body lines, 0 or more.
func NewTopCut(lines int) TopCut { return TopCut{left: lines} }

// Take returns how many octets of p, the next piece of the message, belong to
// the TOP, and whether that is all of it. After done nothing belongs to it. A
// message that ends before done is wanted whole.
func (t *TopCut) Take(p []byte) (n int, done bool) {
	for n < len(p) && !t.done() {
		nl := bytes.IndexByte(p[n:], '\n')
		if nl < 0 {
			t.see(p[n:])
			return len(p), false
		}
		t.see(p[n : n+nl])
		n += nl + 1
		switch {
		case t.inBody:
			t.left--
		case t.line != notBlank:
			t.inBody = true
		}
		t.line = empty
	}
	return n, t.done()
}

func (t *TopCut) done() bool { return t.inBody && t.left <= 0 }

// see adds p, which has no LF, to the line.
func (t *TopCut) see(p []byte) {
	switch {
	case len(p) == 0:
	case t.line == empty && len(p) == 1 && p[0] == '\r':
		t.line = onlyCR
	default:
		t.line = notBlank
	}
}
