package listcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/popgate/popgate/upstream/imap/boltfile"
)

const (
	maxWaiting = 32 << 20 // octets of lists that wait to be written
	maxChanges = 10_000   // and their number
	largest    = 4        // a list is at most such a part of all lists in the file
)

// The two buckets of the file: each list behind its age, by key; and each key by
// age. Ages are numbers of 8 octets that only grow.
var bucketLists, bucketAges = []byte("lists"), []byte("ages")

const ageOctets = 8

// file is the part of the cache that survives a restart. Logins read it; one
// goroutine of its own writes it. A change that cannot be written is lost: an
// older list is as true as a new one, see [List].
type file struct {
	bolt *boltfile.File
	max  int64
	log  *slog.Logger

	mu      sync.Mutex
	waiting map[Key]*List // to be written; nil is to be deleted
	octets  int64         // of the lists that wait
	late    bool          // changes were lost because too many waited
	closed  bool

	wake  chan struct{} // closed by close
	ended chan struct{}
	total int64 // octets of keys and lists in the file; the writer's own
}

// openFile opens the file, or makes it, for its owner alone.
func openFile(path string, max int64, log *slog.Logger) (*file, error) {
	f := &file{max: max, log: log, waiting: map[Key]*List{}, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	bolt, err := boltfile.Open(boltfile.Options{
		Path: path, Octets: max, Buckets: [][]byte{bucketLists, bucketAges}, Prepare: f.count,
		Damaged: func(err error) {
			log.Error("the cache file is damaged and no longer used; delete it before the next start", "op", "cache", "err", err)
		},
	})
	if err != nil {
		return nil, explain(path, err)
	}
	f.bolt = bolt
	go f.write()
	return f, nil
}

// explain says what to do about a file that did not open.
func explain(path string, err error) error {
	if errors.Is(err, boltfile.ErrInUse) {
		return err
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("the cache file cannot be opened: %w", err)
	}
	return fmt.Errorf("the cache file %s cannot be used: %w; if it is popgate's, delete it and it is made anew, else name another", path, err)
}

// count adds up what the file holds.
func (f *file) count(tx *bbolt.Tx) error {
	return tx.Bucket(bucketLists).ForEach(func(k, v []byte) error {
		f.total += int64(len(k) + len(v))
		return nil
	})
}

// get returns the list that is in the file, or waits to be; nil for none.
func (f *file) get(k Key) *List {
	f.mu.Lock()
	l, waits := f.waiting[k]
	waits = waits || f.closed
	f.mu.Unlock()
	if waits {
		return l
	}
	damaged := false
	err := f.bolt.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketLists).Get(k[:])
		if len(v) >= ageOctets {
			l = decode(v[ageOctets:], k)
		}
		damaged = v != nil && l == nil
		return nil
	})
	switch {
	case err != nil:
		return nil
	case damaged:
		f.log.Warn("a list in the cache file is damaged or of another version: dropped", "op", "cache")
		f.put(k, nil)
	}
	return l
}

// put lets a list be written, or deleted if l is nil. It does not wait.
func (f *file) put(k Key, l *List) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.bolt.Broken() {
		return
	}
	before, again := f.waiting[k]
	octets := f.octets - size(before) + size(l)
	if octets > maxWaiting && len(f.waiting) > 0 || len(f.waiting) >= maxChanges && !again {
		if !f.late {
			f.late = true
			f.log.Warn("the cache file cannot be written as fast as lists change: changes are left out", "op", "cache")
		}
		return
	}
	f.waiting[k], f.octets = l, octets
	select {
	case f.wake <- struct{}{}:
	default: // the writer will look anyway
	}
}

func size(l *List) int64 {
	if l == nil {
		return 0
	}
	return l.size()
}

// write is the writer's goroutine: what waits is written together.
func (f *file) write() {
	defer close(f.ended)
	for range f.wake {
		f.flush()
	}
	f.flush()
}

func (f *file) flush() {
	f.mu.Lock()
	changes := f.waiting
	f.waiting, f.octets, f.late = map[Key]*List{}, 0, false
	f.mu.Unlock()
	if len(changes) == 0 {
		return
	}
	for len(changes) > 0 {
		err := f.update(func(t *table) error {
			for k, l := range changes {
				delete(changes, k)
				if err := t.set(k, l, f.max/largest); err != nil {
					return err
				}
				// The room of what went in this transaction is free in the next.
				if t.written > f.max/largest {
					break
				}
			}
			return t.evict(f.max)
		})
		if errors.Is(err, boltfile.ErrFull) { // the free room is in pieces that are too small
			err = errors.Join(err, f.update(func(t *table) error { return t.evict(f.max / 2) }))
		}
		if err != nil && !f.bolt.Broken() {
			f.log.Warn("the cache file could not be written", "op", "cache", "err", err)
		}
	}
}

// close lets the writer write what waits, and closes the file.
func (f *file) close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	close(f.wake)
	f.mu.Unlock()
	<-f.ended
	return f.bolt.Close()
}

// update changes the file in one transaction.
func (f *file) update(change func(*table) error) error {
	t := table{total: f.total}
	err := f.bolt.Update(func(tx *bbolt.Tx) error {
		t.lists, t.ages = tx.Bucket(bucketLists), tx.Bucket(bucketAges)
		return change(&t)
	})
	if err == nil {
		f.total = t.total
	}
	return err
}

// table is the file's content within a transaction.
type table struct {
	lists, ages    *bbolt.Bucket
	total, written int64 // octets in all, and of this transaction
}

// set puts a list under its key, as the youngest, or deletes what is there if l
// is nil or larger than max.
func (t *table) set(k Key, l *List, max int64) error {
	if err := t.remove(k[:]); err != nil || l == nil {
		return err
	}
	n, err := t.ages.NextSequence()
	if err != nil {
		return err
	}
	value := binary.BigEndian.AppendUint64(make([]byte, 0, ageOctets+64+5*l.Len()), n)
	value = encode(value, k, l)
	if int64(len(k)+len(value)) > max {
		return nil
	}
	t.total += int64(len(k) + len(value))
	t.written += int64(len(value))
	return errors.Join(t.ages.Put(value[:ageOctets:ageOctets], k[:]), t.lists.Put(k[:], value))
}

// remove deletes the list under k, if there is one.
func (t *table) remove(k []byte) error {
	v := t.lists.Get(k)
	if v == nil {
		return nil
	}
	t.total -= int64(len(k) + len(v))
	var err error
	if len(v) >= ageOctets {
		err = t.ages.Delete(bytes.Clone(v[:ageOctets]))
	}
	return errors.Join(err, t.lists.Delete(k))
}

// evict deletes the oldest lists until no more than max octets are left.
func (t *table) evict(max int64) error {
	for t.total > max {
		age, k := t.ages.Cursor().First()
		if age == nil {
			return nil
		}
		age, k = bytes.Clone(age), bytes.Clone(k)
		if err := t.remove(k); err != nil {
			return err
		}
		if err := t.ages.Delete(age); err != nil { // where the list named another age
			return err
		}
	}
	return nil
}
