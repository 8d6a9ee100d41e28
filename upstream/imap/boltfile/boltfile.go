package boltfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrDamaged says that the file cannot be read, and is used no more.
	ErrDamaged = errors.New("it is damaged")
	// ErrForeign says that the file has buckets of somebody else.
	ErrForeign = errors.New("it holds something else")
	// ErrFull says that a change does not fit into what the file may take.
	ErrFull = errors.New("it is full")
	// ErrInUse says that another process has the file, or that it was closed here.
	ErrInUse = errors.New("it is in use by another process")
)

const (
	lockTime    = time.Second // to wait for another process that has the file
	pageReserve = 1 << 20     // the file's own, beside the entries
	roomy       = 4           // so many times the entries the file may be: pages are half full, and free room is in pieces
	turn        = time.Second // between two tries of Await
)

// Options is what a File needs to know.
type Options struct {
	Path    string
	Octets  int64    // of entries; the file takes up to four times that
	Buckets [][]byte // all there are, made where they are not there

	Prepare func(*bbolt.Tx) error // looks at the file before it is used; its error ends Open
	Damaged func(err error)       // told once, when a use of the file proves it damaged
}

// A File is an open one. It is safe for concurrent use.
type File struct {
	db      *bbolt.DB
	damaged func(error)
	broken  atomic.Bool
}

// Open opens the file, or makes it, for its owner alone.
func Open(o Options) (*File, error) {
	f := &File{damaged: o.Damaged}
	err := f.guarded(func() (err error) {
		f.db, err = bbolt.Open(o.Path, 0o600, &bbolt.Options{
			Timeout: lockTime, MaxSize: int(roomy*o.Octets + pageReserve), FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		})
		if err != nil {
			return err
		}
		err = f.db.Update(o.prepare)
		if err == nil {
			err = os.Chmod(o.Path, 0o600)
		}
		if err != nil {
			return errors.Join(err, f.db.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// prepare checks that the file is ours.
func (o *Options) prepare(tx *bbolt.Tx) error {
	err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		if !slices.ContainsFunc(o.Buckets, func(b []byte) bool { return bytes.Equal(b, name) }) {
			return ErrForeign
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range o.Buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return o.Prepare(tx)
}

// guarded runs what touches the file. The library panics where the pages make no
// sense, and the memory that maps the file faults where the file was cut.
func (f *File) guarded(do func() error) (err error) {
	if f.broken.Load() {
		return ErrDamaged
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, v)
			if f.broken.CompareAndSwap(false, true) {
				f.damaged(err)
			}
		}
	}()
	switch err = do(); {
	case errors.Is(err, bolterrors.ErrTimeout), errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return ErrInUse
	case errors.Is(err, bolterrors.ErrMaxSizeReached):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// View runs do in a transaction that reads.
func (f *File) View(do func(*bbolt.Tx) error) error {
	return f.guarded(func() error { return f.db.View(do) })
}

// Update runs do in a transaction that changes the file, on disk when Update
// returns nil, and not at all if it returns an error.
func (f *File) Update(do func(*bbolt.Tx) error) error {
	return f.guarded(func() error { return f.db.Update(do) })
}

// Broken tells whether the file proved damaged. That of a nil File did not.
func (f *File) Broken() bool { return f != nil && f.broken.Load() }

// Close lets the file go, for another process too. It may be called more than once.
func (f *File) Close() error {
	if f.broken.Load() {
		return nil // the library may hold its locks still
	}
	return f.db.Close()
}

// Await calls open once a second, until it returns anything but [ErrInUse], and
// returns that. The end of ctx is an error too.
func Await(ctx context.Context, open func() error) error {
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := open(); !errors.Is(err, ErrInUse) {
			return err
		}
	}
}
