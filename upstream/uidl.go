package upstream

import (
	"crypto/sha256"
	"encoding/hex"
)

// MaxUIDL is the greatest length of a unique-id in octets (RFC 1939 section 7).
const MaxUIDL = 70

// ValidUIDL reports whether id is 1 to 70 octets, each 0x21 to 0x7E
// (RFC 1939 section 7).
func ValidUIDL(id []byte) bool {
	if len(id) < 1 || len(id) > MaxUIDL {
		return false
	}
	for _, c := range id {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return true
}

// AppendFoldedUIDL appends id where it is a legal unique-id, and else "#" and
// the SHA-256 of id in lower-case hexadecimal: 65 octets that mean the same
// message for ever. A legal id that begins with "#" is folded too, so that no
// two ids share a text.
func AppendFoldedUIDL(dst, id []byte) []byte {
	if ValidUIDL(id) && id[0] != '#' {
		return append(dst, id...)
	}
	sum := sha256.Sum256(id)
	return hex.AppendEncode(append(dst, '#'), sum[:])
}
