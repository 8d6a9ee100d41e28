package screen_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/popgate/popgate/cmd/internal/screen"
	"github.com/popgate/popgate/cmd/internal/screen/screentest"
)

func TestColourIsForTerminalsThatWantIt(t *testing.T) {
	for _, tt := range []struct {
		env  []string
		want string
	}{
		{[]string{"TERM", "xterm"}, "\x1b[31mtext\x1b[0m"},
		{[]string{"TERM", "xterm", "NO_COLOR", "1"}, "text"},
		{[]string{"TERM", "dumb"}, "text"},
		{nil, "text"},
	} {
		term := screentest.New(t, 80)
		if got := screen.Of(term.Program, getenv(tt.env...)).Paint(screen.Bad, "text"); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.env, got, tt.want)
		}
	}
}

// The line fits, whatever its text is, and nothing of it is left.
func TestTheLineOfProgressFitsAndGoes(t *testing.T) {
	for _, columns := range []int{1, 40, 200} {
		term := screentest.New(t, columns)
		s := screen.Of(term.Program, getenv("TERM", "xterm", "NO_COLOR", "1"))
		line := s.Progress("%s", strings.Repeat("é\x1b[2J", 100))
		term.Await("\x1b[K")
		line.Set("%s", "another text")
		line.Stop()
		line.Stop()
		term.Await("\r\x1b[K")
		shown := term.Text()
		if strings.Contains(shown, "\x1b[2J") {
			t.Errorf("%d columns: the text moves the cursor: %q", columns, shown)
		}
		for _, drawn := range regexp.MustCompile("\r|\x1b\\[K").Split(shown, -1) {
			if n := utf8.RuneCountInString(drawn); n >= max(columns, 20) {
				t.Errorf("%d columns: a line of %d: %q", columns, n, drawn)
			}
		}
		if !strings.HasSuffix(shown, "\r\x1b[K") {
			t.Errorf("%d columns: a line is left: %q", columns, shown)
		}
	}
}

func TestADumbTerminalHasNoProgress(t *testing.T) {
	term := screentest.New(t, 80)
	line := screen.Of(term.Program, getenv("TERM", "dumb")).Progress("working")
	if line != nil {
		t.Error("there is a line")
	}
	line.Stop() // as every other
}
