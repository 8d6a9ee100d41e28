package imap

import (
	"context"
	"errors"
	"time"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/ledger"
	"github.com/popgate/popgate/upstream/imap/listcache"
)

// A Window is the part of a mailbox that POP3 clients are shown. The zero value is
// all of it; where several fields are set, a message has to match them all. What
// was shown once stays until it is deleted, whatever becomes of it or of the
// window: the ledger remembers it, under the host, port, mailbox and user that the
// store has for it. Messages outside are not touched.
type Window struct {
	// Since shows messages that were received (INTERNALDATE) within this time, up
	// to two days more: IMAP compares dates without their time of day, and in the
	// zone that the server keeps (RFC 3501 section 6.4.4). No message is missed
	// that is younger. 24 h or more.
	Since time.Duration
	// Unseen shows messages that nobody has read (without \Seen).
	Unseen bool
	// Newest shows as many of those that match, at most: those with the highest
	// UIDs. As messages arrive there are more, until those before are deleted.
	Newest int
}

func (w Window) check() error {
	if w.Since < 0 || w.Since > 0 && w.Since < 24*time.Hour || w.Newest < 0 {
		return errors.New("imap: a window reaches back a day or more, and shows no negative number of messages")
	}
	return nil
}

// within returns the part of l that the window shows, once that is written down.
// all is the mailbox; l lacks what was deleted in it.
func (m *maildrop) within(ctx context.Context, all, l *listcache.List) (*listcache.List, error) {
	o := &m.store.o
	if o.Window == (Window{}) {
		return l, nil
	}
	shown, err := o.Ledger.Shown(m.id.key(), all.UIDValidity)
	if err != nil {
		return nil, ledgerError(err)
	}
	news := l.Without(shown.Has)
	fresh := func(uint32) bool { return false }
	if news.Len() > 0 {
		if fresh, err = m.enters(ctx, l, 2*all.Len()+1000); err != nil {
			return nil, err
		}
	}
	uidNext := all.UIDNext
	if uidNext == 0 && all.Len() > 0 { // not told
		uidNext = all.UIDs[all.Len()-1] + 1
	}
	if shown, err = o.Ledger.Show(m.id.key(), all.UIDValidity, all.UIDs, uidNext, fresh); err != nil {
		return nil, ledgerError(err)
	}
	return l.Without(func(uid uint32) bool { return !shown.Has(uid) }), nil
}

// enters tells which messages of l are in the window, of which the server may
// tell max numbers and ranges.
func (m *maildrop) enters(ctx context.Context, l *listcache.List, max int) (func(uid uint32) bool, error) {
	w := m.store.o.Window
	matches := func(uint32) bool { return true }
	if w.Since > 0 || w.Unseen {
		criteria := &imap2.SearchCriteria{}
		if w.Since > 0 {
			// A day more, for servers whose zone is behind.
			criteria.Since = time.Now().UTC().Add(-w.Since).AddDate(0, 0, -1)
		}
		if w.Unseen {
			criteria.NotFlag = []imap2.Flag{imap2.FlagSeen}
		}
		found, _, err := m.conn.search(ctx, criteria, m.conn.inRanges(), max)
		if err != nil {
			return nil, err
		}
		matches = found.has
	}
	if w.Newest == 0 {
		return matches, nil
	}
	first, left := uint32(0), w.Newest
	for i := l.Len() - 1; i >= 0 && left > 0; i-- {
		if uid := l.UIDs[i]; matches(uid) {
			first, left = uid, left-1
		}
	}
	if first == 0 {
		return func(uint32) bool { return false }, nil
	}
	return func(uid uint32) bool { return uid >= first && matches(uid) }, nil
}

func ledgerError(err error) error {
	if errors.Is(err, ledger.ErrDamaged) || errors.Is(err, ledger.ErrFull) {
		return fail(upstream.Internal, opList, err)
	}
	return fail(upstream.Unavailable, opList, err)
}
