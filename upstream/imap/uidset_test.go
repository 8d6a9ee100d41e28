package imap

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestRangesHoldWhatWasAdded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for range 2000 {
		var ranges uidRanges
		want := map[uint32]bool{}
		for range r.IntN(8) {
			first := 1 + r.Uint32N(40)
			last := first + r.Uint32N(6)
			ranges = ranges.add(first, last)
			for uid := first; uid <= last; uid++ {
				want[uid] = true
			}
		}
		ranges = ranges.sorted()
		for uid := range uint32(50) {
			if ranges.has(uid) != want[uid] {
				t.Fatalf("has(%d) = %v in %v", uid, !want[uid], ranges)
			}
		}
	}
}

func TestRangesEndAtTheLastUID(t *testing.T) {
	r := uidRanges{}.add(math.MaxUint32, math.MaxUint32).add(1, 2).add(3, 3).add(math.MaxUint32-1, math.MaxUint32).sorted()
	if len(r) != 2 || !r.has(math.MaxUint32) || !r.has(3) || r.has(4) || r.has(0) {
		t.Errorf("the ranges are %v", r)
	}
}
