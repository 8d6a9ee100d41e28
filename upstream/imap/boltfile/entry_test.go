package boltfile_test

import (
	"encoding/hex"
	"math"
	"slices"
	"testing"

	"github.com/popgate/popgate/upstream/imap/boltfile"
)

var alice, bob = [32]byte{1}, [32]byte{2}

const version = 3

// entry is one with the numbers 0, 300 and 2^64-1, behind two octets of something
// else.
func entry() []byte {
	return boltfile.Seal([]byte("--\x03\x00\xac\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 2, alice)[2:]
}

func TestAnEntryIsReadAsItWasSealed(t *testing.T) {
	if sum := hex.EncodeToString(entry()[14:18]); len(entry()) != 14+32 || sum != "99cd45cc" {
		t.Errorf("an entry of %d octets, its checksum begins with %s", len(entry()), sum)
	}
	n, ok := boltfile.Unseal(entry(), alice, version)
	got := []uint64{n.Next(0), n.Next(300), n.Next(math.MaxUint64)}
	if !ok || !n.End() || !slices.Equal(got, []uint64{0, 300, math.MaxUint64}) {
		t.Errorf("read %v, %t, at the end: %t", got, ok, n.End())
	}
}

// No octet of an entry can be changed or lost, nor can it come under another key.
func TestADamagedEntryIsNone(t *testing.T) {
	b := entry()
	if _, ok := boltfile.Unseal(b, bob, version); ok {
		t.Error("it is read under another key")
	}
	if _, ok := boltfile.Unseal(b, alice, version+1); ok {
		t.Error("it is read as another version")
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, ok := boltfile.Unseal(b, alice, version); ok {
				t.Errorf("bit %d of octet %d is changed, and it is read", bit, i)
			}
			b[i] ^= 1 << bit
		}
		if _, ok := boltfile.Unseal(b[:i], alice, version); ok {
			t.Errorf("cut after %d octets, and read", i)
		}
		if _, ok := boltfile.Unseal(b[i+1:], alice, version); ok {
			t.Errorf("without the first %d octets, and read", i+1)
		}
	}
	if _, ok := boltfile.Unseal(boltfile.Seal(nil, 0, alice), alice, 0); ok {
		t.Error("a checksum alone is read")
	}
}

func TestABadNumberEndsThem(t *testing.T) {
	for name, b := range map[string][]byte{
		"too_large": {5, 1}, "of_too_many_octets": slices.Repeat([]byte{0x80}, 20), "cut": {0x80}, "none": {},
	} {
		n := boltfile.Numbers{Left: b}
		if first, second := n.Next(4), n.Next(4); first != 0 || second != 0 || !n.Bad || n.End() {
			t.Errorf("%s: read %d, %d, bad: %t", name, first, second, n.Bad)
		}
	}
}
