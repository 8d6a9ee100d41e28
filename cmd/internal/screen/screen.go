package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// A Screen is where output goes. Write is for one goroutine at a time; the rest is
// safe for concurrent use.
type Screen struct {
	out   io.Writer
	fd    int  // of the terminal; -1 for none
	lines bool // progress may be drawn
	color bool
	err   error // of the first write that failed
}

// Of looks at out. getenv reads the environment: NO_COLOR and TERM.
func Of(out io.Writer, getenv func(string) string) *Screen {
	s := &Screen{out: out, fd: -1}
	if !Terminal(out) {
		return s
	}
	s.fd = int(out.(*os.File).Fd())
	s.lines = getenv("TERM") != "dumb" && getenv("TERM") != ""
	s.color = s.lines && getenv("NO_COLOR") == ""
	return s
}

// Terminal reports whether a person reads what is written to w.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Write writes to what is below.
func (s *Screen) Write(p []byte) (int, error) {
	n, err := s.out.Write(p)
	if err != nil && s.err == nil {
		s.err = err
	}
	return n, err
}

// Err is the error of the first Write that failed: what is printed line by line
// need not look at each of them.
func (s *Screen) Err() error { return s.err }

// A Color is for text of one sort.
type Color string

// The colours: those that are read on dark and on light ground.
const (
	Good  Color = "32" // green
	Bad   Color = "31" // red
	Doubt Color = "33" // yellow
	Bold  Color = "1"
	Faint Color = "2"
)

// Paint returns text in a colour, where there are any.
func (s *Screen) Paint(c Color, text string) string {
	if !s.color || text == "" {
		return text
	}
	return fmt.Sprintf("\x1b[%sm%s\x1b[0m", c, text)
}

// width is how many columns there are, at least 20.
func (s *Screen) width() int {
	w, _, err := term.GetSize(s.fd)
	if err != nil || w <= 0 {
		w = 80
	}
	return max(w, 20)
}

// Plain is text of others as it may be printed: what is no printable character
// becomes a question mark.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
