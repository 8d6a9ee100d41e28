package screen_test

import (
	"bytes"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/cmd/internal/screen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// getenv is an environment of pairs.
func getenv(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestAPipeGetsWhatIsPrintedAndNoMore(t *testing.T) {
	var out bytes.Buffer
	s := screen.Of(&out, getenv("TERM", "xterm"))
	line := s.Progress("working")
	line.Set("still working")
	line.Stop()
	if got := s.Paint(screen.Bad, "text"); got != "text" {
		t.Errorf("Paint = %q", got)
	}
	if _, err := s.Write([]byte("done\n")); err != nil || out.String() != "done\n" {
		t.Errorf("%q was printed, %v", &out, err)
	}
}

func TestTextOfOthersMovesNoCursor(t *testing.T) {
	if got := screen.Plain("a\x1b[2Jb\r\nc\u202ed\xffé"); got != "a?[2Jb??c?d?é" {
		t.Errorf("Plain = %q", got)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("full")

func TestTheFirstFailureStays(t *testing.T) {
	s := screen.Of(full{}, getenv())
	if s.Err() != nil {
		t.Error("an error before anything was written")
	}
	_, _ = s.Write([]byte("x"))
	if !errors.Is(s.Err(), errFull) {
		t.Errorf("Err = %v", s.Err())
	}
}
