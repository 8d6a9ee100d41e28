package accounts

import (
	"context"
	"os"
	"time"
)

// watched is what the look-out knows; it is used by one goroutine at a time.
type watched struct {
	loaded, seen os.FileInfo // nil of a file that is not there
	failure      string      // "" while the file is as loaded
}

func (a *Accounts) look() os.FileInfo {
	info, err := os.Stat(a.options.File)
	if err != nil {
		return nil
	}
	return info
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

func (a *Accounts) take(t *table) {
	a.table.Store(t)
	a.watched.loaded, a.watched.failure = a.watched.seen, ""
}

// Watch keeps the accounts as the file is, until ctx ends. While the file is of no
// use, the last accounts stay. It is called once.
func (a *Accounts) Watch(ctx context.Context) {
	ticker := time.NewTicker(a.options.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			a.poll()
		case <-ctx.Done():
			return
		}
	}
}

// poll looks once, and reads a file that has changed and is no longer written.
func (a *Accounts) poll() {
	w := &a.watched
	last := w.seen
	w.seen = a.look()
	switch {
	case !sameFile(w.seen, last):
		return
	case sameFile(w.seen, w.loaded):
		w.failure = ""
		return
	}
	t, err := load(a.options.File)
	if err != nil {
		if err.Error() != w.failure { // it is tried again all the same
			w.failure = err.Error()
			if f := a.options.Trace.ReloadFailed; f != nil {
				f(err)
			}
		}
		return
	}
	a.take(t)
	if f := a.options.Trace.Reloaded; f != nil {
		f(a.Len())
	}
}
