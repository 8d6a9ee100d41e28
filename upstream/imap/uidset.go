package imap

import (
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
