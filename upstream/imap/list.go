package imap

import (
	"context"
	"slices"
	"sort"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/listcache"
)

// listTries is how often a mailbox that changes while it is listed is listed.
const listTries = 3

// list makes the snapshot.
func (m *maildrop) list(ctx context.Context) error {
	known := m.store.o.Cache.Get(m.id.cacheKey())
	for try := 1; ; try++ {
		box, err := m.examine(ctx)
		if err != nil {
			return err
		}
		if known != nil && known.UIDValidity != box.uidValidity {
			m.store.o.Trace.renumbered()
			m.store.o.Cache.Drop(m.id.cacheKey())
		}
		l, how, err := m.current(ctx, box, known)
		switch {
		case err != nil:
			return err
		case l != nil:
			m.remember(l, known)
			m.store.o.Trace.listed(how)
			return m.show(ctx, box, l)
		case known != nil:
			m.store.o.Cache.Drop(m.id.cacheKey())
			known, try = nil, 0
		case try == listTries:
			// Clients forget what a list lacks: no list is better.
			return failf(upstream.Unavailable, opList, "the server listed other messages than it announced, %d times in a row", try)
		}
	}
}

// examine opens the mailbox to be listed.
func (m *maildrop) examine(ctx context.Context) (mailbox, error) {
	box, err := m.conn.selectMailbox(ctx, m.id.box, m.conn.caps.opensForReading())
	if err != nil {
		return box, err
	}
	limit := m.store.o.MaxMessages
	switch {
	case box.uidValidity == 0:
		return box, failf(upstream.Internal, opSelect, "the server tells no UIDVALIDITY, without which there are no unique-ids")
	case box.uidNotSticky:
		return box, failf(upstream.Internal, opSelect, "the server's UIDs are not persistent (UIDNOTSTICKY), so there are no unique-ids")
	case uint64(box.exists) > uint64(limit):
		return box, failf(upstream.TooBig, opSelect, "the mailbox has %d messages, over the limit of %d", box.exists, limit)
	}
	return box, nil
}

// current lists the mailbox as SELECT announced it, or returns nil if that did
// not come out. known is how it was listed before; it may be nil.
//
// UIDs are given in ascending order and never twice (RFC 3501 section 2.3.1.1),
// so that of the messages below known.UIDNext there are those of known and no
// others: only how many of them are left has to be found out.
func (m *maildrop) current(ctx context.Context, box mailbox, known *listcache.List) (l *listcache.List, how string, err error) {
	switch {
	case known == nil || known.UIDValidity != box.uidValidity || box.uidNext < known.UIDNext: // or not told
		l, err = m.all(ctx, box)
		return l, listedFull, err
	case box.uidNext == known.UIDNext && int(box.exists) == known.Len():
		return known, listedUnchanged, nil
	case known.Len() == 0:
		l, err = m.all(ctx, box)
		return l, listedFull, err
	}
	return m.changes(ctx, box, known)
}

// all lists every message.
func (m *maildrop) all(ctx context.Context, box mailbox) (*listcache.List, error) {
	l := newListing(int(box.exists))
	if box.exists > 0 {
		all := imap2.UIDSet{imap2.UIDRange{Start: 1}} // 1:*
		err := m.conn.sizes(ctx, all, func(_, uid uint32, octets int64) { l.add(uid, octets) })
		if err != nil {
			return nil, err
		}
	}
	if l.over {
		return nil, failf(upstream.Unavailable, opList, "the server listed far more messages than it announced")
	}
	l.sort(box.uidNext)
	if len(l.uids) < int(box.exists) || box.uidNext != 0 && len(l.uids) > int(box.exists) {
		return nil, nil // short; or too long, which is no better
	}
	return l.behind(&listcache.List{UIDValidity: box.uidValidity}, box.uidNext), nil
}

// changes lists what came behind known, and what of known is left.
//
// The last message of known is asked for too. If its sequence number is the
// number of messages of known, all of them are there. The number of all messages
// does not tell that: where one of known is gone, and one that is new goes
// while it is listed, the sum is right and the list wrong.
func (m *maildrop) changes(ctx context.Context, box mailbox, known *listcache.List) (*listcache.List, string, error) {
	how, left := listedAdded, known
	l := newListing(max(0, int(box.exists)-known.Len()))
	whole, another := false, false
	if box.uidNext > known.UIDNext {
		last := known.Len() - 1
		since := imap2.UIDSet{imap2.UIDRange{Start: imap2.UID(known.UIDs[last])}} // last:*
		err := m.conn.sizes(ctx, since, func(number, uid uint32, octets int64) {
			switch {
			case uid == known.UIDs[last]:
				whole = whole || int(number) == known.Len()
				another = another || octets != known.Octets[last]
			case uid >= known.UIDNext:
				l.add(uid, octets)
			}
		})
		if err != nil {
			return nil, "", err
		}
		l.sort(box.uidNext)
	}
	if another { // no UID may come to mean another message: nothing of known counts
		m.store.o.Trace.renumbered()
		full, err := m.all(ctx, box)
		return full, listedFull, err
	}
	if !whole {
		found, err := m.conn.searchAll(ctx, 2*int(box.exists)+1000)
		if err != nil {
			return nil, "", err
		}
		how, left = listedRemoved, known.Without(func(uid uint32) bool { return !found.has(uid) })
	}
	if l.over || left.Len()+len(l.uids) != int(box.exists) {
		return nil, "", nil
	}
	return l.behind(left, box.uidNext), how, nil
}

