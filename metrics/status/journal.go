package status

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"
)

const maxLines = 32 // different lines of the log that are kept

// numbers are the attributes of a log line that are shown where their value is a
// number: how much, and never whose.
func numbers() []string {
	return []string{"removed", "missing", "kept", "messages", "unlogged", "wanted", "connections"}
}

// words are those that are shown where their value is in the closed set of
// [Options.Words].
func words() []string { return []string{"cause", "op", "limit", "listener", "mechanism", "end"} }

// A line is one kind of warning or error, and how often it came.
type line struct {
	level       slog.Level
	message     string
	words       string // as shown
	numbers     string // of the last time
	first, last time.Time
	times       int
}

// A journal keeps the warnings and errors of a log. Those that tell the same, but
// for numbers, are one line, so that what comes often does not push out what is
// rare.
type journal struct {
	words []string
	mu    sync.Mutex
	lines []line // the latest last
}

func (j *journal) add(l line) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.IndexFunc(j.lines, func(o line) bool {
		return o.level == l.level && o.message == l.message && o.words == l.words
	})
	switch {
	case i >= 0:
		l.first, l.times = j.lines[i].first, j.lines[i].times
	case len(j.lines) == maxLines:
		i = 0
	}
	if i >= 0 {
		j.lines = slices.Delete(j.lines, i, i+1)
	}
	l.times++
	j.lines = append(j.lines, l)
}

// latest lists the lines, the latest first.
func (j *journal) latest() []line {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := slices.Clone(j.lines)
	slices.Reverse(out)
	return out
}

// take adds an attribute if it is harmless. Only the kinds are looked at that cannot
// hold more than they tell: no value is asked to write itself.
func (j *journal) take(l *line, a slog.Attr) {
	switch a.Value.Kind() {
	case slog.KindInt64:
		if slices.Contains(numbers(), a.Key) {
			l.numbers = join(l.numbers, a.Key+" "+strconv.FormatInt(a.Value.Int64(), 10))
		}
	case slog.KindString:
		if slices.Contains(words(), a.Key) && slices.Contains(j.words, a.Value.String()) {
			l.words = join(l.words, a.Key+" "+a.Value.String())
		}
	}
}

// join joins what is shown of a line, as long as it is short.
func join(a, b string) string {
	switch {
	case a == "" || b == "":
		return clean(a + b)
	case len(a)+len(b) > maxText:
		return a
	}
	return a + " · " + clean(b)
}

// A watcher is a log handler that lets everything through, and keeps of warnings and
// errors what is harmless.
type watcher struct {
	journal *journal
	next    slog.Handler
	with    line // what every line has
	grouped bool // the attributes to come have longer names
}

func (w *watcher) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || w.next.Enabled(ctx, l)
}

func (w *watcher) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		l := w.with
		l.level, l.message = r.Level, clean(r.Message)
		l.first = time.Now()
		l.last = l.first
		r.Attrs(func(a slog.Attr) bool {
			if !w.grouped {
				w.journal.take(&l, a)
			}
			return true
		})
		w.journal.add(l)
	}
	if !w.next.Enabled(ctx, r.Level) {
		return nil
	}
	return w.next.Handle(ctx, r)
}

func (w *watcher) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *w
	c.next = w.next.WithAttrs(attrs)
	for _, a := range attrs {
		if !w.grouped {
			w.journal.take(&c.with, a)
		}
	}
	return &c
}

func (w *watcher) WithGroup(name string) slog.Handler {
	c := *w
	c.next, c.grouped = w.next.WithGroup(name), w.grouped || name != ""
	return &c
}
