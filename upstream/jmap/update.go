package jmap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/popgate/popgate/upstream"
)

// tries is how often a removal is tried: the account may change between the look
// and the removal, and an answer may be lost.
const tries = 5

// What a change of one Email takes of a request, in octets, and how many go into
// one Email/set where the server allows as many.
const (
	changeOctets = 2 << 10
	setSize      = 500
)

// Update looks which of the marked messages are there, removes them as the policy
// says, and looks again. What it finds in the end is the receipt: neither what
// Email/set confirms counts, nor what it refuses. Each step may be repeated.
func (m *maildrop) Update(ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
	if err := m.idle("update"); err != nil {
		return upstream.Receipt{Kept: len(ch.Remove)}, err
	}
	ctx, cancel := m.span(ctx)
	defer cancel()
	m.ahead.halt()
	u := &update{drop: m, at: ch.Remove, marked: m.idsAt(ch.Remove)}
	u.markSeen(ctx, ch)
	if len(u.marked) == 0 {
		return upstream.Receipt{}, nil // a failure to mark as seen is no failure
	}
	err := u.run(ctx)
	r := u.receipt()
	if err == nil {
		return r, nil
	}
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		e = fail(upstream.Unavailable, "update", err)
	}
	return r, &upstream.Error{Kind: e.Kind, Op: "update", Sent: u.sent, Err: err}
}

// update is one UPDATE.
type update struct {
	drop   *maildrop
	at     []int    // indexes of marked
	marked []string // ids to be removed

	looked bool // found is known
	found  int  // how many of marked were there at first
	left   int  // how many the last look found
	sent   bool // a request that changes the mailbox may have arrived
}

// receipt counts what is not proved to be gone as kept.
func (u *update) receipt() upstream.Receipt {
	if !u.looked {
		return upstream.Receipt{Kept: len(u.marked)}
	}
	return upstream.Receipt{Removed: u.found - u.left, Missing: len(u.marked) - u.found, Kept: u.left}
}

// run looks and removes in turns, until nothing is left or trying again is of no
// use.
func (u *update) run(ctx context.Context) error {
	var failed error
	for try := 0; ; try++ {
		there, boxes, state, err := u.look(ctx)
		if err != nil {
			return errors.Join(failed, err)
		}
		if !u.looked {
			u.looked, u.found = true, len(there)
		}
		u.left = len(there)
		switch {
		case len(there) == 0:
			return nil
		case failed != nil && !again(failed) || try == tries:
			return failed
		}
		remove, err := u.policy(boxes)
		if err != nil {
			return err
		}
		if failed = u.removeAll(ctx, remove, there, state); failed == nil {
			failed = errors.New("the server confirmed the removal of messages that are still there")
		}
	}
}

// again reports whether what failed may succeed after another look: an Email that
// changed meanwhile, an answer that was lost, a removal that was confirmed and not
// done.
func again(err error) bool {
	_, known := errors.AsType[*upstream.Error](err)
	return !known || errors.Is(err, errLost) || is(err, "stateMismatch") || is(err, "notFound") || is(err, "invalidProperties")
}

// look returns which of the marked messages are in the mailbox still, the
// mailboxes of the account, and its state.
func (u *update) look(ctx context.Context) (there []email, boxes mailboxes, state string, err error) {
	m := u.drop
	o := &m.client.store.o
	size := m.client.limits.perCall(pageSize, m.client.limits.Get, maxID+8)
	at := u.at
	for part := range slices.Chunk(u.marked, size) {
		var got emails
		calls := []call{getCall(part, &got, "id", "size", "mailboxIds", "keywords")}
		limit := answerLimit(len(part))
		if state == "" {
			calls = append(calls, boxes.call())
			limit += maxMailboxes
		}
		err := m.client.do(ctx, opLook, limit, calls...)
		if err == nil {
			err = got.complete(part)
		}
		if err == nil && got.State == "" {
			err = failf(upstream.Unavailable, opLook, "the server does not tell the state of the account")
		}
		if err == nil && state == "" {
			err = m.same(boxes)
		}
		if err != nil {
			return nil, boxes, "", err
		}
		if state == "" { // that of the first part: if it changed since, ifInState fails
			state = got.State
		}
		octets := make(map[string]int64, len(part))
		for k, id := range part {
			octets[id] = m.Size(at[k])
		}
		at = at[len(part):]
		for _, e := range got.List {
			if e.Size != octets[e.ID] {
				return nil, boxes, "", failf(upstream.Changed, opLook, "message %q had %d octets and has %d", e.ID, octets[e.ID], e.Size)
			}
			if e.Mailboxes[m.mailbox] && !(o.Delete == Hide && e.Keywords[HiddenKeyword]) {
				there = append(there, e)
			}
		}
	}
	return there, boxes, state, nil
}

// same checks that the mailbox that was listed is the one that is served.
func (m *maildrop) same(boxes mailboxes) error {
	box, err := boxes.served(m.client.mailboxName())
	if err != nil {
		return fail(upstream.Changed, opMailboxes, err)
	}
	if box.ID != m.mailbox {
		return failf(upstream.Changed, opMailboxes, "the mailbox was %q and is %q: it is another one", m.mailbox, box.ID)
	}
	return nil
}

// A removal says what Email/set is to do with an Email: patch it, or, where the
// patch is nil, destroy it.
type removal func(email) map[string]any