// show makes the snapshot of a list: without what an earlier session deleted and
// did not remove, and what is outside of the window.
func (m *maildrop) show(ctx context.Context, box mailbox, all *listcache.List) error {
	l := all
	var criteria []*imap2.SearchCriteria
	if !m.conn.caps.has("UIDPLUS") {
		criteria = append(criteria, &imap2.SearchCriteria{Flag: []imap2.Flag{imap2.FlagDeleted}})
	}
	if box.hasHidden || m.store.o.Delete == Hide {
		criteria = append(criteria, &imap2.SearchCriteria{Flag: []imap2.Flag{HiddenKeyword}})
	}
	for _, crit := range criteria {
		if l.Len() == 0 {
			break
		}
		hidden, _, err := m.conn.search(ctx, crit, nil, 2*l.Len()+1000)
		if err != nil {
			return err
		}
		l = l.Without(hidden.has)
	}
	l, err := m.within(ctx, all, l)
	if err != nil {
		return err
	}
	m.uidValidity, m.uidNext, m.uids, m.octets = box.uidValidity, box.uidNext, l.UIDs, l.Octets
	return nil
}

// remember keeps the list for the next session, if it may be of use there.
func (m *maildrop) remember(l, known *listcache.List) {
	switch {
	case l == known:
	case l.UIDNext == 0: // what comes behind it cannot be told
		m.store.o.Cache.Drop(m.id.cacheKey())
	default:
		m.store.o.Cache.Put(m.id.cacheKey(), l)
	}
}

// forget takes the messages of gone, which ascend, out of the cached list, those
// of but aside. They are proved to be gone: the next login then finds the
// mailbox as the list has it.
func (m *maildrop) forget(gone, but []uint32) {
	if len(gone) == len(but) {
		return
	}
	known := m.store.o.Cache.Get(m.id.cacheKey())
	if known == nil || known.UIDValidity != m.uidValidity {
		return
	}
	left := known.Without(func(uid uint32) bool {
		_, is := slices.BinarySearch(gone, uid)
		_, not := slices.BinarySearch(but, uid)
		return is && !not
	})
	if left != known {
		m.store.o.Cache.Put(m.id.cacheKey(), left)
	}
}

// listing collects messages of a mailbox as they come.
type listing struct {
	uids     []uint32
	octets   []int64
	expected int
	max      int
	over     bool
}

// newListing is a listing of so many messages. Some more may come: those that
// arrive, or are told twice, meanwhile.
func newListing(expected int) *listing {
	l := &listing{expected: expected, max: 2*expected + 1000}
	l.grow(min(expected, 4096)) // the others have memory when they come
	return l
}

func (l *listing) add(uid uint32, octets int64) {
	if l.over = l.over || len(l.uids) == l.max; l.over {
		return
	}
	if n := len(l.uids); n == cap(l.uids) {
		l.grow(max(min(4*n, l.expected), n+n/4+16))
	}
	l.uids = append(l.uids, uid)
	l.octets = append(l.octets, octets)
}

// grow makes room for n messages in all.
func (l *listing) grow(n int) {
	l.uids = append(make([]uint32, 0, n), l.uids...)
	l.octets = append(make([]int64, 0, n), l.octets...)
}

func (l *listing) Len() int           { return len(l.uids) }
func (l *listing) Less(i, j int) bool { return l.uids[i] < l.uids[j] }
func (l *listing) Swap(i, j int) {
	l.uids[i], l.uids[j] = l.uids[j], l.uids[i]
	l.octets[i], l.octets[j] = l.octets[j], l.octets[i]
}

// sort puts the messages in order of UID, each once, and leaves out those that
// arrived after SELECT announced uidNext (0: not told).
func (l *listing) sort(uidNext uint32) {
	if !slices.IsSorted(l.uids) {
		sort.Stable(l)
	}
	n := 0
	for i, uid := range l.uids {
		if (uidNext == 0 || uid < uidNext) && (n == 0 || uid != l.uids[n-1]) {
			l.uids[n], l.octets[n] = uid, l.octets[i]
			n++
		}
	}
	l.uids, l.octets = l.uids[:n], l.octets[:n]
}

// behind returns the list of what is left and, behind it, the listing, which is
// not used any more. Slices are shared where they are exact.
func (l *listing) behind(left *listcache.List, uidNext uint32) *listcache.List {
	out := &listcache.List{UIDValidity: left.UIDValidity, UIDNext: uidNext, UIDs: left.UIDs, Octets: left.Octets}
	switch n := left.Len() + len(l.uids); {
	case len(l.uids) == 0:
	case left.Len() == 0 && cap(l.uids) == n:
		out.UIDs, out.Octets = l.uids, l.octets
	default:
		out.UIDs = append(append(make([]uint32, 0, n), left.UIDs...), l.uids...)
		out.Octets = append(append(make([]int64, 0, n), left.Octets...), l.octets...)
	}
	return out
}
