package listcache

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
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
	sum := checksum(k, dst[start:])
	return append(dst, sum[:]...)
}

func checksum(k Key, b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(k[:])
	h.Write(b)
	return [sha256.Size]byte(h.Sum(nil))
}

// decode reads what encode wrote under the same key; nil if it is anything else.
// It takes memory in proportion to b.
func decode(b []byte, k Key) *List {
	at := len(b) - sha256.Size
	if at < 1 || b[0] != version || checksum(k, b[:at]) != [sha256.Size]byte(b[at:]) {
		return nil
	}
	r := reader{b: b[1:at]}
	l := &List{UIDValidity: uint32(r.number(math.MaxUint32)), UIDNext: uint32(r.number(math.MaxUint32))}
	n := r.number(uint64(len(r.b)) / 2) // two octets a message or more
	if r.bad {
		return nil
	}
	l.UIDs, l.Octets = make([]uint32, n), make([]int64, n)
	last := uint32(0)
	for i := range l.UIDs {
		last += uint32(r.number(uint64(math.MaxUint32 - last)))
		l.UIDs[i] = last
		l.Octets[i] = int64(r.number(math.MaxInt64))
	}
	if r.bad || len(r.b) > 0 || !l.valid() {
		return nil
	}
	return l
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
