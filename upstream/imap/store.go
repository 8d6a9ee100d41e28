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
type Store struct{ o Options }

// New checks the options. It does not connect.
func New(o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Store{o}, nil
}

// Login connects to the server and proves the credentials to it.
func (s *Store) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	conn, err := s.connect(ctx, c)
	if err != nil {
		return nil, err
	}
	return &account{store: s, creds: c, conn: conn}, nil
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
	return newConn(s, d), nil
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

// Key names the maildrop by server, mailbox and user. Most servers take user
// names in any case of letters, so that two spellings are one maildrop.
func (a *account) Key() string {
	o := &a.store.o
	return fmt.Sprintf("imap://%s:%d/%s;%s", o.Host, o.Port, o.Mailbox, strings.ToLower(a.creds.User))
}

// Open examines and lists the mailbox.
func (a *account) Open(ctx context.Context) (upstream.Maildrop, error) {
	if a.closed.Load() || a.drop != nil {
		return nil, failf(upstream.Internal, "open", "the account is closed or its maildrop open already")
	}
	drop := &maildrop{store: a.store, creds: a.creds}
	drop.use(a.conn)
	if err := drop.list(ctx); err != nil {
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

// Close says LOGOUT without waiting for an answer. It never sends CLOSE, which
// would expunge.
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
