package imap

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/readahead"
)

// Store is one IMAP service as an upstream.Store. It is safe for concurrent
// use.
type Store struct {
	o    Options
	pool *pool
}

// New checks the options. It does not connect.
func New(o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Store{o, newPool(o.Reuse, o.ReuseMax)}, nil
}

// Close closes the connections that wait for a next session, and lets none wait
// any more. It leaves open sessions alone; it may be called beside them, and more
// than once. It takes as long as to say LOGOUT, a few seconds at most.
func (s *Store) Close() error {
	s.pool.close()
	return nil
}

// Login connects to the server and proves the credentials to it. Under
// Options.Reuse it takes the account's waiting connection where the credentials
// are those that were proved on it: then the server learns of the login when the
// account is opened, and what Login could have ended in, Open may end in.
//
// A mailbox that is not there is found out by Open, and is of kind Internal: a
// client that names one has guessed no password.
func (s *Store) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	id, err := s.identify(c)
	if err != nil {
		return nil, err
	}
	a := &account{store: s, id: id}
	if ctx.Err() == nil {
		if a.conn = s.pool.take(id.account(), c); a.conn != nil {
			tellOf(a.conn.guard, c)
		}
	}
	if a.conn == nil {
		if a.conn, err = id.connect(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.try(ctx, func() error { return id.resolve(ctx, a.conn) }); err != nil {
		a.conn.close()
		return nil, err
	}
	return a, nil
}

func (s *Store) traceEnd(op string, start time.Time, err error) {
	result := "ok"
	if err != nil {
		result = upstream.KindOf(err).String()
	}
	s.o.Trace.request(op, result, time.Since(start))
}

// account is a proven user with an open connection. After Open the maildrop
// owns the connection.
type account struct {
	store  *Store
	id     *identity
	conn   *conn
	drop   *maildrop
	closed atomic.Bool
}

// Key names the maildrop by server, mailbox and user.
func (a *account) Key() string { return a.id.key() }

// Terms has no wish: who may do what is not the store's business.
func (a *account) Terms() upstream.Terms { return upstream.Terms{} }

// try runs f on the connection. One that has waited and turns out to be lost is
// replaced by a new login, once.
func (a *account) try(ctx context.Context, f func() error) error {
	err := f()
	if err == nil || !a.conn.untried || ctx.Err() != nil {
		return err
	}
	a.conn.close()
	fresh, lost := a.id.connect(ctx)
	if lost != nil {
		return lost
	}
	a.conn = fresh
	return f()
}

// Open examines and lists the mailbox.
func (a *account) Open(ctx context.Context) (upstream.Maildrop, error) {
	if a.closed.Load() || a.drop != nil {
		return nil, failf(upstream.Internal, "open", "the account is closed or its maildrop open already")
	}
	drop := &maildrop{store: a.store, id: a.id}
	err := a.try(ctx, func() error {
		drop.use(a.conn)
		return drop.list(ctx)
	})
	if err != nil {
		return nil, err
	}
	drop.window = readahead.NewWindow(a.store.o.ReadAhead, drop.Len())
	a.drop = drop
	life := context.WithoutCancel(ctx) // the NOOPs outlive Open
	drop.mu.Lock()
	defer drop.mu.Unlock()
	drop.timer = time.AfterFunc(a.store.o.KeepAlive, func() { drop.keepAlive(life) })
	return drop, nil
}

// Close says LOGOUT without waiting for an answer, or lets the connection wait for
// the next session. It never sends CLOSE, which would expunge.
func (a *account) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	if a.drop != nil {
		a.drop.close()
		return nil
	}
	a.conn.close()
	return nil
}
