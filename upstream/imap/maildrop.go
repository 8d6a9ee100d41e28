package imap

import (
	"context"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

// maildrop is the examined mailbox with its snapshot.
type maildrop struct {
	store *Store
	creds upstream.Credentials // to make a lost connection anew

	// mu is held by whoever uses the connection: the session, or the timer that
	// keeps it up while the POP3 client idles.
	mu   sync.Mutex
	conn *conn
	body *body // the body that is being read, if any
	over bool  // closed

	inexact bool // the server's sizes are seen to be inexact
	timer   *time.Timer

	// guard is that of conn, for Close to end what is under way.
	guard atomic.Pointer[imapguard.Conn]

	// The snapshot: messages ascend by UID.
	uidValidity uint32
	uidNext     uint32 // 0 if the server does not tell
	uids        []uint32
	octets      []int64
}

func (m *maildrop) Len() int { return len(m.uids) }

func (m *maildrop) Size(i int) int64 { return m.octets[i] }

// AppendUIDL appends "<UIDVALIDITY>.<UID>", at most 21 octets. The format is
// kept for ever: clients know their mail by it.
func (m *maildrop) AppendUIDL(dst []byte, i int) []byte {
	dst = strconv.AppendUint(dst, uint64(m.uidValidity), 10)
	return strconv.AppendUint(append(dst, '.'), uint64(m.uids[i]), 10)
}

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

// take locks the connection for one call of the session.
func (m *maildrop) take(op string) error {
	m.mu.Lock()
	switch {
	case m.over:
		m.mu.Unlock()
		return failf(upstream.Internal, op, "the maildrop is closed")
	case m.body != nil:
		m.mu.Unlock()
		return failf(upstream.Internal, op, "a body is open")
	}
	return nil
}

// leave ends what take began; from now on the timer keeps the connection up.
func (m *maildrop) leave() {
	m.timer.Reset(m.store.o.KeepAlive)
	m.mu.Unlock()
}

// use makes conn the connection.
func (m *maildrop) use(c *conn) {
	m.conn = c
	m.guard.Store(c.guard)
}

// keepAlive keeps the server from closing the connection while the POP3 client
// idles. If the connection is lost the next command makes it anew.
func (m *maildrop) keepAlive(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over || m.body != nil || !m.conn.alive() {
		return
	}
	if err := m.conn.noop(ctx); err == nil {
		m.timer.Reset(m.store.o.KeepAlive)
	}
}

// close ends whatever is under way, and the connection.
func (m *maildrop) close() {
	if !m.mu.TryLock() {
		m.guard.Load().Abort()
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	m.over = true
	m.timer.Stop()
	if m.body != nil {
		m.conn.guard.Abort()
		m.body.close()
	}
	m.conn.close()
}

// reconnect replaces a lost connection by a new one, if the mailbox is still
// the one that was listed and each message of at, which are indexes into the
// snapshot, has its size or is gone.
func (m *maildrop) reconnect(ctx context.Context, at []int) error {
	m.conn.close()
	fresh, err := m.store.connect(ctx, m.creds)
	if err != nil {
		return err
	}
	m.use(fresh)
	box, err := fresh.selectMailbox(ctx, fresh.caps.opensForReading())
	if err == nil {
		err = m.same(box)
	}
	if err == nil {
		err = m.sameSizes(ctx, at)
	}
	if err != nil {
		fresh.abandon()
	}
	return err
}

// same checks that a selected mailbox is the one of the snapshot.
func (m *maildrop) same(box mailbox) error {
	switch {
	case box.uidValidity != m.uidValidity:
		return failf(upstream.Changed, opSelect, "UIDVALIDITY was %d and is %d: the mailbox is another one", m.uidValidity, box.uidValidity)
	case m.uidNext != 0 && box.uidNext != 0 && box.uidNext < m.uidNext:
		return failf(upstream.Changed, opSelect, "UIDNEXT fell from %d to %d: the mailbox is another one", m.uidNext, box.uidNext)
	}
	return nil
}

// sameSizes checks that the messages are of the size of the snapshot.
func (m *maildrop) sameSizes(ctx context.Context, at []int) error {
	return chunks(m.uidsAt(at), func(set imap2.UIDSet, part []uint32) error {
		var changed error
		err := m.conn.sizes(ctx, set, func(uid uint32, octets int64) {
			if i, ok := slices.BinarySearch(m.uids, uid); ok && m.octets[i] != octets {
				changed = failf(upstream.Changed, opList, "message with UID %d had %d octets and has %d", uid, m.octets[i], octets)
			}
		})
		if err != nil {
			return err
		}
		return changed
	})
}

func (m *maildrop) uidsAt(at []int) []uint32 {
	uids := make([]uint32, len(at))
	for i, at := range at {
		uids[i] = m.uids[at]
	}
	return uids
}
