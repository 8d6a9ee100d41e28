package listcache

// Encode, Decode and Seal are the form of entries.
func Encode(k Key, l *List) []byte { return encode(nil, k, l) }

func Decode(b []byte, k Key) *List { return decode(b, k) }

// Seal puts a right checksum behind b.
func Seal(k Key, b []byte) []byte {
	sum := checksum(k, b)
	return append(b[:len(b):len(b)], sum[:]...)
}
