package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/popgate/popgate/upstream/imap/boltfile"
)

// ErrDamaged says that the file, or what it has of a maildrop, cannot be read.
var ErrDamaged = errors.New("the ledger is damaged")

// ErrBusy says that another process has the file still, or this one has let it
// go. Waiting cures it: an old gateway gives it up when a new one takes over.
var ErrBusy = errors.New("another process has the ledger")

// ErrFull says that the ledger takes no more.
var ErrFull = errors.New("the ledger is full: its limit has to be raised")

// The one bucket of the file: entries by key. Its sequence is the octets of them
// all, so that the bound is kept in the transaction that might break it.
var bucketShown = []byte("shown")

// Options is what a Ledger needs to know.
type Options struct {
	File   string // required; made where it is not there
	Octets int64  // of entries in the file, which takes up to four times that; 0 is 64 MiB

	Logger *slog.Logger // nil discards
}

// A Ledger is an open file. It is safe for concurrent use.
type Ledger struct {
	file   atomic.Pointer[boltfile.File] // nil as long as another process has it
	max    int64
	log    *slog.Logger
	failed atomic.Bool // the file that was waited for is of no use

	stop  context.CancelFunc // of what waits for the file; nil where nothing does
	later sync.WaitGroup

	turn sync.Mutex // one change, of many entries, is written at a time

	mu      sync.Mutex
	waiting []*change // to be written by who has the turn
}

// Open opens the file, and reads all of it once. An error says what to do about
// the file. One that another process has is no error: it is opened as soon as it is
// free, and until then there is [ErrBusy]. The wait is until ctx ends or Close.
func Open(ctx context.Context, o Options) (*Ledger, error) {
	if o.File == "" {
		return nil, errors.New("a ledger needs a file")
	}
	if o.Octets <= 0 {
		o.Octets = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	info, err := os.Stat(o.File)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err == nil && info.Size() == 0 { // bbolt would begin it anew
		return nil, explain(o.File, ErrDamaged)
	}
	l := &Ledger{max: o.Octets, log: o.Logger}
	err = l.open(o.File)
	if errors.Is(err, boltfile.ErrInUse) {
		ctx, l.stop = context.WithCancel(ctx)
		o.Logger.Warn("the ledger is in use by another process: mailboxes with a window wait until it is free", "op", "ledger", "file", o.File)
		l.later.Go(func() { l.await(ctx, o.File) })
		return l, nil
	}
	if err != nil {
		return nil, explain(o.File, own(err))
	}
	if fresh {
		o.Logger.Warn("a new ledger is begun: what earlier sessions showed outside of a window is not known", "op", "ledger", "file", o.File)
	}
	return l, nil
}

// await opens the file once another process has let it go.
func (l *Ledger) await(ctx context.Context, path string) {
	err := boltfile.Await(ctx, func() error { return l.open(path) })
	switch {
	case err == nil:
		l.log.Info("the ledger is free and in use", "op", "ledger", "file", path)
	case ctx.Err() == nil:
		l.failed.Store(true)
		l.log.Error("the ledger is not used", "op", "ledger", "err", explain(path, own(err)))
	}
}

func (l *Ledger) open(path string) error {
	f, err := boltfile.Open(boltfile.Options{
		Path: path, Octets: l.max, Buckets: [][]byte{bucketShown}, Prepare: prepare,
		Damaged: func(err error) {
			l.log.Error("the ledger is damaged and no longer used", "op", "ledger", "err", err)
		},
	})
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil { // or the name may be lost with the power
		return errors.Join(err, f.Close())
	}
	l.file.Store(f)
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// explain says what to do about a file that did not open.
func explain(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("the ledger cannot be opened: %w", err)
	}
	return fmt.Errorf("the ledger %s cannot be used: %w; put it back from a backup, or delete it: then messages outside of a window that were shown before are shown no more", path, err)
}

// prepare checks every entry of the file.
func prepare(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketShown)
	total := uint64(0)
	err := b.ForEach(func(k, v []byte) error {
		if len(k) != len(key{}) {
			return ErrDamaged
		}
		if _, ok := decode(v, key(k)); !ok {
			return ErrDamaged
		}
		total += uint64(len(k) + len(v))
		return nil
	})
	if err == nil && total != b.Sequence() {
		err = ErrDamaged
	}
	return err
}

