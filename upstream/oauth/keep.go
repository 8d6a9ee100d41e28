package oauth

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// keepers is how many accounts are refreshed at a time by [Tokens.Keep].
const keepers = 4

// Summary is the state of all accounts of a grant together.
type Summary struct {
	Accounts   int
	Failing    int       // those of them for which a person must act
	Unreadable int       // files in the folder that cannot be read, beside Accounts
	Oldest     time.Time // the last success of the account that has waited longest; zero: none yet
	Ends       time.Time // the first end of a refresh token; zero: none is known
}

// State is what is known of one account.
type State struct {
	Account    string
	Authorized time.Time // when a person gave the grant; zero for an app-only grant
	Succeeded  time.Time // zero: never
	Ends       time.Time // when the refresh token ends if it is not used; zero: unknown
	Failed     time.Time // zero: a person need not act
	Failure    string
}

// Keep refreshes every account's token at least once in [Options.Every], so that
// none ends because nobody used it, and so that a refusal is known before a user
// meets it. It returns when ctx ends.
func (t *Tokens) Keep(ctx context.Context) {
	pause := min(max(t.o.Every/24, time.Minute), time.Hour)
	timer := time.NewTimer(0)
	defer timer.Stop()
	tried := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		t.round(ctx, tried)
		timer.Reset(pause)
	}
}

// round refreshes what is due and reports. tried is when each account was last
// tried here.
func (t *Tokens) round(ctx context.Context, tried map[string]time.Time) {
	states, bad := t.States()
	for _, err := range bad {
		t.o.Logger.Error("a refresh token cannot be read", "op", op, "grant", t.o.Name, "err", err)
	}
	if t.AppOnly() && len(states) > 1 {
		states = states[:1] // there is no consent to keep alive; one proves the client
	}
	present := map[string]bool{}
	slots := make(chan struct{}, keepers)
	var all sync.WaitGroup
	for _, s := range states {
		present[s.Account] = true
		if ctx.Err() != nil || !t.due(s, tried[s.Account]) {
			continue
		}
		tried[s.Account] = time.Now()
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			t.refreshNow(ctx, s.Account)
		})
	}
	all.Wait()
	for account := range tried {
		if !present[account] {
			delete(tried, account)
		}
	}
	if t.o.Trace.Kept != nil && ctx.Err() == nil {
		t.o.Trace.Kept(summarize(t.States()))
	}
}

// due reports whether an account is to be refreshed: its last success, and the
// last try here, are long ago, or lie in the future.
func (t *Tokens) due(s State, tried time.Time) bool {
	old := func(at time.Time) bool {
		age := time.Since(at)
		return age < 0 || age >= t.o.Every
	}
	if old(s.Succeeded) && s.Failed.IsZero() {
		return true // an issuer that was down is tried again in the next round
	}
	return old(s.Succeeded) && (tried.IsZero() || time.Since(tried) >= t.o.Every)
}

// refreshNow gets a new access token for an account, whatever is left of the old
// one. Failures are logged.
func (t *Tokens) refreshNow(ctx context.Context, account string) {
	e, err := t.entry(account)
	if err != nil {
		return
	}
	e.mu.Lock()
	if e.flight == nil && !time.Now().Before(e.until) {
		e.flight = t.start(ctx, e, true)
	}
	f := e.flight
	e.mu.Unlock()
	if f == nil {
		return
	}
	select {
	case <-f.done:
	case <-ctx.Done():
	}
}

// States lists what is known of every account, in no order: of refresh tokens,
// what their records say, and else what this process has seen. bad tells of files
// that cannot be read.
func (t *Tokens) States() (states []State, bad []error) {
	if t.o.Grant != Refresh {
		return t.appStates(), nil
	}
	names, bad := t.o.Folder.List()
	for _, n := range names {
		if n.Grant != t.o.Name {
			continue
		}
		r, err := t.o.Folder.Read(n)
		switch {
		case err == nil:
			states = append(states, t.state(n.Account, r))
		case !errors.Is(err, fs.ErrNotExist):
			states = append(states, State{Account: n.Account, Failed: time.Now(), Failure: err.Error()})
		}
	}
	return states, bad
}

// state tells what a record says.
func (t *Tokens) state(account string, r tokenfile.Record) State {
	s := State{Account: account, Authorized: r.Authorized, Succeeded: r.Succeeded, Ends: r.Expires, Failed: r.Failed, Failure: r.Failure}
	if idle := r.Succeeded.Add(t.o.Idle); t.o.Idle > 0 && !r.Succeeded.IsZero() && (s.Ends.IsZero() || idle.Before(s.Ends)) {
		s.Ends = idle
	}
	return s
}

// appStates tells what this process has seen of an app-only grant.
func (t *Tokens) appStates() []State {
	accounts := t.o.Mailboxes
	if t.o.Grant == ClientCredentials {
		accounts = []string{""}
	}
	states := make([]State, 0, len(accounts))
	for _, account := range accounts {
		t.mu.Lock()
		e := t.entries[account]
		t.mu.Unlock()
		s := State{Account: account}
		if e != nil {
			e.mu.Lock()
			s.Succeeded = e.issued
			if f, ok := errors.AsType[*failure](e.failure); ok && f.kind() == upstream.Internal {
				s.Failed, s.Failure = e.until.Add(-deadTime), f.text
			}
			e.mu.Unlock()
		}
		states = append(states, s)
	}
	return states
}

func summarize(states []State, bad []error) Summary {
	sum := Summary{Accounts: len(states), Unreadable: len(bad)}
	for _, s := range states {
		if !s.Failed.IsZero() {
			sum.Failing++
		}
		sum.Oldest, sum.Ends = first(sum.Oldest, s.Succeeded), first(sum.Ends, s.Ends)
	}
	return sum
}

// first returns the earlier of two times that are known.
func first(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
