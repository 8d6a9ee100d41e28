package pop3wire

import (
	"bytes"
	"math"
)

// A Command is a command line taken apart. Its slices point into the line.
type Command struct {
	// Verb is the keyword in upper case: ASCII letters are raised, all else is
	// as it came, and it may be empty.
	Verb string
	// Rest is what follows the one space behind the keyword, nil where there
	// is no such space. Spaces at its end are removed, but not for PASS: there
	// the rest of the line is the password as it stands (RFC 1939 section 7).
	Rest []byte
}

// ParseCommand takes a line without its line end apart (RFC 1939 section 3).
// Every line is some command: what the verb and the rest mean is for the caller.
func ParseCommand(line []byte) Command {
	verb, rest, found := bytes.Cut(line, []byte(" "))
	c := Command{Verb: upperVerb(verb)}
	if !found {
		return c
	}
	if c.Verb == "PASS" {
		c.Rest = rest
		return c
	}
	if rest = bytes.TrimRight(rest, " "); len(rest) > 0 {
		c.Rest = rest
	}
	return c
}

// Args returns the arguments of the command: Rest split at single spaces, none
// where it is nil. ok is false where there are more than len(dst), or one is
// empty.
func (c Command) Args(dst [][]byte) (args [][]byte, ok bool) {
	if c.Rest == nil {
		return nil, true
	}
	n := 0
	for rest, more := c.Rest, true; more; n++ {
		if n == len(dst) {
			return nil, false
		}
		dst[n], rest, more = bytes.Cut(rest, []byte(" "))
		if len(dst[n]) == 0 {
			return nil, false
		}
	}
	return dst[:n], true
}

// upperVerb raises ASCII letters only: Unicode would make a PASS of words that
// are none.
func upperVerb(verb []byte) string {
	var small [8]byte // keywords are three or four letters
	up := append(small[:0], verb...)
	for i, c := range up {
		if 'a' <= c && c <= 'z' {
			up[i] = c - ('a' - 'A')
		}
	}
	return string(up)
}

// MaxNumber is the greatest message number and line count.
const MaxNumber = math.MaxInt32

// ParseNumber reads a message number: one or more ASCII digits, 1 to MaxNumber.
// Leading zeros are allowed, since they leave no doubt about what is meant.
func ParseNumber(arg []byte) (n int, ok bool) {
	n, ok = ParseCount(arg)
	return n, ok && n > 0
}

// ParseCount is ParseNumber for the line count of TOP, which may be 0.
func ParseCount(arg []byte) (n int, ok bool) {
	var v int64
	for _, c := range arg {
		if c < '0' || c > '9' {
			return 0, false
		}
		if v = v*10 + int64(c-'0'); v > MaxNumber {
			return 0, false
		}
	}
	return int(v), len(arg) > 0
}
