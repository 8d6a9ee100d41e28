package listcache

import (
	"fmt"
	"log/slog"

	"github.com/popgate/popgate/upstream/imap/boltfile"
)

// Encode, Decode and Seal are the form of entries.
func Encode(k Key, l *List) []byte { return encode(nil, k, l) }

func Decode(b []byte, k Key) *List { return decode(b, k) }

// Seal puts a right checksum behind b.
func Seal(k Key, b []byte) []byte {
	return boltfile.Seal(b[:len(b):len(b)], 0, k)
}

// Waiting lets n changes come to a file that nobody writes, and tells how many
// wait and how large their lists are.
func Waiting(log *slog.Logger, n int, l *List) (int, int64) {
	f := &file{log: log, waiting: map[Key]*List{}, wake: make(chan struct{}, 1)}
	for i := range n {
		f.put(NewKey(fmt.Sprint(i)), l)
	}
	return len(f.waiting), f.octets
}
