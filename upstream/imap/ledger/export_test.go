package ledger

import "github.com/popgate/popgate/upstream/imap/boltfile"

// The form of entries, and what a set becomes.

func Encode(maildrop string, uidValidity uint32, s Set) []byte {
	return entry{uidValidity, s}.encode(keyOf(maildrop))
}

func Decode(b []byte, maildrop string) (uidValidity uint32, s Set, ok bool) {
	e, ok := decode(b, keyOf(maildrop))
	return e.uidValidity, e.shown, ok
}

// Seal puts a right checksum behind b.
func Seal(maildrop string, b []byte) []byte {
	return boltfile.Seal(b[:len(b):len(b)], 0, keyOf(maildrop))
}
