package memdrop

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/popgate/popgate/upstream"
)

var errClosed = errors.New("the account is closed")

func fail(op string, kind upstream.Kind, err error) error {
	return &upstream.Error{Kind: kind, Op: op, Err: err}
}

// Login proves c. Its errors are of kind Refused for a wrong user or password,
// and Unavailable when ctx ends.
func (s *Store) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	s.mu.Lock()
	s.calls.Login++
	hook := s.faults.Login
	s.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fail("login", upstream.Unavailable, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[c.User]
	if u == nil || subtle.ConstantTimeCompare([]byte(u.password), []byte(c.Secret.Reveal())) == 0 {
		return nil, fail("login", upstream.Refused, errors.New("wrong user or password"))
	}
	s.accounts++
	a := &account{store: s, user: u, terms: s.terms}
	a.life, a.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return a, nil
}

type account struct {
	store  *Store
	user   *user
	terms  upstream.Terms
	life   context.Context // ends with Close
	end    context.CancelCauseFunc
	closed atomic.Bool
	opened bool
}

func (a *account) Key() string { return a.user.name }

func (a *account) Terms() upstream.Terms { return a.terms }

func (a *account) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	a.end(errClosed)
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	a.store.accounts--
	a.store.calls.Close++
	return nil
}

// join returns a context that ends with ctx or with the account.
func (a *account) join(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(a.life, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// ended returns why nothing can be done any more, nil while it can.
func (a *account) ended(ctx context.Context, op string) error {
	if a.closed.Load() {
		return fail(op, upstream.Unavailable, errClosed)
	}
	if ctx.Err() != nil {
		return fail(op, upstream.Unavailable, context.Cause(ctx))
	}
	return nil
}

func (a *account) Open(ctx context.Context) (upstream.Maildrop, error) {
	a.store.mu.Lock()
	a.store.calls.Open++
	hook := a.store.faults.Open
	a.store.mu.Unlock()
	if a.opened {
		return nil, fail("open", upstream.Internal, errors.New("opened twice"))
	}
	a.opened = true
	ctx, cancel := a.join(ctx)
	defer cancel()
	if hook != nil {
		if err := hook(ctx, a.user.name); err != nil {
			return nil, err
		}
	}
	if err := a.ended(ctx, "open"); err != nil {
		return nil, err
	}
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	return &maildrop{account: a, list: a.user.messages}, nil
}

// maildrop is one session's view: list is shared with the user and never
// changed in place.
type maildrop struct {
	account *account
	list    []*message
	body    *body // the open one
	updated bool
}

func (m *maildrop) Len() int { return len(m.list) }

func (m *maildrop) Size(i int) int64 {
	if msg := m.list[i]; msg.Message.Size != 0 {
		return msg.Message.Size
	}
	return int64(len(m.list[i].Body))
}

func (m *maildrop) AppendUIDL(dst []byte, i int) []byte { return append(dst, m.list[i].ID...) }

func (m *maildrop) Update(ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
	s, u := m.account.store, m.account.user
	s.mu.Lock()
	s.calls.Update++
	hook := s.faults.Update
	s.mu.Unlock()

	none := upstream.Receipt{Kept: len(ch.Remove)}
	if err := m.checkUpdate(ch); err != nil {
		return none, fail("update", upstream.Internal, err)
	}
	m.updated = true
	ctx, cancel := m.account.join(ctx)
	defer cancel()
	keep := map[string]bool{}
	var hookErr error
	if hook != nil {
		var remove []string
		for _, i := range ch.Remove {
			remove = append(remove, m.list[i].ID)
		}
		var ids []string
		ids, hookErr = hook(ctx, u.name, remove)
		for _, id := range ids {
			keep[id] = true
		}
	}
	if err := m.account.ended(ctx, "update"); err != nil {
		return none, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	var r upstream.Receipt
	remove := map[*message]bool{}
	for _, i := range ch.Remove {
		switch msg := m.list[i]; {
		case msg.gone:
			r.Missing++
		case keep[msg.ID]:
			r.Kept++
		default:
			r.Removed++
			remove[msg] = true
		}
	}
	u.expunge(func(msg *message) bool { return remove[msg] })
	for _, i := range ch.Seen {
		u.seen[m.list[i].ID] = true
	}
	return r, hookErr
}

// checkUpdate holds the caller to its side of the hinge.
func (m *maildrop) checkUpdate(ch upstream.Changes) error {
	if m.updated {
		return errors.New("updated twice")
	}
	if m.body != nil {
		return errors.New("a body is open")
	}
	for _, list := range [][]int{ch.Remove, ch.Seen} {
		last := -1
		for _, i := range list {
			if i <= last || i >= len(m.list) {
				return fmt.Errorf("index %d behind %d of %d messages", i, last, len(m.list))
			}
			last = i
		}
	}
	return nil
}
