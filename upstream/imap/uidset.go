package imap

import (
	"cmp"
	"slices"

	imap2 "github.com/emersion/go-imap/v2"
)

// A chunk of UIDs fits a command of 8 KiB, and a reply that lists what became
// of each fits the guard's line limit.
const (
	chunkRanges = 300
	chunkUIDs   = 5000
)

// chunks calls f for uids, which ascend, in sets that fit one command. A set
// holds a range only where every number in it is among uids: the library joins
// neighbours and nothing else.
func chunks(uids []uint32, f func(set imap2.UIDSet, part []uint32) error) error {
	for len(uids) > 0 {
		var set imap2.UIDSet
		n := 0
		for n < len(uids) && n < chunkUIDs && len(set) < chunkRanges {
			if last := len(set) - 1; last >= 0 && uint32(set[last].Stop)+1 == uids[n] {
				set[last].Stop++
			} else {
				set = append(set, imap2.UIDRange{Start: imap2.UID(uids[n]), Stop: imap2.UID(uids[n])})
			}
			n++
		}
		if err := f(set, uids[:n]); err != nil {
			return err
		}
		uids = uids[n:]
	}
	return nil
}

// count is the number of UIDs in set, without expanding it.
func count(set imap2.UIDSet) uint64 {
	var n uint64
	for _, r := range set {
		lo, hi := uint64(r.Start), uint64(r.Stop)
		if lo > hi {
			lo, hi = hi, lo
		}
		n += hi - lo + 1
	}
	return n
}

// uidRanges is what a search found. It is never expanded: a range may hold any
// number of UIDs that are not there.
type uidRanges []uidRange

type uidRange struct{ first, last uint32 }

// add adds a range, to the one before it where that ends just before it.
func (r uidRanges) add(first, last uint32) uidRanges {
	if n := len(r); n > 0 && r[n-1].last < first && r[n-1].last+1 == first {
		r[n-1].last = last
		return r
	}
	return append(r, uidRange{first, last})
}

// sorted puts the ranges in ascending order, none within another's reach.
func (r uidRanges) sorted() uidRanges {
	slices.SortFunc(r, func(a, b uidRange) int { return cmp.Compare(a.first, b.first) })
	out := r[:0]
	for _, next := range r {
		if n := len(out); n > 0 && next.first <= out[n-1].last {
			out[n-1].last = max(out[n-1].last, next.last)
		} else {
			out = append(out, next)
		}
	}
	return out
}

// has reports whether uid is in the ranges, which are sorted.
func (r uidRanges) has(uid uint32) bool {
	_, ok := slices.BinarySearchFunc(r, uid, func(e uidRange, uid uint32) int {
		switch {
		case e.last < uid:
			return -1
		case e.first > uid:
			return 1
		}
		return 0
	})
	return ok
}
