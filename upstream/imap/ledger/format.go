package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/popgate/popgate/upstream/imap/boltfile"
)

// The form of an entry. It is a file format: an entry of another version is an
// error, and no reason to forget.
//
//	octet    version, 1
//	uvarint  UIDVALIDITY
//	uvarint  number of ranges
//	uvarint  of each range: its first UID less the last of the range before it,
//	         its last UID less its first
//	32 octets SHA-256 of the key and all of the above
const version = 1

// key names a maildrop. It is a digest: no names are kept.
type key [sha256.Size]byte

func keyOf(maildrop string) key { return sha256.Sum256([]byte(maildrop)) }

// entry is what is known of a maildrop.
type entry struct {
	uidValidity uint32
	shown       Set
}

func (e entry) encode(k key) []byte {
	b := binary.AppendUvarint([]byte{version}, uint64(e.uidValidity))
	b = binary.AppendUvarint(b, uint64(len(e.shown)))
	last := uint32(0)
	for _, r := range e.shown {
		b = binary.AppendUvarint(b, uint64(r.First-last))
		b = binary.AppendUvarint(b, uint64(r.Last-r.First))
		last = r.Last
	}
	return boltfile.Seal(b, 0, k)
}

// decode reads what encode wrote under the same key. It takes memory in
// proportion to b.
func decode(b []byte, k key) (e entry, ok bool) {
	r, ok := boltfile.Unseal(b, k, version)
	if !ok {
		return e, false
	}
	e.uidValidity = uint32(r.Next(math.MaxUint32))
	n := r.Next(uint64(len(r.Left)) / 2) // two octets a range or more
	if r.Bad {
		return entry{}, false
	}
	e.shown = make(Set, n)
	last := uint32(0)
	for i := range e.shown {
		first := last + uint32(r.Next(uint64(math.MaxUint32-last)))
		last = first + uint32(r.Next(uint64(math.MaxUint32-first)))
		e.shown[i] = Range{first, last}
	}
	if !r.End() || !e.shown.valid() {
		return entry{}, false
	}
	return e, true
}
