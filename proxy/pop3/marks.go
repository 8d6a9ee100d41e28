package pop3

import (
	"math"
	"math/bits"

	"github.com/popgate/popgate/upstream"
)

// index is where message number n stands in the snapshot (RFC 1939 section 5:
// numbers begin with 1). It is the only conversion between the two; the rest of
// the session counts in message numbers and converts as it touches the store.
func index(n int) int { return n - 1 }

// A bitset is a set of indexes.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

func (b bitset) add(i int) { b[i/64] |= 1 << (i % 64) }

// list returns the members in ascending order.
func (b bitset) list() []int {
	var list []int
	for w, word := range b {
		for ; word != 0; word &= word - 1 {
			list = append(list, w*64+bits.TrailingZeros64(word))
		}
	}
	return list
}

// marks are the messages of a session that are marked as deleted, and the totals
// of those that are not (RFC 1939 section 5).
type marks struct {
	snapshot upstream.Snapshot
	deleted  bitset
	seen     bitset // retrieved whole
	nDeleted int
	left     sum // octets of the messages that are not marked
	all      sum
}

func newMarks(s upstream.Snapshot) *marks {
	m := &marks{snapshot: s, deleted: newBitset(s.Len()), seen: newBitset(s.Len())}
	for i := range s.Len() {
		m.all.add(s.Size(i))
	}
	m.left = m.all
	return m
}

// delete marks message i, which is not marked.
func (m *marks) delete(i int) {
	m.deleted.add(i)
	m.nDeleted++
	m.left.sub(m.snapshot.Size(i))
}

// reset unmarks all and returns how many that were.
func (m *marks) reset() int {
	n := m.nDeleted
	clear(m.deleted)
	m.nDeleted = 0
	m.left = m.all
	return n
}

func (m *marks) marked() int { return m.nDeleted }

// totals returns the number and the octets of the messages that are not marked.
func (m *marks) totals() (n int, octets int64) { return m.snapshot.Len() - m.nDeleted, m.left.value() }

// A sum is a total of sizes in 128 bits: a mail service may claim any size for a
// message, and a total that once overflowed could not be made right by
// subtracting.
type sum struct{ hi, lo uint64 }

func (t *sum) add(size int64) {
	var carry uint64
	t.lo, carry = bits.Add64(t.lo, uint64(max(size, 0)), 0)
	t.hi += carry
}

func (t *sum) sub(size int64) {
	var borrow uint64
	t.lo, borrow = bits.Sub64(t.lo, uint64(max(size, 0)), 0)
	t.hi -= borrow
}

// value returns the sum, or the greatest value there is.
func (t sum) value() int64 {
	if t.hi > 0 || t.lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(t.lo)
}
