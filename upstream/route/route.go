package route

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/popgate/popgate/upstream"
)

// A Step takes the credentials of a login one step further on the way to a mail
// service. Every error is an [*upstream.Error]: of kind Refused only if the
// client's credentials are the cause, of kind Unavailable if waiting may cure it,
// of kind Internal if a person must act. A Step is safe for concurrent use.
type Step func(ctx context.Context, c upstream.Credentials) (upstream.Credentials, error)

// A Route says which logins it takes, and what becomes of them.
type Route struct {
	Name    string // for logs and metrics; unique in its table
	Match   Match
	Folders Folders

	// ClientAuthorize lets a client name the user whose maildrop it wants (RFC
	// 4616 section 2). The mail service decides whether it may: such a route has
	// neither Prove nor Steps, whose credentials may open every maildrop.
	ClientAuthorize bool

	// Prove proves the client by the name that it sent, a folder aside. Where it
	// is nil, the mail service does.
	Prove Step
	// User, Authorize and Mailbox replace the fields of the same name.
	User, Authorize, Mailbox Template
	// Steps put other credentials in place, in this order. With any the mail
	// service no longer sees what the client gave, and there must be a Prove.
	Steps []Step

	Store upstream.Store
}

// login takes a login along the route.
func (r *rule) login(ctx context.Context, c upstream.Credentials, w way) (upstream.Account, error) {
	c, err := r.clientsWish(c, w)
	if err != nil {
		return nil, err
	}
	given := c.Secret
	if r.Prove != nil {
		if c, err = r.Prove(ctx, c); err != nil {
			return nil, err
		}
	}
	if c, err = r.rewrite(c, w); err != nil {
		return nil, err
	}
	for _, step := range r.Steps {
		if c, err = step(ctx, c); err != nil {
			return nil, err
		}
	}
	return logIn(ctx, r.Store, c, given)
}

// logIn logs in at a store. Where it refuses another secret than the client gave,
// the client was right: it guesses nothing, and can cure nothing.
func logIn(ctx context.Context, s upstream.Store, c upstream.Credentials, given upstream.Secret) (upstream.Account, error) {
	a, err := s.Login(ctx, c)
	if err != nil && c.Secret != given && upstream.KindOf(err) == upstream.Refused {
		err = &upstream.Error{Kind: upstream.Internal, Op: "login", Err: fmt.Errorf("the mail service refuses the route's own credentials: %w", err)}
	}
	return a, err
}

// clientsWish takes the folder from the user, and an authorization identity only
// where the route allows one.
func (r *rule) clientsWish(c upstream.Credentials, w way) (upstream.Credentials, error) {
	c.User = w.user
	switch {
	case c.Authorize == "" || c.Authorize == c.User:
		c.Authorize = ""
	case !r.ClientAuthorize:
		return c, refused("the route allows no authorization identity")
	}
	return c, nil
}

// rewrite fills the templates.
func (r *rule) rewrite(c upstream.Credentials, w way) (upstream.Credentials, error) {
	v := r.values(w)
	if !r.User.Empty() {
		c.User = r.User.fill(v)
	}
	if !r.Authorize.Empty() {
		c.Authorize = r.Authorize.fill(v)
	}
	switch {
	case w.folder == "" && r.Mailbox.names(fieldFolder): // the store's own
	case !r.Mailbox.Empty():
		c.Mailbox = r.Mailbox.fill(v)
	case w.folder != "":
		c.Mailbox = w.folder
	}
	switch {
	case c.User == "":
		return c, refused("the route makes an empty user of it")
	case !r.Authorize.Empty() && c.Authorize == "":
		return c, refused("the route makes an empty authorization identity of it")
	}
	return c, nil
}

func refused(why string) error {
	return &upstream.Error{Kind: upstream.Refused, Op: "route", Err: errors.New(why)}
}

// Trace is told what goes on. Its function may be nil, and must be safe for
// concurrent use.
type Trace struct {
	// Login ends a login. Route is [NoRoute] where no route took it; result is
	// "ok" or the text of an upstream.Kind.
	Login func(route, result string)
}

// NoRoute stands for the name of a route where none took a login. No route has
// this name.
const NoRoute = "none"

// Store is a table as an upstream.Store. It is safe for concurrent use.
type Store struct {
	table atomic.Pointer[Table]
	trace Trace
}

// New makes a store that begins with t.
func New(t *Table, trace Trace) *Store {
	s := &Store{trace: trace}
	s.table.Store(t)
	return s
}

// Swap replaces the table for logins that begin from now on.
func (s *Store) Swap(t *Table) { s.table.Store(t) }

// Account names whom a login proves itself to be, so that all the ways of writing
// one user are one: guesses are counted by it.
func (s *Store) Account(c upstream.Credentials) string {
	r, w := s.table.Load().pick(c)
	if r == nil {
		return c.User
	}
	c.User = w.user
	if r.Prove == nil {
		c, _ = r.rewrite(c, w)
	}
	return c.User
}

// Login takes c along the first route that matches. Its errors name the route.
func (s *Store) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	name := NoRoute
	var a upstream.Account
	err := refused("no route takes this login")
	if r, w := s.table.Load().pick(c); r != nil {
		name = r.Name
		a, err = r.login(ctx, c, w)
	}
	result := "ok"
	if err != nil {
		result = upstream.KindOf(err).String()
	}
	if s.trace.Login != nil {
		s.trace.Login(name, result)
	}
	if err != nil {
		return nil, named(name, err)
	}
	return a, nil
}

// named is err with the name of its route.
func named(route string, err error) error {
	out := &upstream.Error{Kind: upstream.KindOf(err), Op: "route " + route, Err: err}
	if inner, ok := errors.AsType[*upstream.Error](err); ok {
		out.Sent = inner.Sent
	}
	return out
}
