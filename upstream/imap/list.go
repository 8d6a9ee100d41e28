package imap

import (
	"context"
	"slices"
	"sort"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
)

// listTries is how often a mailbox that changes while it is listed is listed.
const listTries = 3

// list makes the snapshot.
func (m *maildrop) list(ctx context.Context) error {
	for try := 1; ; try++ {
		short, err := m.listOnce(ctx)
		if err != nil || !short {
			return err
		}
		if try == listTries {
			// Clients forget what a list lacks: no list is better.
			return failf(upstream.Unavailable, opList, "the server listed other messages than it announced, %d times in a row", try)
		}
	}
}

// listOnce makes the snapshot, or reports that the list came out short.
func (m *maildrop) listOnce(ctx context.Context) (short bool, err error) {
	box, err := m.conn.selectMailbox(ctx, m.conn.caps.opensForReading())
	if err != nil {
		return false, err
	}
	limit := m.store.o.MaxMessages
	switch {
	case box.uidValidity == 0:
		return false, failf(upstream.Internal, opSelect, "the server tells no UIDVALIDITY, without which there are no unique-ids")
	case box.uidNotSticky:
		return false, failf(upstream.Internal, opSelect, "the server's UIDs are not persistent (UIDNOTSTICKY), so there are no unique-ids")
	case uint64(box.exists) > uint64(limit):
		return false, failf(upstream.TooBig, opSelect, "the mailbox has %d messages, over the limit of %d", box.exists, limit)
	}
	l := listing{
		uids:   make([]uint32, 0, min(box.exists, 4096)),
		octets: make([]int64, 0, min(box.exists, 4096)),
		max:    2*int(box.exists) + 1000, // some may arrive or be told twice meanwhile
	}
	if box.exists > 0 {
		all := imap2.UIDSet{imap2.UIDRange{Start: 1}} // 1:*
		if err := m.conn.sizes(ctx, all, l.add); err != nil {
			return false, err
		}
		if l.over {
			return false, failf(upstream.Unavailable, opList, "the server listed far more messages than it announced")
		}
		l.sort(box.uidNext)
	}
	if len(l.uids) < int(box.exists) || box.uidNext != 0 && len(l.uids) > int(box.exists) {
		return true, nil // or too long, which is no better
	}
	if err := m.dropHidden(ctx, box, &l); err != nil {
		return false, err
	}
	m.uidValidity, m.uidNext, m.uids, m.octets = box.uidValidity, box.uidNext, l.uids, l.octets
	return false, nil
}

// dropHidden leaves out what an earlier session deleted without removing it.
func (m *maildrop) dropHidden(ctx context.Context, box mailbox, l *listing) error {
	var criteria []*imap2.SearchCriteria
	if !m.conn.caps["UIDPLUS"] {
		criteria = append(criteria, &imap2.SearchCriteria{Flag: []imap2.Flag{imap2.FlagDeleted}})
	}
	if box.hasHidden || m.store.o.Delete == Hide {
		criteria = append(criteria, &imap2.SearchCriteria{Flag: []imap2.Flag{HiddenKeyword}})
	}
	for _, crit := range criteria {
		if len(l.uids) == 0 {
			break
		}
		hidden, _, err := m.conn.search(ctx, crit, 2*len(l.uids)+1000)
		if err != nil {
			return err
		}
		slices.Sort(hidden)
		l.remove(hidden)
	}
	return nil
}

// listing collects a mailbox's messages.
type listing struct {
	uids   []uint32
	octets []int64
	max    int
	over   bool
}

func (l *listing) add(uid uint32, octets int64) {
	if l.over = l.over || len(l.uids) == l.max; l.over {
		return
	}
	l.uids = append(l.uids, uid)
	l.octets = append(l.octets, octets)
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
	l.filter(func(i, kept int) bool {
		return (uidNext == 0 || l.uids[i] < uidNext) && (kept == 0 || l.uids[i] != l.uids[kept-1])
	})
}

// remove leaves out the UIDs of gone, which ascend.
func (l *listing) remove(gone []uint32) {
	l.filter(func(i, _ int) bool {
		_, found := slices.BinarySearch(gone, l.uids[i])
		return !found
	})
}

// filter keeps message i if keep says so, which is told how many are kept.
func (l *listing) filter(keep func(i, kept int) bool) {
	n := 0
	for i := range l.uids {
		if keep(i, n) {
			l.uids[n], l.octets[n] = l.uids[i], l.octets[i]
			n++
		}
	}
	l.uids, l.octets = l.uids[:n], l.octets[:n]
}
