package oauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// Tokens gives out the access tokens of one grant. It is safe for concurrent use.
type Tokens struct {
	o       Options
	client  *http.Client
	slots   chan struct{} // requests to the issuer under way
	gate    gate
	allowed map[string]bool // the mailboxes of an app-only grant

	mu      sync.Mutex
	entries map[string]*entry // by account; "" where one token serves all
	closed  bool
	flights sync.WaitGroup
}

// New checks the options. It reads nothing and asks nobody.
func New(o Options) (*Tokens, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	t := &Tokens{o: o, slots: make(chan struct{}, o.Requests), entries: map[string]*entry{}, allowed: map[string]bool{}}
	t.client = newClient(&t.o)
	for _, m := range o.Mailboxes {
		t.allowed[m] = true
	}
	return t, nil
}

// Name is that of the grant.
func (t *Tokens) Name() string { return t.o.Name }

// AppOnly reports whether the grant opens mailboxes whose users gave no consent.
// What proves the client before [Tokens.Step] is then all that stands between a
// client and the mailboxes of the list.
func (t *Tokens) AppOnly() bool { return t.o.Grant != Refresh }

// Close waits for the requests under way, which end in [Options.Time] or somewhat
// later: a refresh token that was replaced is still written. What is asked after
// that is Unavailable.
func (t *Tokens) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.flights.Wait()
	t.client.CloseIdleConnections()
	return nil
}

// Step replaces the secret of c by an access token for c.User, and sets the
// Renewer. It proves nothing: what c says of its user must have been proved by a
// step before. A client's own bearer token, and a shared secret that proves
// nothing, are refused.
//
// Errors are of type [*upstream.Error]: Unavailable where the issuer or the disk
// may recover, Internal where a person must act.
func (t *Tokens) Step(ctx context.Context, c upstream.Credentials) (upstream.Credentials, error) {
	if c.Proof == upstream.Bearer {
		return c, &upstream.Error{Kind: upstream.Refused, Op: op, Err: errors.New("this account takes a password, and the client sent a token of its own")}
	}
	if c.Proof == upstream.Shared && c.Secret == (upstream.Secret{}) {
		return c, &upstream.Error{Kind: upstream.Refused, Op: op, Err: errors.New("the client has proved nothing")}
	}
	if err := t.allow(c.User); err != nil {
		return c, err
	}
	if c.Authorize != "" {
		if err := t.allow(c.Authorize); err != nil {
			return c, err
		}
	}
	secret, err := t.get(ctx, c.User, nil)
	if err != nil {
		return c, err
	}
	c.Secret, c.Proof, c.Renewer = secret, upstream.Bearer, renewer{t, c.User}
	return c, nil
}

// op is what the errors say was being done.
const op = "token"

// allow refuses mailboxes that an app-only grant is not to open.
func (t *Tokens) allow(mailbox string) error {
	if !t.AppOnly() || t.allowed[mailbox] {
		return nil
	}
	return &upstream.Error{Kind: upstream.Internal, Op: op,
		Err: fmt.Errorf("%q is not among the mailboxes that grant %s may open; add it to the list if it should be", mailbox, t.o.Name)}
}

// renewer is the [upstream.Renewer] of one account.
type renewer struct {
	t       *Tokens
	account string
}

func (r renewer) Renew(ctx context.Context, refused upstream.Secret) (upstream.Secret, error) {
	return r.t.get(ctx, r.account, &refused)
}

// name is what the refresh token of an account is kept under.
func (t *Tokens) name(account string) tokenfile.Name {
	return tokenfile.Name{Grant: t.o.Name, Account: account}
}

// get returns an access token that is not refused, which may be nil.
func (t *Tokens) get(ctx context.Context, account string, refused *upstream.Secret) (upstream.Secret, error) {
	e, err := t.entry(account)
	if err != nil {
		return upstream.Secret{}, t.explain(account, err)
	}
	secret, f := t.look(ctx, e, refused)
	if f == nil {
		return secret, nil
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return upstream.Secret{}, &upstream.Error{Kind: upstream.Unavailable, Op: op, Err: context.Cause(ctx)}
	}
	if f.err != nil {
		return upstream.Secret{}, t.explain(account, f.err)
	}
	return f.secret, nil
}

// entry finds what is known of an account. There are as many as there are files or
// mailboxes in the list.
func (t *Tokens) entry(account string) (*entry, error) {
	key, stamp := account, tokenfile.Stamp{}
	switch t.o.Grant {
	case ClientCredentials:
		key = ""
	case Refresh:
		var err error
		stamp, err = t.o.Folder.Stamp(t.name(account))
		if err != nil {
			t.mu.Lock()
			delete(t.entries, key)
			t.mu.Unlock()
			return nil, missing(err)
		}
	}
	t.mu.Lock()
	e := t.entries[key]
	if e == nil {
		e = &entry{account: key, stamp: stamp}
		t.entries[key] = e
	}
	t.mu.Unlock()
	e.seen(stamp)
	return e, nil
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{outcome: BadGrant, text: "there is no refresh token"}
	}
	return &failure{outcome: BadFile, text: "the refresh token cannot be read", err: err}
}

// explain turns a failure into the error that the engine knows.
func (t *Tokens) explain(account string, err error) error {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return &upstream.Error{Kind: upstream.Unavailable, Op: op, Err: err}
	}
	who, cure := fmt.Sprintf("grant %s, account %q", t.o.Name, account), ""
	switch {
	case f.outcome == BadGrant && t.o.Grant == Refresh:
		cure = fmt.Sprintf("; run `popgate oauth login %s`", quoted(account))
	case f.outcome == BadGrant:
		cure = "; an administrator must let the client open this mailbox"
	case f.outcome == BadClient:
		cure = "; compare the client id, its secret or certificate, the tenant and the scopes with what the issuer knows"
	}
	return &upstream.Error{Kind: f.kind(), Op: op, Err: fmt.Errorf("%s: %w%s", who, f, cure)}
}

// quoted makes an account a word for a shell.
func quoted(account string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || slices.Contains([]rune("@.+-_"), r)
	}
	if account != "" && account[0] != '-' && !strings.ContainsFunc(account, func(r rune) bool { return !plain(r) }) {
		return account
	}
	return "'" + strings.ReplaceAll(account, "'", `'\''`) + "'"
}

// start begins to get a token for e, unless it is the end. alone says that nobody
// waits for it, who would report a failure.
func (t *Tokens) start(ctx context.Context, e *entry, alone bool) *flight {
	f := &flight{done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		f.err = &failure{outcome: Down, text: "popgate is about to end"}
		close(f.done)
		return f
	}
	t.flights.Go(func() {
		// Whoever asked may hang up: the answer may hold a new refresh token all
		// the same, and others wait for it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.o.Time)
		defer cancel()
		began := time.Now()
		got, err := t.fetch(ctx, e)
		if err != nil && alone {
			t.o.Logger.Warn("no access token", "op", op, "grant", t.o.Name, "account", e.account, "err", t.explain(e.account, err))
		}
		t.observe(err, time.Since(began))
		e.land(f, got, err, t.o.Early)
	})
	return f
}

// observe reports what came of a try.
func (t *Tokens) observe(err error, took time.Duration) {
	outcome := Issued
	if err != nil {
		outcome = Down
		if f, ok := errors.AsType[*failure](err); ok {
			outcome = f.outcome
		}
	}
	if t.o.Trace.Requested != nil {
		t.o.Trace.Requested(outcome, took)
	}
}
