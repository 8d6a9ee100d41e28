package imap

import (
	"context"
	"errors"
	"slices"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
)

// rounds is how often the removal is tried on one connection: Dovecot 2.3 was
// seen to confirm STORE and UID EXPUNGE and to expunge nothing.
const rounds = 2

// Update selects the mailbox anew, makes sure that it is the one that was
// listed, and does what the policy says with exactly the marked messages. If the
// connection is lost on the way it is made anew once, the mailbox and the
// messages are compared with the snapshot, and what is left is done; each step
// may be repeated.
func (m *maildrop) Update(ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
	if err := m.take("update"); err != nil {
		return upstream.Receipt{Kept: len(ch.Remove)}, err
	}
	defer m.leave()
	m.dropAhead()
	u := &update{drop: m, marked: m.uidsAt(ch.Remove), seen: m.uidsAt(ch.Seen)}
	err := u.run(ctx)
	if err != nil && !m.conn.alive() && ctx.Err() == nil {
		m.store.o.Logger.Warn("connection lost in UPDATE, making it anew", "op", "update", "err", err)
		if again := m.reconnect(ctx, ch.Remove); again != nil {
			err = again
		} else {
			err = u.run(ctx)
		}
	}
	if !u.seenTried {
		u.seenFailed(err)
	}
	m.failed = err != nil
	if len(u.marked) == 0 {
		return upstream.Receipt{}, nil // a failure to mark as seen is no failure
	}
	r := u.receipt()
	if err == nil && r.Kept > 0 {
		m.failed = true
		err = failf(upstream.Unavailable, "update", "%d messages are still there after the server confirmed their removal", r.Kept)
	}
	if err != nil {
		e := classify(ctx, "update", err, m.conn.guard.Status())
		return r, &upstream.Error{Kind: e.Kind, Op: "update", Sent: u.sent, Err: e}
	}
	return r, nil
}

// update is one UPDATE, which may take two connections.
type update struct {
	drop   *maildrop
	marked []uint32 // to be removed, ascending
	seen   []uint32 // to be flagged \Seen, ascending

	told      bool // the server answers SEARCH with what it found, be it nothing
	looked    bool // found is known
	found     int  // how many of marked were there at first
	left      int  // how many the last look found
	copied    map[uint32]bool
	sent      bool // a request that changes the mailbox may have arrived
	seenTried bool
}

// receipt counts what is not proved to be gone as kept.
func (u *update) receipt() upstream.Receipt {
	if !u.looked {
		return upstream.Receipt{Kept: len(u.marked)}
	}
	return upstream.Receipt{Removed: u.found - u.left, Missing: len(u.marked) - u.found, Kept: u.left}
}

// run is the whole procedure on the present connection. It may be run again.
func (u *update) run(ctx context.Context) error {
	c := u.drop.conn
	box, err := c.selectMailbox(ctx, u.drop.id.box, false)
	if err != nil {
		return err
	}
	if err := u.drop.same(box); err != nil {
		return err
	}
	remove, err := u.policy(ctx, box)
	if err != nil {
		return err
	}
	u.markSeen(ctx, box)
	if len(u.marked) == 0 {
		return nil
	}
	there, err := u.look(ctx, nil)
	if err != nil {
		return err
	}
	if !u.looked {
		u.looked, u.found = true, len(there)
	}
	u.settle(there, remove)
	for round := 0; round < rounds && len(there) > 0; round++ {
		failed := chunks(there, func(set imap2.UIDSet, part []uint32) error {
			u.sent = true
			return remove.do(ctx, set, part)
		})
		// The proof is taken even after a refusal, for the receipt's sake.
		if there, err = u.look(ctx, remove.undone); err != nil {
			return errors.Join(failed, err)
		}
		u.settle(there, remove)
		if failed != nil {
			return failed
		}
	}
	return nil
}

// settle takes note of which of the marked messages are left. The others are gone
// for ever, unless they are flagged and no more.
func (u *update) settle(there []uint32, remove removal) {
	u.left = len(there)
	if remove.undone == nil {
		u.drop.forget(u.marked, there)
	}
}

// look returns which of the marked messages are in the mailbox still, and match
// undone if that is given. That the server names none proves something only if
// it was seen to answer a SEARCH at all.
func (u *update) look(ctx context.Context, undone *imap2.SearchCriteria) ([]uint32, error) {
	var there []uint32
	err := chunks(u.marked, func(set imap2.UIDSet, part []uint32) error {
		criteria := &imap2.SearchCriteria{UID: []imap2.UIDSet{set}}
		if undone != nil {
			criteria.And(undone)
		}
		found, told, err := u.drop.conn.search(ctx, criteria, nil, 2*len(part))
		if err != nil {
			return err
		}
		if u.told = u.told || told; !u.told {
			return failf(upstream.Unavailable, opSearch, "the server confirms SEARCH and does not say what it found")
		}
		for _, uid := range part {
			if found.has(uid) {
				there = append(there, uid)
			}
		}
		return nil
	})
	return there, err
}

