package listcache

import (
	"encoding/binary"
	"math"

	"github.com/popgate/popgate/upstream/imap/boltfile"
)

// The form of an entry of the file. It is a file format: what has another
// version is not read.
//
//	octet    version, 1
//	uvarint  UIDVALIDITY
//	uvarint  UIDNEXT
//	uvarint  number of messages
//	uvarint  of each message: its UID less the UID before it, its octets
//	32 octets SHA-256 of the key and all of the above
const version = 1

// encode appends the form of l, under k, to dst.
func encode(dst []byte, k Key, l *List) []byte {
	start := len(dst)
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, uint64(l.UIDValidity))
	dst = binary.AppendUvarint(dst, uint64(l.UIDNext))
	dst = binary.AppendUvarint(dst, uint64(len(l.UIDs)))
	last := uint32(0)
	for i, uid := range l.UIDs {
		dst = binary.AppendUvarint(dst, uint64(uid-last))
		dst = binary.AppendUvarint(dst, uint64(l.Octets[i]))
		last = uid
	}
	return boltfile.Seal(dst, start, k)
}

// decode reads what encode wrote under the same key; nil if it is anything else.
// It takes memory in proportion to b.
func decode(b []byte, k Key) *List {
	r, ok := boltfile.Unseal(b, k, version)
	if !ok {
		return nil
	}
	l := &List{UIDValidity: uint32(r.Next(math.MaxUint32)), UIDNext: uint32(r.Next(math.MaxUint32))}
	n := r.Next(uint64(len(r.Left)) / 2) // two octets a message or more
	if r.Bad {
		return nil
	}
	l.UIDs, l.Octets = make([]uint32, n), make([]int64, n)
	last := uint32(0)
	for i := range l.UIDs {
		last += uint32(r.Next(uint64(math.MaxUint32 - last)))
		l.UIDs[i] = last
		l.Octets[i] = int64(r.Next(math.MaxInt64))
	}
	if !r.End() || !l.valid() {
		return nil
	}
	return l
}
