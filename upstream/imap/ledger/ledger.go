package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrDamaged says that the file, or what it has of a maildrop, cannot be read.
var ErrDamaged = errors.New("the ledger is damaged")

// ErrBusy says that another process has the file still, or this one has let it
// go. Waiting cures it: an old gateway gives it up when a new one takes over.
var ErrBusy = errors.New("another process has the ledger")

// ErrFull says that the ledger takes no more.
var ErrFull = errors.New("the ledger is full: its limit has to be raised")

const (
	lockTime    = time.Second // to wait for another process that has the file
	pageReserve = 1 << 20     // the file's own, beside the entries
	roomy       = 4           // so many times the entries the file may be: pages are half full, and free room is in pieces
)

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
	db     atomic.Pointer[bbolt.DB] // nil as long as another process has the file
	max    int64
	log    *slog.Logger
	broken atomic.Bool // the file proved damaged and is no longer used

	closing sync.Once
	stop    chan struct{}  // closed by Close
	later   sync.WaitGroup // waits for the file

	turn sync.Mutex // one change, of many entries, is written at a time

	mu      sync.Mutex
	waiting []*change // to be written by who has the turn
}

// Open opens the file, and reads all of it once. An error says what to do about
// the file. One that another process has is no error: it is opened as soon as it is
// free, and until then there is [ErrBusy].
func Open(o Options) (*Ledger, error) {
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
	l := &Ledger{max: o.Octets, log: o.Logger, stop: make(chan struct{})}
	err = l.open(o.File)
	if errors.Is(err, bolterrors.ErrTimeout) {
		o.Logger.Warn("the ledger is in use by another process: mailboxes with a window wait until it is free", "op", "ledger", "file", o.File)
		l.later.Go(func() { l.await(o.File) })
		return l, nil
	}
	if err != nil {
		return nil, explain(o.File, err)
	}
	if fresh {
		o.Logger.Warn("a new ledger is begun: what earlier sessions showed outside of a window is not known", "op", "ledger", "file", o.File)
	}
	return l, nil
}

// await opens the file once another process has let it go.
func (l *Ledger) await(path string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.stop:
			return
		}
		err := l.open(path)
		switch {
		case err == nil:
			l.log.Info("the ledger is free and in use", "op", "ledger", "file", path)
			return
		case !errors.Is(err, bolterrors.ErrTimeout):
			l.broken.Store(true)
			l.log.Error("the ledger is not used", "op", "ledger", "err", explain(path, err))
			return
		}
	}
}

func (l *Ledger) open(path string) error {
	var db *bbolt.DB
	err := l.guarded(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: lockTime, MaxSize: int(roomy*l.max + pageReserve), FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		})
		if err != nil {
			return err
		}
		if err = db.Update(prepare); err != nil {
			return errors.Join(err, db.Close())
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = os.Chmod(path, 0o600)
	if err == nil {
		err = syncDir(filepath.Dir(path)) // or the name may be lost with the power
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	l.db.Store(db)
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

// prepare checks that the file is ours and every entry of it.
func prepare(tx *bbolt.Tx) error {
	err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		if !bytes.Equal(name, bucketShown) {
			return errors.New("it holds something else")
		}
		return nil
	})
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists(bucketShown)
	if err != nil {
		return err
	}
	total := uint64(0)
	err = b.ForEach(func(k, v []byte) error {
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
	l.closing.Do(func() {
		if l.stop != nil {
			close(l.stop)
		}
	})
	l.later.Wait()
	db := l.db.Load()
	if db == nil || l.broken.Load() {
		return nil // the library may hold its locks still
	}
	return db.Close()
}

// use runs what reads or writes the file.
func (l *Ledger) use(do func(*bbolt.DB) error) error {
	db := l.db.Load()
	if db == nil && !l.broken.Load() {
		return ErrBusy
	}
	err := l.guarded(func() error { return do(db) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrBusy
	}
	return err
}

// guarded runs what touches the file. The library panics where the pages make no
// sense, and the memory that maps the file faults where the file was cut: then it
// is not touched again.
func (l *Ledger) guarded(do func() error) (err error) {
	if l.broken.Load() {
		return ErrDamaged
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			l.broken.Store(true)
			err = fmt.Errorf("%w: %v", ErrDamaged, v)
			l.log.Error("the ledger is damaged and no longer used", "op", "ledger", "err", err)
		}
	}()
	return do()
}

// Shown returns what was shown of a maildrop under this UIDVALIDITY.
func (l *Ledger) Shown(maildrop string, uidValidity uint32) (Set, error) {
	var e entry
	k := keyOf(maildrop)
	err := l.use(func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) (err error) {
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
	err := l.use(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketShown)
			for _, c := range changes {
				if err := c.apply(b, l.max); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if errors.Is(err, bolterrors.ErrMaxSizeReached) {
		err = ErrFull
	}
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
