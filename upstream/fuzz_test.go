package upstream_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
)

// FuzzFoldedUIDL: every id becomes a legal unique-id, a legal one stays as it is,
// and two ids never share one.
func FuzzFoldedUIDL(f *testing.F) {
	for _, s := range []string{"", "1.2", "#", "~", " ", "a b", "\x7f", "é", "3857529045.4294967295", strings.Repeat("x", 70), strings.Repeat("x", 71),
		"#e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"} {
		f.Add([]byte(s), []byte("1.3"))
		f.Add([]byte(s), []byte(s+"x"))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x := upstream.AppendFoldedUIDL([]byte("kept "), a)
		y := upstream.AppendFoldedUIDL(nil, b)
		x, kept := bytes.CutPrefix(x, []byte("kept "))
		switch {
		case !kept:
			t.Fatalf("what was there before %q is gone", x)
		case !upstream.ValidUIDL(x) || !upstream.ValidUIDL(y):
			t.Fatalf("%q and %q became %q and %q", a, b, x, y)
		case bytes.Equal(x, y) != bytes.Equal(a, b):
			t.Fatalf("%q and %q became %q and %q", a, b, x, y)
		case upstream.ValidUIDL(a) && a[0] != '#' && !bytes.Equal(a, x):
			t.Fatalf("the legal id %q became %q", a, x)
		}
	})
}
