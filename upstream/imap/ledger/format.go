package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
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
	sum := checksum(k, b)
	return append(b, sum[:]...)
}

func checksum(k key, b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(k[:])
	h.Write(b)
	return [sha256.Size]byte(h.Sum(nil))
}

// decode reads what encode wrote under the same key. It takes memory in
// proportion to b.
func decode(b []byte, k key) (e entry, ok bool) {
	at := len(b) - sha256.Size
	if at < 1 || b[0] != version || checksum(k, b[:at]) != [sha256.Size]byte(b[at:]) {
		return e, false
	}
	r := reader{b: b[1:at]}
	e.uidValidity = uint32(r.number(math.MaxUint32))
	n := r.number(uint64(len(r.b)) / 2) // two octets a range or more
	if r.bad {
		return entry{}, false
	}
	e.shown = make(Set, n)
	last := uint32(0)
	for i := range e.shown {
		first := last + uint32(r.number(uint64(math.MaxUint32-last)))
		last = first + uint32(r.number(uint64(math.MaxUint32-first)))
		e.shown[i] = Range{first, last}
	}
	if r.bad || len(r.b) > 0 || !e.shown.valid() {
		return entry{}, false
	}
	return e, true
}

// reader reads numbers until one is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number(max uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad = r.bad || n <= 0 || v > max; r.bad {
		return 0
	}
	r.b = r.b[n:]
	return v
}
