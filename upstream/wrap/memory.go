package wrap

import (
	"container/heap"
	"time"
)

// A name is a digest of what something is remembered under.
type name [16]byte

// A memory remembers names until an end that each of them has. What ends first
// is forgotten first, be it by time or because the memory is full. Not safe for
// concurrent use; times are of the owner's clock, which never goes back.
type memory struct {
	most    int // names at a time
	entries map[name]*entry
	order   byEnd
}

// An entry is what is remembered of one name. One that has been forgotten can
// still be used; nobody finds it any more.
type entry struct {
	name  name
	end   time.Duration
	index int // in the order; -1: forgotten

	wrong    time.Duration   // when the last of its guesses is regained
	known    time.Duration   // until when a success is remembered
	underway int             // logins without an outcome
	queue    []chan struct{} // who waits for one of these, in order of arrival
}

func newMemory(most int) *memory { return &memory{most: most, entries: map[name]*entry{}} }

// find returns the entry of n, nil if there is none.
func (m *memory) find(n name, now time.Duration) *entry {
	m.forget(now)
	return m.entries[n]
}

// add makes an entry that ends at end.
func (m *memory) add(n name, now, end time.Duration) *entry {
	m.forget(now)
	if len(m.entries) >= m.most {
		m.drop()
	}
	e := &entry{name: n, end: end}
	m.entries[n] = e
	heap.Push(&m.order, e)
	return e
}

// keep moves the end of e.
func (m *memory) keep(e *entry, end time.Duration) {
	if e.end = end; e.index >= 0 {
		heap.Fix(&m.order, e.index)
	}
}

// forget drops what has ended.
func (m *memory) forget(now time.Duration) {
	for len(m.order) > 0 && m.order[0].end <= now {
		m.drop()
	}
}

func (m *memory) drop() { delete(m.entries, heap.Pop(&m.order).(*entry).name) }

// byEnd is a heap of entries.
type byEnd []*entry

func (b byEnd) Len() int           { return len(b) }
func (b byEnd) Less(i, j int) bool { return b[i].end < b[j].end }

func (b byEnd) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].index, b[j].index = i, j
}

func (b *byEnd) Push(x any) {
	e := x.(*entry)
	e.index = len(*b)
	*b = append(*b, e)
}

func (b *byEnd) Pop() any {
	last := len(*b) - 1
	e := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	e.index = -1
	return e
}