// removal is how a policy removes messages.
type removal struct {
	do     func(ctx context.Context, set imap2.UIDSet, part []uint32) error
	undone *imap2.SearchCriteria // what a message that was not removed matches; nil: anything
}

// policy finds out how messages are removed on this server, before anything is
// changed.
func (u *update) policy(ctx context.Context, box mailbox) (removal, error) {
	o, c := &u.drop.store.o, u.drop.conn
	if len(u.marked) == 0 {
		return removal{}, nil
	}
	flag := func(f imap2.Flag) removal {
		return removal{
			do:     func(ctx context.Context, set imap2.UIDSet, _ []uint32) error { return c.addFlag(ctx, set, f) },
			undone: &imap2.SearchCriteria{NotFlag: []imap2.Flag{f}},
		}
	}
	switch {
	case box.readOnly:
		return removal{}, failf(upstream.Internal, opSelect, "the mailbox is read-only")
	case o.Delete == Hide && !box.canHide:
		return removal{}, failf(upstream.Internal, opSelect, "the mailbox does not take the keyword %s", HiddenKeyword)
	case o.Delete == Hide:
		return flag(HiddenKeyword), nil
	case !box.canDelete:
		return removal{}, failf(upstream.Internal, opSelect, `the mailbox does not take the flag \Deleted`)
	}
	// Without UIDPLUS there is no way to expunge these messages and no others.
	remove := flag(imap2.FlagDeleted)
	if c.caps.has("UIDPLUS") {
		remove = removal{do: func(ctx context.Context, set imap2.UIDSet, _ []uint32) error {
			if err := c.addFlag(ctx, set, imap2.FlagDeleted); err != nil {
				return err
			}
			return c.expunge(ctx, set)
		}}
	}
	if o.Delete == Expunge {
		return remove, nil
	}
	to, err := u.trash(ctx)
	if err != nil {
		return removal{}, err
	}
	if c.caps.has("MOVE") {
		return removal{do: func(ctx context.Context, set imap2.UIDSet, _ []uint32) error { return c.move(ctx, set, to) }}, nil
	}
	return removal{
		do: func(ctx context.Context, set imap2.UIDSet, part []uint32) error {
			if err := u.copyOnce(ctx, part, to); err != nil {
				return err
			}
			return remove.do(ctx, set, part)
		},
		undone: remove.undone,
	}, nil
}

func (u *update) trash(ctx context.Context) (string, error) {
	name := u.drop.store.o.Trash
	if name == "" {
		var err error
		if name, err = u.drop.conn.trash(ctx); err != nil {
			return "", err
		}
	}
	if name == u.drop.id.box {
		return "", failf(upstream.Internal, opMailboxes, "the trash mailbox %q is the mailbox itself", name)
	}
	return name, nil
}

// copyOnce copies the messages of part that were not copied yet.
func (u *update) copyOnce(ctx context.Context, part []uint32, to string) error {
	todo := slices.DeleteFunc(slices.Clone(part), func(uid uint32) bool { return u.copied[uid] })
	return chunks(todo, func(set imap2.UIDSet, part []uint32) error {
		if err := u.drop.conn.copy(ctx, set, len(part), to); err != nil {
			return err
		}
		if u.copied == nil {
			u.copied = map[uint32]bool{}
		}
		for _, uid := range part {
			u.copied[uid] = true
		}
		return nil
	})
}

// markSeen flags what was read as \Seen: before the removal, so that it shows in
// the trash as well. It is tried once. What fails is counted and changes nothing
// else.
func (u *update) markSeen(ctx context.Context, box mailbox) {
	if u.seenTried {
		return
	}
	u.seenTried = true
	if u.drop.store.o.Delete == Expunge {
		u.seen = slices.DeleteFunc(u.seen, func(uid uint32) bool {
			_, removed := slices.BinarySearch(u.marked, uid)
			return removed
		})
	}
	if !box.canSee || box.readOnly {
		u.seenFailed(errors.New(`the mailbox does not take the flag \Seen`))
		return
	}
	u.seenFailed(chunks(u.seen, func(set imap2.UIDSet, _ []uint32) error {
		return u.drop.conn.addFlag(ctx, set, imap2.FlagSeen)
	}))
}

// seenFailed reports that marking as seen ended in err, if it did.
func (u *update) seenFailed(err error) {
	if err == nil || len(u.seen) == 0 {
		return
	}
	u.drop.store.o.Trace.seenFailed(len(u.seen))
	u.drop.store.o.Logger.Warn("could not mark messages as seen", "op", "update", "messages", len(u.seen), "err", err)
}
