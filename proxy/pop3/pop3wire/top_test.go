package pop3wire_test

import (
	"strings"
	"testing"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// cutTop returns what of the pieces belongs to TOP, and whether it said that
// this is all.
func cutTop(lines int, pieces ...string) (string, bool) {
	t := pop3wire.NewTopCut(lines)
	var out strings.Builder
	for _, p := range pieces {
		n, done := t.Take([]byte(p))
		out.WriteString(p[:n])
		if done {
			return out.String(), true
		}
	}
	return out.String(), false
}

var topTable = []struct {
	name  string
	lines int
	text  string
	want  string
	done  bool
}{
	{"no_line_is_the_header", 0, "H: 1\r\n\r\nb1\r\n", "H: 1\r\n\r\n", true},
	{"one_line", 1, "H: 1\r\n\r\nb1\r\nb2\r\n", "H: 1\r\n\r\nb1\r\n", true},
	{"blank_body_lines_count", 2, "H: 1\r\n\r\n\r\n\r\nb3\r\n", "H: 1\r\n\r\n\r\n\r\n", true},
	{"more_than_there_is", 9, "H: 1\r\n\r\nb1\r\n", "H: 1\r\n\r\nb1\r\n", false},
	{"exactly_what_there_is", 1, "H: 1\r\n\r\nb1\r\n", "H: 1\r\n\r\nb1\r\n", true},
	{"bare_lf", 1, "H: 1\n\nb1\nb2\n", "H: 1\n\nb1\n", true},
	{"blank_line_of_bare_lf_in_crlf_text", 0, "H: 1\r\n\nb1\r\n", "H: 1\r\n\n", true},
	{"no_blank_line_is_all_header", 0, "H: 1\r\nI: 2\r\n", "H: 1\r\nI: 2\r\n", false},
	{"no_header", 1, "\r\nb1\r\nb2\r\n", "\r\nb1\r\n", true},
	{"two_cr_are_not_blank", 0, "H: 1\r\n\r\r\n\r\nb1", "H: 1\r\n\r\r\n\r\n", true},
	{"bare_cr_is_no_line_end", 0, "H: 1\r\rb\r\n\r\nb1", "H: 1\r\rb\r\n\r\n", true},
	{"a_last_line_without_its_end", 1, "H: 1\r\n\r\nb1", "H: 1\r\n\r\nb1", false},
	{"empty", 0, "", "", false},
	{"dots_are_text", 1, "H: 1\r\n\r\n.\r\nb2\r\n", "H: 1\r\n\r\n.\r\n", true},
}

func TestTopCut(t *testing.T) {
	for _, tt := range topTable {
		t.Run(tt.name, func(t *testing.T) {
			check := func(pieces ...string) {
				t.Helper()
				if got, done := cutTop(tt.lines, pieces...); got != tt.want || done != tt.done {
					t.Errorf("%q: got %q, %v, want %q, %v", pieces, got, done, tt.want, tt.done)
				}
			}
			check(tt.text)
			check(strings.Split(tt.text, "")...)
			for i := range len(tt.text) + 1 {
				check(tt.text[:i], tt.text[i:])
			}
		})
	}
}

func TestNothingBelongsToATopThatIsDone(t *testing.T) {
	c := pop3wire.NewTopCut(0)
	c.Take([]byte("\r\n"))
	if n, done := c.Take([]byte("more\r\n")); n != 0 || !done {
		t.Errorf("Take after done = %d, %v", n, done)
	}
}

// topByLines is TOP made the slow way: whole lines of the whole text.
func topByLines(lines int, text string) string {
	var out strings.Builder
	inBody := false
	for _, line := range strings.SplitAfter(text, "\n") {
		if inBody {
			if lines == 0 {
				break
			}
			lines--
		} else if line == "\n" || line == "\r\n" {
			inBody = true
		}
		out.WriteString(line)
	}
	return out.String()
}

// FuzzTop: the cut does not depend on the pieces, and agrees with a cut of the
// whole text line by line.
func FuzzTop(f *testing.F) {
	for _, tt := range topTable {
		f.Add(tt.text, byte(tt.lines), byte(1))
	}
	f.Fuzz(func(t *testing.T, text string, lines, step byte) {
		var pieces []string
		for rest := text; len(rest) > 0; {
			n := min(int(step)%32+1, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, done := cutTop(int(lines), pieces...)
		if want := topByLines(int(lines), text); got != want {
			t.Errorf("TOP %d of %q in %q: got %q, want %q", lines, text, pieces, got, want)
		}
		if !done && got != text {
			t.Errorf("TOP %d of %q: %q is not all, and it was not said to be", lines, text, got)
		}
	})
}
