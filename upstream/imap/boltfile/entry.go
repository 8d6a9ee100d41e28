package boltfile

import (
	"crypto/sha256"
	"encoding/binary"
)

// The form of an entry. It is a file format.
//
//	octet    version
//	uvarint  any number of them
//	32 octets SHA-256 of the key and all of the above

// Seal puts a checksum behind the entry under key, which is b from start on.
func Seal(b []byte, start int, key [sha256.Size]byte) []byte {
	sum := checksum(key, b[start:])
	return append(b, sum[:]...)
}

// Unseal returns the numbers of an entry of this version that was sealed under the
// same key, and whether b is one.
func Unseal(b []byte, key [sha256.Size]byte, version byte) (Numbers, bool) {
	at := len(b) - sha256.Size
	if at < 1 || b[0] != version || checksum(key, b[:at]) != [sha256.Size]byte(b[at:]) {
		return Numbers{}, false
	}
	return Numbers{Left: b[1:at]}, true
}

func checksum(key [sha256.Size]byte, b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(key[:])
	h.Write(b)
	return [sha256.Size]byte(h.Sum(nil))
}

// Numbers are uvarints (see [binary.Uvarint]), read until one is bad.
type Numbers struct {
	Left []byte // of numbers that were not read yet
	Bad  bool   // one was none, or too large
}

// Next returns the next number, from 0 to max; 0 once one was bad.
func (n *Numbers) Next(max uint64) uint64 {
	v, size := binary.Uvarint(n.Left)
	if n.Bad = n.Bad || size <= 0 || v > max; n.Bad {
		return 0
	}
	n.Left = n.Left[size:]
	return v
}

// End reports whether all numbers were read and none was bad.
func (n *Numbers) End() bool { return !n.Bad && len(n.Left) == 0 }
