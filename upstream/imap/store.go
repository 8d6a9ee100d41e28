package imap

import (
	"context"
	"fmt"
	"strings"
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
func (s *Store) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	if ctx.Err() == nil {
		if conn := s.pool.take(s.key(c.User), c); conn != nil {
			tellOf(conn.guard, c)
			return &account{store: s, creds: c, conn: conn}, nil
		}
	}
	conn, err := s.connect(ctx, c)
	if err != nil {
		return nil, err
	}
	return &account{store: s, creds: c, conn: conn}, nil
}

// key names the maildrop of a user by server, mailbox and user. Most servers take
// user names in any case of letters, so that two spellings are one maildrop.
func (s *Store) key(user string) string {
	return fmt.Sprintf("imap://%s:%d/%s;%s", s.o.Host, s.o.Port, s.o.Mailbox, strings.ToLower(user))
}

// connect makes an authenticated connection.
func (s *Store) connect(ctx context.Context, creds upstream.Credentials) (*conn, error) {
	start := time.Now()
	d, err := s.dial(ctx, creds)
	s.traceEnd(opConnect, start, err)
	if err != nil {
		return nil, err
	}
	start = time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.CommandTime, fmt.Errorf("no login within %v", s.o.CommandTime))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { d.guard.Abort() })
	err = d.login(creds)
	if !stop() && err != nil {
		err = fail(upstream.Unavailable, opLogin, context.Cause(ctx))
	}
	s.traceEnd(opLogin, start, err)
	if err != nil {
		d.guard.Close()
		return nil, err
	}
	return newConn(s, d, start), nil
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
	creds  upstream.Credentials
	conn   *conn
	drop   *maildrop
	closed atomic.Bool
}

// Key names the maildrop by server, mailbox and user.
func (a *account) Key() string { return a.store.key(a.creds.User) }

// Terms has no wish: who may do what is not the store's business.
func (a *account) Terms() upstream.Terms { return upstream.Terms{} }

// Open examines and lists the mailbox. A connection that has waited and turns out
// to be lost is replaced by a new login, once.
func (a *account) Open(ctx context.Context) (upstream.Maildrop, error) {
	if a.closed.Load() || a.drop != nil {
		return nil, failf(upstream.Internal, "open", "the account is closed or its maildrop open already")
	}
	drop := &maildrop{store: a.store, creds: a.creds}
	drop.use(a.conn)
	err := drop.list(ctx)
	if err != nil && a.conn.untried && ctx.Err() == nil {
		a.conn.close()
		fresh, lost := a.store.connect(ctx, a.creds)
		if lost != nil {
			return nil, lost
		}
		a.conn = fresh
		drop.use(fresh)
		err = drop.list(ctx)
	}
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
