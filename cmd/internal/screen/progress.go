package screen

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// patience is how long a work may take before the line shows, so that what is
// quick does not flicker.
const patience = 400 * time.Millisecond

// A Line is the line of progress. All its methods may be called on a nil Line, and
// by several goroutines.
type Line struct {
	screen *Screen
	start  time.Time
	end    chan struct{}
	ended  chan struct{}

	mu   sync.Mutex
	text func() string
}

// Progress shows text, with the time that has passed, until Stop. On what is no
// terminal it shows nothing.
func (s *Screen) Progress(format string, args ...any) *Line {
	if !s.lines {
		return nil
	}
	l := &Line{screen: s, start: time.Now(), end: make(chan struct{}), ended: make(chan struct{})}
	l.Set(format, args...)
	go l.run()
	return l
}

// Set changes the text.
func (l *Line) Set(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.Follow(func() string { return text })
}

// Follow has the text made anew each time that the line is drawn.
func (l *Line) Follow(text func() string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = text
}

// Stop takes the line away. It returns when it is gone. It may be called more than
// once, but not by two at a time.
func (l *Line) Stop() {
	if l == nil {
		return
	}
	select {
	case <-l.ended:
		return
	default:
	}
	close(l.end)
	<-l.ended
}

func (l *Line) run() {
	defer close(l.ended)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	shown := false
	for {
		select {
		case <-l.end:
			if shown {
				_, _ = io.WriteString(l.screen.out, "\r\x1b[K") // a terminal that is gone has nobody before it
			}
			return
		case <-timer.C:
		}
		shown = true
		_, _ = io.WriteString(l.screen.out, "\r"+l.drawn(l.screen.width())+"\x1b[K")
		timer.Reset(time.Second)
	}
}

// drawn is the line in less than width columns.
func (l *Line) drawn(width int) string {
	l.mu.Lock()
	text := []rune(Plain(l.text()))
	l.mu.Unlock()
	passed := fmt.Sprintf(" %v", time.Since(l.start).Truncate(time.Second))
	if room := width - 1 - len(passed); len(text) > room {
		text = append(text[:max(room-3, 0)], []rune("...")...)
	}
	return string(text) + l.screen.Paint(Faint, passed)
}
