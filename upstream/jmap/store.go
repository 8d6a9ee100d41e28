package jmap

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/popgate/popgate/upstream"
)

// Store is one JMAP service as an upstream.Store. It is safe for concurrent
// use.
type Store struct {
	o       Options
	origin  string                  // of the session resource
	origins map[string]*http.Client // credentials go to these and to no other
	start   *url.URL                // where the session resource is looked for at first

	sessionURL atomic.Pointer[url.URL] // where it was found last
}

// New checks the options. It does not connect.
func New(o Options) (*Store, error) {
	o, u, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, origin: origin(u), origins: map[string]*http.Client{}, start: u}
	for _, more := range o.Origins {
		at, err := parseOrigin(more)
		if err != nil {
			return nil, err
		}
		elsewhere := o
		elsewhere.TLS = o.TLS.Clone()
		elsewhere.TLS.ServerName = "" // its own name
		s.origins[origin(at)] = newHTTP(elsewhere, at)
	}
	s.origins[s.origin] = newHTTP(o, u)
	s.sessionURL.Store(u)
	return s, nil
}

// Close closes the connections that no request uses. It leaves open sessions
// alone.
func (s *Store) Close() error {
	s.closeIdle()
	return nil
}

// bearer reports whether the secret is shown as a token.
func (s *Store) bearer(c upstream.Credentials) bool {
	return s.o.Auth == Bearer || c.Proof == upstream.Bearer
}

// Login reads the session resource with these credentials.
func (s *Store) Login(ctx context.Context, creds upstream.Credentials) (upstream.Account, error) {
	if !s.sendable(creds) {
		return nil, failf(upstream.Refused, opLogin, "no such user or secret can be: it holds what HTTP cannot carry")
	}
	c := newClient(s, creds)
	start := time.Now()
	err := c.fetchSession(ctx)
	s.traceEnd(opLogin, start, err)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // until Close
	return &account{client: c, life: life, end: end}, nil
}

// sendable reports whether HTTP can carry the credentials so that the server reads
// what the client gave: a colon in a user would move the border to the password
// (RFC 7617 section 2), and a token is of visible characters (RFC 6750 section
// 2.1).
func (s *Store) sendable(c upstream.Credentials) bool {
	control := func(r rune) bool { return r < 0x20 || r == 0x7f }
	secret := c.Secret.Reveal()
	if strings.ContainsFunc(c.User, control) || strings.ContainsFunc(secret, control) {
		return false
	}
	if c.Proof == upstream.Shared && secret == "" { // nothing is proved
		return false
	}
	if s.bearer(c) {
		return secret != "" && !strings.ContainsFunc(secret, func(r rune) bool { return r <= 0x20 || r >= 0x7f })
	}
	return !strings.Contains(c.User, ":")
}

// account is a proven user. Nothing is held at the server: close ends what is
// under way.
type account struct {
	client *client
	drop   *maildrop // nil until it is open
	life   context.Context
	end    context.CancelFunc
}

// Key names the maildrop by server, account and mailbox.
func (a *account) Key() string {
	return "jmap+" + a.client.store.origin + "/" + a.client.mailboxName() + ";" + a.client.accountID
}

// Terms has no wish: who may do what is not the store's business.
func (a *account) Terms() upstream.Terms { return upstream.Terms{} }

// Open finds the mailbox and lists it.
func (a *account) Open(ctx context.Context) (upstream.Maildrop, error) {
	if a.life.Err() != nil || a.drop != nil {
		return nil, failf(upstream.Internal, "open", "the account is closed or its maildrop open already")
	}
	drop := &maildrop{client: a.client, life: a.life}
	ctx, cancel := drop.span(ctx)
	defer cancel()
	if err := drop.list(ctx); err != nil {
		return nil, err
	}
	drop.ahead = newAhead(drop)
	a.drop = drop
	return drop, nil
}

// Close ends what is under way. There is nothing to tell the server.
func (a *account) Close() error {
	a.end()
	return nil
}
