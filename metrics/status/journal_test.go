package status_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/popgate/popgate/metrics/status"
)

// secret is a value that must not even be looked at.
type secret struct{ t *testing.T }

func (s secret) LogValue() slog.Value {
	s.t.Error("a value was asked to write itself")
	return slog.StringValue("canary")
}

func (s secret) String() string { return s.LogValue().String() }

func TestNothingOfUsersIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts(), "refused", "login")
		b.log.With("listener", "canary", "peer", "canary").WithGroup("").Warn("login failed",
			"cause", "refused", "op", "canary", // a word of no set
			"user", "canary", "mailbox", "canary", "error", errors.New("canary"), "any", secret{t}, "cause", secret{t},
			"user", "refused", // a word of a set under another name
			"kept", 7, "kept", "canary", "port", 4711, slog.Group("cause", "op", "login"))
		b.log.WithGroup("client").With("cause", "refused").Error("in a group", "op", "login")
		page := b.body(t)
		if !strings.Contains(page, "login failed<small>cause refused · kept 7</small>") {
			t.Error("what is harmless is not shown")
		}
		if !strings.Contains(page, "in a group</th>") {
			t.Error("something is shown that has another name")
		}
		for _, no := range []string{"canary", "4711", "user", "peer"} {
			if strings.Contains(strings.ReplaceAll(page, "no user data", ""), no+" ") {
				t.Errorf("the page holds %q", no)
			}
		}
	})
}

// The log itself is as it would be without the page.
func TestTheLogIsPassedOn(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError + 1} {
		t.Run(level.String(), func(t *testing.T) {
			lines := func(watch func(slog.Handler) slog.Handler) string {
				var text bytes.Buffer
				log := slog.New(watch(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: level,
					ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
						if a.Key == slog.TimeKey {
							return slog.Attr{}
						}
						return a
					}})))
				log = log.With("a", 1).WithGroup("g").With("b", 2)
				log.Debug("debug", "c", 3)
				log.Info("info", "c", 3)
				log.Warn("warn", "c", 3)
				log.Error("error", "c", 3)
				return text.String()
			}
			got := lines(status.New(status.Options{}).Watch)
			want := lines(func(h slog.Handler) slog.Handler { return h })
			if got != want {
				t.Errorf("logged:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestLinesThatTellTheSameAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts(), "refused", "unavailable")
		b.log.Error("rare")
		for i := range 1000 {
			b.log.Warn("login failed", "cause", "refused", "user", fmt.Sprint("user", i), "kept", i)
		}
		b.log.Warn("login failed", "cause", "unavailable")
		b.log.Info("not shown")
		b.has(t, "rare</th>", "cause refused · kept 999</small>", `<td class="number">1,000</td>`, "cause unavailable</small>")
		b.hasNot(t, "not shown")
	})
}

func TestTheLatestLinesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		for i := range status.Lines + 1 {
			b.log.Warn(fmt.Sprintf("message %d.", i))
		}
		b.log.Warn("message 1.") // again: it is the latest
		b.log.Warn("one more")
		b.hasNot(t, "message 0.", "message 2.")
		page := b.body(t)
		first, second, last := strings.Index(page, "one more"), strings.Index(page, "message 1."), strings.Index(page, "message 3.")
		if first < 0 || !(first < second && second < last) {
			t.Errorf("the lines are at %d, %d and %d", first, second, last)
		}
	})
}
