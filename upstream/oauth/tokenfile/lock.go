package tokenfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// pollTime is how often a lock that another has is tried again. The system can
// wait for it, but not under a context.
const pollTime = 50 * time.Millisecond

// A Lock is the right to change one record. It is not safe for concurrent use.
type Lock struct {
	folder *Folder
	name   Name
	path   string   // of the record, without its ending
	held   *os.File // the lock file
	next   *os.File // the record to come; nil where no room was made
}

// Lock waits until nobody else, in this process or another, has the lock of n.
func (f *Folder) Lock(ctx context.Context, n Name) (*Lock, error) {
	if n.Account == "" || len(n.Account) > maxName || len(n.Grant) > maxName {
		return nil, fmt.Errorf("a name of %d octets cannot be kept; it has 1 to %d", len(n.Account), maxName)
	}
	l := &Lock{folder: f, name: n, path: f.file(n)}
	var err error
	if l.held, err = f.create(l.path+locking, 0); err != nil {
		return nil, err
	}
	for {
		free, err := tryLock(l.held)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", l.path+locking, err), l.held.Close())
		}
		if free {
			return l, nil
		}
		select {
		case <-time.After(pollTime):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("the token of that account is in use by another process: %w", context.Cause(ctx)), l.held.Close())
		}
	}
}

// Read returns the record. Where there is none the error is [fs.ErrNotExist].
func (l *Lock) Read() (Record, error) { return l.folder.Read(l.name) }

// Stamp is that of the record.
func (l *Lock) Stamp() (Stamp, error) { return l.folder.Stamp(l.name) }

// Prepare makes room for the largest record, so that a [Lock.Write] after it does
// not fail for want of it.
func (l *Lock) Prepare() error {
	if l.next != nil {
		return nil
	}
	next, err := l.folder.create(l.path+building, os.O_TRUNC)
	if err != nil {
		return err
	}
	l.next = next
	l.step("made")
	if _, err = next.Write(make([]byte, maxFile)); err == nil {
		err = next.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the token folder cannot be written: %w", err), l.abandon())
	}
	l.step("prepared")
	return nil
}

// Write replaces the record. After an error there is the old one or the new one.
func (l *Lock) Write(r Record) error {
	data, err := l.folder.seal.seal(l.name, r)
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("the tokens have %d octets, more than a token file holds", len(data))
	}
	if err := l.Prepare(); err != nil {
		return err
	}
	err = fill(l.next, data)
	l.step("written")
	if err == nil {
		err = l.next.Sync()
	}
	l.step("synced")
	if err != nil {
		return errors.Join(fmt.Errorf("the token file cannot be written: %w", err), l.abandon())
	}
	if err := os.Rename(l.path+building, l.path+ending); err != nil {
		return errors.Join(fmt.Errorf("the token file cannot be replaced: %w", err), l.abandon())
	}
	l.step("renamed")
	err = l.next.Close()
	l.next = nil
	err = errors.Join(err, syncFolder(l.folder.path))
	l.step("done")
	return err
}

// fill lets file hold data and nothing else.
func fill(file *os.File, data []byte) error {
	if _, err := file.WriteAt(data, 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(data)))
}

// Remove deletes the record, if there is one.
func (l *Lock) Remove() error {
	if err := os.Remove(l.path + ending); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(l.path))
}

// Unlock lets others have the lock.
func (l *Lock) Unlock() error { return errors.Join(l.abandon(), l.held.Close()) }

// abandon gives back the room that was made.
func (l *Lock) abandon() error {
	if l.next == nil {
		return nil
	}
	err := errors.Join(l.next.Close(), os.Remove(l.path+building))
	l.next = nil
	return err
}

func (l *Lock) step(name string) {
	if l.folder.at != nil {
		l.folder.at(name)
	}
}
