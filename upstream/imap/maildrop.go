package imap

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
	"github.com/popgate/popgate/upstream/readahead"
)

// maildrop is the examined mailbox with its snapshot.
type maildrop struct {
	store *Store
	id    *identity // to make a lost connection anew

	// mu is held by whoever uses the connection: the session, or the timer that
	// keeps it up while the POP3 client idles.
	mu   sync.Mutex
	conn *conn
	body *body // the body that is being read, if any
	over bool  // closed

	failed bool // an Update failed: nothing of this session is used again

	inexact bool // the server's sizes are seen to be inexact

	window      *readahead.Window
	aheadFailed int // times that fetching ahead brought less than it should
	timer       *time.Timer

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

// AppendUIDL appends UIDVALIDITY and UID in the form of Options.UniqueIDs.
func (m *maildrop) AppendUIDL(dst []byte, i int) []byte {
	return m.store.o.UniqueIDs.Append(dst, m.uidValidity, m.uids[i])
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
	if m.over || m.body != nil {
		return
	}
	m.dropAhead() // a client that idles so long has gone elsewhere
	if !m.conn.alive() {
		return
	}
	if err := m.conn.noop(ctx); err == nil {
		m.timer.Reset(m.store.o.KeepAlive)
	}
}

// close ends whatever is under way, and the connection, unless nothing is under
// way and it may serve another session.
func (m *maildrop) close() {
	quiet := m.mu.TryLock()
	if !quiet {
		m.guard.Load().Abort()
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	m.over = true
	m.timer.Stop()
	if m.body != nil {
		quiet = false
		m.conn.guard.Abort()
		m.body.close()
	}
	m.dropAhead()
	if quiet && !m.failed && m.store.pool.park(m.id.account(), m.id.creds, m.conn) {
		m.conn = &conn{store: m.store, dead: true} // it is another session's from now on
		return
	}
	m.conn.close()
}

// reconnect replaces a lost connection by a new one, if the mailbox is still
// the one that was listed and each message of at, which are indexes into the
// snapshot, has its size or is gone.
func (m *maildrop) reconnect(ctx context.Context, at []int) error {
	m.conn.close()
	fresh, err := m.id.connect(ctx)
	if err != nil {
		return err
	}
	m.use(fresh)
	box, err := fresh.selectMailbox(ctx, m.id.box, fresh.caps.opensForReading())
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
		err := m.conn.sizes(ctx, set, func(_, uid uint32, octets int64) {
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
