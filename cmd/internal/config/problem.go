package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Where string // the file's name, or a flag such as "--delete"
	Line  int    // from 1; 0 where no line is to blame
	Key   string // such as "limits.idle-time"; "" where no key is to blame
	Text  string // what is wrong, and what is accepted
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Where)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is every problem of one configuration, those of the file first and
// by line. It is the only error that [Load] returns.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// orNil sorts ps by line, and gives nil rather than an empty error.
func (ps Problems) orNil() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int { return rank(a) - rank(b) })
	return ps
}

// rank puts problems with a line first, then those of the file as a whole,
// then those of flags.
func rank(p Problem) int {
	switch {
	case p.Line > 0:
		return p.Line
	case strings.HasPrefix(p.Where, "--"):
		return 1<<31 - 1
	}
	return 1<<31 - 2
}

// shown quotes a value for a message: bounded, and without what may be a
// password in front of an "@".
func shown(text string) string {
	const most = 60
	if head, rest, ok := strings.Cut(text, "://"); ok {
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			text = head + "://..." + rest[i:]
		}
	}
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "..."
	}
	return fmt.Sprintf("%q", text)
}
