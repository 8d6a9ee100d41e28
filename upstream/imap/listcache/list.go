package listcache

import (
	"crypto/sha256"
	"encoding/binary"
)

// A List is a mailbox as it was listed at some time. It is never written once
// somebody else has it: cache and snapshots share it.
//
// A list may hold messages that are gone. It lacks none that is there: each
// message of the mailbox whose UID is below UIDNext is in it.
type List struct {
	UIDValidity uint32
	UIDNext     uint32   // not 0
	UIDs        []uint32 // ascending, each of 1 or more and below UIDNext
	Octets      []int64  // of the same messages; 0 or more
}

// Len is the number of messages.
func (l *List) Len() int { return len(l.UIDs) }

// Without returns the list without the messages that are gone: l itself where
// none is.
func (l *List) Without(gone func(uid uint32) bool) *List {
	n := 0
	for _, uid := range l.UIDs {
		if gone(uid) {
			n++
		}
	}
	if n == 0 {
		return l
	}
	out := &List{UIDValidity: l.UIDValidity, UIDNext: l.UIDNext,
		UIDs: make([]uint32, 0, len(l.UIDs)-n), Octets: make([]int64, 0, len(l.UIDs)-n)}
	for i, uid := range l.UIDs {
		if !gone(uid) {
			out.UIDs = append(out.UIDs, uid)
			out.Octets = append(out.Octets, l.Octets[i])
		}
	}
	return out
}

// listOverhead is what an entry takes beside its messages, in octets: the key,
// the list, its place in the map and in the order of use.
const listOverhead = 320

// size is what the list takes in memory, in octets.
func (l *List) size() int64 { return listOverhead + 4*int64(cap(l.UIDs)) + 8*int64(cap(l.Octets)) }

// valid reports whether the list is one that a mailbox may have.
func (l *List) valid() bool {
	if len(l.UIDs) != len(l.Octets) || l.UIDValidity == 0 || l.UIDNext == 0 {
		return false
	}
	last := uint32(0)
	for i, uid := range l.UIDs {
		if uid <= last || l.Octets[i] < 0 {
			return false
		}
		last = uid
	}
	return last < l.UIDNext
}

// A Key names one mailbox of one user of one server. It is a digest: no names
// are kept.
type Key [sha256.Size]byte

// NewKey makes the key of what these parts name together, octet for octet. The
// order counts.
func NewKey(parts ...string) Key {
	h := sha256.New()
	for _, p := range parts {
		// With its length before it, no part runs into the next.
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return Key(h.Sum(nil))
}