// policy finds out how messages are removed, before anything is changed.
func (u *update) policy(boxes mailboxes) (removal, error) {
	m := u.drop
	o := &m.client.store.o
	box, err := boxes.served(m.client.mailboxName())
	if err != nil {
		return nil, err
	}
	path := "mailboxIds/" + pointer(m.mailbox)
	switch {
	case m.client.readOnly:
		return nil, failf(upstream.Internal, opMailboxes, "the account is read-only")
	case o.Delete == Hide && box.Rights != nil && !box.Rights.Keywords:
		return nil, failf(upstream.Internal, opMailboxes, "the mailbox does not take the keyword %s", HiddenKeyword)
	case o.Delete == Hide:
		return func(email) map[string]any { return map[string]any{"keywords/" + HiddenKeyword: true} }, nil
	case box.Rights != nil && !box.Rights.Remove:
		return nil, failf(upstream.Internal, opMailboxes, "nothing may be removed from the mailbox")
	case o.Delete == Expunge:
		return func(e email) map[string]any {
			if len(e.Mailboxes) == 1 {
				return nil
			}
			return map[string]any{path: nil}
		}, nil
	}
	trash, err := boxes.trash(o)
	switch {
	case err != nil:
		return nil, err
	case trash.ID == m.mailbox:
		return nil, failf(upstream.Internal, opMailboxes, "the trash mailbox %q is the mailbox itself", trash.Name)
	case trash.Rights != nil && !trash.Rights.Add:
		return nil, failf(upstream.Internal, opMailboxes, "nothing may be put into the trash mailbox %q", trash.Name)
	}
	return func(email) map[string]any {
		return map[string]any{path: nil, "mailboxIds/" + pointer(trash.ID): true}
	}, nil
}

// removeAll removes what is there. Where Emails are destroyed, each request holds
// only in the state that the look saw: an Email that came into another mailbox
// meanwhile must not go with this one.
func (u *update) removeAll(ctx context.Context, remove removal, there []email, state string) error {
	for part := range slices.Chunk(there, u.drop.setSize()) {
		changes := map[string]map[string]any{}
		var destroy []string
		for _, e := range part {
			if patch := remove(e); patch != nil {
				changes[e.ID] = patch
			} else {
				destroy = append(destroy, e.ID)
			}
		}
		u.sent = true
		since := ""
		if len(destroy) > 0 {
			since = state
		}
		done, err := u.drop.set(ctx, since, changes, destroy)
		if err != nil {
			return err
		}
		state = done.NewState
		if err := done.failed(changes, destroy); err != nil {
			return err
		}
	}
	return nil
}

func (m *maildrop) setSize() int {
	return m.client.limits.perCall(setSize, m.client.limits.Set, changeOctets)
}

// setAnswer is the answer to Email/set (RFC 8620 section 5.3).
type setAnswer struct {
	NewState     string                     `json:"newState"`
	Updated      map[string]json.RawMessage `json:"updated"`
	Destroyed    []string                   `json:"destroyed"`
	NotUpdated   map[string]*problem        `json:"notUpdated"`
	NotDestroyed map[string]*problem        `json:"notDestroyed"`
}

// set changes and destroys Emails, if the account is in the state since, which
// may be "" for any.
func (m *maildrop) set(ctx context.Context, since string, changes map[string]map[string]any, destroy []string) (setAnswer, error) {
	var out setAnswer
	args := map[string]any{}
	if since != "" {
		args["ifInState"] = since
	}
	if len(changes) > 0 {
		args["update"] = changes
	}
	if len(destroy) > 0 {
		args["destroy"] = destroy
	}
	err := m.client.do(ctx, opStore, answerLimit(len(changes)+len(destroy)), call{"Email/set", args, &out})
	return out, err
}

// failed is why some of the Emails were not changed; nil if the server says of
// each that it was. What is worth another try counts only where nothing else
// failed.
func (s *setAnswer) failed(changes map[string]map[string]any, destroy []string) error {
	destroyed := make(map[string]bool, len(s.Destroyed))
	for _, id := range s.Destroyed {
		destroyed[id] = true
	}
	var worst error
	count := 0
	note := func(p *problem) {
		if p == nil {
			p = &problem{Type: "serverPartialFail", Description: "the server does not say what became of it"}
		}
		count++
		if err := failf(p.kind(), opStore, "%w", p); worst == nil || again(worst) && !again(err) {
			worst = err
		}
	}
	for id := range changes {
		if _, ok := s.Updated[id]; !ok {
			note(s.NotUpdated[id])
		}
	}
	for _, id := range destroy {
		if !destroyed[id] {
			note(s.NotDestroyed[id])
		}
	}
	if worst != nil {
		return fmt.Errorf("%d of %d messages: %w", count, len(changes)+len(destroy), worst)
	}
	return nil
}

// markSeen marks what was read: before the removal, so that it shows in the trash
// as well. It is tried once. What fails is counted and changes nothing else; what
// is gone does not count.
func (u *update) markSeen(ctx context.Context, ch upstream.Changes) {
	m := u.drop
	o := &m.client.store.o
	at := ch.Seen
	if o.Delete == Expunge {
		at = slices.DeleteFunc(slices.Clone(at), func(i int) bool {
			_, removed := slices.BinarySearch(ch.Remove, i)
			return removed
		})
	}
	for part := range slices.Chunk(at, m.setSize()) {
		changes := make(map[string]map[string]any, len(part))
		for _, id := range m.idsAt(part) {
			changes[id] = map[string]any{"keywords/$seen": true}
		}
		done, err := m.set(ctx, "", changes, nil)
		failed := len(part)
		if err == nil {
			failed = 0
			for id := range changes {
				if _, ok := done.Updated[id]; !ok && (done.NotUpdated[id] == nil || done.NotUpdated[id].Type != "notFound") {
					failed++
					err = done.failed(changes, nil)
				}
			}
		}
		if failed > 0 {
			o.Trace.seenFailed(failed)
			o.Logger.Warn("could not mark messages as seen", "op", "update", "messages", failed, "err", err)
		}
	}
}
