package jmap

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// A Cache holds the lists of mailboxes from one session to the next, those that
// were used last, in memory. Stores may share it. It is safe for concurrent use.
// A nil Cache holds nothing.
type Cache struct {
	max int64

	mu      sync.Mutex
	used    int64
	entries map[cacheKey]*list.Element // of *cached
	order   *list.List                 // the one used last in front
}

// cacheKey names one mailbox as one user of one server sees it. It is a digest: no
// names are kept.
type cacheKey [sha256.Size]byte

type cached struct {
	key  cacheKey
	list *snapshot
}

// NewCache returns a cache of so many octets.
func NewCache(octets int64) *Cache {
	return &Cache{max: octets, entries: map[cacheKey]*list.Element{}, order: list.New()}
}

// newCacheKey makes the key of what these parts name together, octet for octet.
func newCacheKey(parts ...string) (k cacheKey) {
	h := sha256.New()
	for _, p := range parts {
		// With its length before it, no part runs into the next.
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	h.Sum(k[:0])
	return k
}

// get returns the list of a mailbox, or nil.
func (c *Cache) get(k cacheKey) *snapshot {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.entries[k]
	if !ok {
		return nil
	}
	c.order.MoveToFront(at)
	return at.Value.(*cached).list
}

// put keeps l as the list of a mailbox, in the place of those that were not used
// for the longest time; nil forgets it. One that is larger than the whole cache is
// not kept.
func (c *Cache) put(k cacheKey, l *snapshot) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(k)
	if l == nil || l.memory() > c.max {
		return
	}
	for c.used+l.memory() > c.max {
		c.forget(c.order.Back().Value.(*cached).key)
	}
	c.used += l.memory()
	c.entries[k] = c.order.PushFront(&cached{k, l})
}

func (c *Cache) forget(k cacheKey) {
	if at, ok := c.entries[k]; ok {
		c.used -= c.order.Remove(at).(*cached).list.memory()
		delete(c.entries, k)
	}
}
