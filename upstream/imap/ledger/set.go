package ledger

import "slices"

// A Set is UIDs as ranges, which ascend and do not touch. Of the UIDs of a
// mailbox it is exact; between them it may hold numbers that no message has or
// will have, since UIDs are given in ascending order and never twice (RFC 3501
// section 2.3.1.1).
type Set []Range

// Range is the UIDs from First to Last.
type Range struct{ First, Last uint32 }

// Has reports whether uid is in the set.
func (s Set) Has(uid uint32) bool {
	_, ok := slices.BinarySearchFunc(s, uid, func(r Range, uid uint32) int {
		switch {
		case r.Last < uid:
			return -1
		case r.First > uid:
			return 1
		}
		return 0
	})
	return ok
}

// merge returns s with the messages of fresh and without those that are gone.
// present are the UIDs of all messages below uidNext, ascending; of what is not
// below it nothing is known, and it stays. added tells whether fresh has a message
// that s has not.
func (s Set) merge(present []uint32, uidNext uint32, fresh func(uid uint32) bool) (out Set, added bool) {
	before := false // the message before is in it
	for _, uid := range present {
		known := s.Has(uid)
		is := known || fresh(uid)
		added = added || is && !known
		switch {
		case is && before: // whatever lies between is gone for ever
			out[len(out)-1].Last = uid
		case is:
			out = append(out, Range{uid, uid})
		}
		before = is
	}
	for _, r := range s {
		if r.Last >= uidNext {
			out = append(out, Range{max(r.First, uidNext), r.Last})
		}
	}
	return out, added
}

// valid reports whether the ranges are those of a set.
func (s Set) valid() bool {
	last := uint32(0)
	for _, r := range s {
		if r.First <= last || r.Last < r.First {
			return false
		}
		last = r.Last
	}
	return true
}