// Close lets the file go, for another process too. Who uses the ledger from then on
// gets [ErrBusy]. It may be called more than once, and for nil.
func (l *Ledger) Close() error {
	if l == nil {
		return nil
	}
	if l.stop != nil {
		l.stop()
	}
	l.later.Wait()
	if f := l.file.Load(); f != nil {
		return f.Close()
	}
	return nil
}

// use is the file, for who reads or writes it.
func (l *Ledger) use(do func(*boltfile.File) error) error {
	f := l.file.Load()
	switch {
	case l.failed.Load():
		return ErrDamaged
	case f == nil:
		return ErrBusy
	}
	return own(do(f))
}

// own is an error of the file in the words of the ledger.
func own(err error) error {
	switch {
	case errors.Is(err, boltfile.ErrInUse):
		return ErrBusy
	case errors.Is(err, boltfile.ErrDamaged):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case errors.Is(err, boltfile.ErrFull):
		return ErrFull
	}
	return err
}

// Shown returns what was shown of a maildrop under this UIDVALIDITY.
func (l *Ledger) Shown(maildrop string, uidValidity uint32) (Set, error) {
	var e entry
	k := keyOf(maildrop)
	err := l.use(func(f *boltfile.File) error {
		return f.View(func(tx *bbolt.Tx) (err error) {
			e, err = read(tx.Bucket(bucketShown), k)
			return err
		})
	})
	return e.under(uidValidity), err
}

// read returns the entry of a maildrop, an empty one where there is none.
func read(b *bbolt.Bucket, k key) (entry, error) {
	v := b.Get(k[:])
	if v == nil {
		return entry{}, nil
	}
	e, ok := decode(v, k)
	if !ok {
		return e, ErrDamaged
	}
	return e, nil
}

func (e entry) under(uidValidity uint32) Set {
	if e.uidValidity != uidValidity {
		return nil
	}
	return e.shown
}

// change is one call of Show.
type change struct {
	key         key
	uidValidity uint32
	present     []uint32
	uidNext     uint32
	fresh       func(uint32) bool

	written bool
	shown   Set
	err     error
}

// Show writes down that a maildrop shows the messages of fresh beside those that it
// has shown, and returns what it shows in all. present are the UIDs of all
// messages of the mailbox below uidNext, ascending: what else was shown is gone,
// and forgotten. If fresh brings nothing new, nothing is written as a rule.
//
// Those that come at the same time are written together.
func (l *Ledger) Show(maildrop string, uidValidity uint32, present []uint32, uidNext uint32, fresh func(uid uint32) bool) (Set, error) {
	c := &change{key: keyOf(maildrop), uidValidity: uidValidity, present: present, uidNext: uidNext, fresh: fresh}
	before, err := l.Shown(maildrop, uidValidity)
	if err != nil {
		return nil, err
	}
	if after, added := before.merge(present, uidNext, fresh); !added && len(before) <= 2*len(after)+8 {
		return after, nil
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, c)
	l.mu.Unlock()

	l.turn.Lock()
	defer l.turn.Unlock()
	if !c.written { // else by the one who had the turn before
		l.write()
	}
	return c.shown, c.err
}

// write writes all that waits. The caller has the turn.
func (l *Ledger) write() {
	l.mu.Lock()
	changes := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	err := l.use(func(f *boltfile.File) error {
		return f.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketShown)
			for _, c := range changes {
				if err := c.apply(b, l.max); err != nil {
					return err
				}
			}
			return nil
		})
	})
	for _, c := range changes {
		c.written = true
		if err != nil {
			c.err = err
		}
		if c.err != nil {
			c.shown = nil
		}
	}
}

// apply makes the change in a transaction. What concerns this entry alone is
// left in c.err, and the entry as it is.
func (c *change) apply(b *bbolt.Bucket, max int64) error {
	e, err := read(b, c.key)
	if err != nil {
		c.err = err
		return nil
	}
	before := int64(0)
	if v := b.Get(c.key[:]); v != nil {
		before = int64(len(c.key) + len(v))
	}
	c.shown, _ = e.under(c.uidValidity).merge(c.present, c.uidNext, c.fresh)
	value := entry{c.uidValidity, c.shown}.encode(c.key)
	after := int64(len(c.key) + len(value))
	total := int64(b.Sequence()) - before + after
	if total > max && after > before {
		c.err = ErrFull
		return nil
	}
	return errors.Join(b.Put(c.key[:], value), b.SetSequence(uint64(total)))
}
