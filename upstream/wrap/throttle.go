package wrap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/popgate/popgate/upstream"
)

// ThrottleOptions are the settings of [Throttle]. The zero value is ready for
// use.
type ThrottleOptions struct {
	Guesses int           // wrong passwords in a row from one address, or for one account; 20
	Regain  time.Duration // for one of them to be allowed again; 20 s
	Delay   time.Duration // from a refused login to its reply; 3 s, negative: none
	Known   time.Duration // for which a success is remembered; 30 days

	// Account names the account that a login is for, where users can be written in
	// more than one way; nil: its user as it stands.
	Account func(upstream.Credentials) string

	// Exempt are networks whose clients nobody else's guesses shut out: many
	// clients of good will behind one address. Each account is still limited
	// for each of their addresses.
	Exempt []netip.Prefix
	// CountLoopback treats loopback addresses as any others, not as exempt.
	CountLoopback bool

	// Entries is the most names remembered for each [Bound]; 32,768. It should
	// be well over the logins that can be under way. A name takes about 200
	// octets.
	Entries int
	Trace   ThrottleTrace
}

// ThrottleTrace tells what the throttle does. Nil functions are not called; they
// are called from many goroutines.
type ThrottleTrace struct {
	// Throttled is called for each login that was refused without asking the
	// store.
	Throttled func(by Bound)
}

// Throttle limits how many passwords can be tried: from one address, from the
// networks around it, and for one account. Under each bound Guesses wrong
// passwords are allowed at once and one more in each Regain, so that in any time
// t at most Guesses + t/Regain reach the store. Only an error of kind Refused is
// a wrong password; what fails for any other reason is not counted. Logins under
// way count as wrong until their outcome is known: where they alone fill a bound,
// others wait for them, in the order of arrival.
//
// A login that the client abandons (its context is cancelled) counts as wrong
// too, or hanging up would make guessing free; not while the store is failing, as
// far as the last answer tells, since that is why clients hang up then.
//
// A success makes the pair of account and address known. From then on it is
// counted by itself alone: neither guesses at the account from elsewhere nor those
// of others behind the same address shut it out. A success takes nothing back from
// any count, so that who has one account buys no guesses at others with it.
//
// A limited login is an error of kind Refused, as a wrong password is: the same
// words at the same time, the right password or not. A guesser who could tell the
// two apart would know which guesses to repeat from elsewhere. The price is that
// an owner who is not known and comes while his account is under attack is told
// that his password is wrong, where [SYS/TEMP] would tell his program to wait.
//
// Every refusal comes at a multiple of Delay after the login began, so that its
// time does not tell an unknown user from a wrong password. A store that takes
// longer than Delay to refuse is given the next multiple, and limited logins as
// many as the last refusal of the store. Successes and failures of other kinds are
// not held back.
//
// What is remembered is bounded by Entries. When a memory is full the one that
// would be forgotten first is forgotten: who has tried once goes before who has
// tried often. To make it forget a guesser at the limit, Entries others must have
// tried as often, which takes Entries times Guesses logins, limited by network and
// account as any. The known pair whose last success is longest ago goes first.
func Throttle(s upstream.Store, o ThrottleOptions) upstream.Store {
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{{&o.Regain, 20 * time.Second}, {&o.Delay, 3 * time.Second}, {&o.Known, 30 * 24 * time.Hour}} {
		if *d.field == 0 {
			*d.field = d.standard
		}
	}
	if o.Guesses <= 0 {
		o.Guesses = 20
	}
	if o.Entries <= 0 {
		o.Entries = 1 << 15
	}
	if o.Account == nil {
		o.Account = func(c upstream.Credentials) string { return c.User }
	}
	return &throttleStore{Store: s, options: o, guesses: newGuesses(o)}
}

type throttleStore struct {
	upstream.Store
	options ThrottleOptions
	guesses *guesses

	failing atomic.Bool  // the store's last answer was neither yes nor no
	steps   atomic.Int64 // the multiple of Delay of its last refusal
}

func (s *throttleStore) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	began := time.Now()
	claim, limit, err := s.guesses.claim(ctx, c)
	switch {
	case err != nil:
		return nil, &upstream.Error{Kind: upstream.Unavailable, Op: "throttle", Err: err}
	case limit != "":
		if f := s.options.Trace.Throttled; f != nil {
			f(limit)
		}
		s.hold(ctx, began, s.steps.Load())
		return nil, &upstream.Error{Kind: upstream.Refused, Op: "throttle", Err: fmt.Errorf("too many wrong passwords by %s; the mail service was not asked", limit)}
	}
	a, err := s.ask(ctx, c, claim)
	if err != nil && upstream.KindOf(err) == upstream.Refused {
		s.steps.Store(s.hold(ctx, began, 0))
	}
	return a, err
}

// ask passes the login on and settles the claim.
func (s *throttleStore) ask(ctx context.Context, c upstream.Credentials, claim *claim) (a upstream.Account, err error) {
	wrong, success := false, false
	defer func() { claim.settle(wrong, success) }() // by return or panic
	a, err = s.Store.Login(ctx, c)
	switch {
	case err == nil:
		success = true
		s.failing.Store(false)
	case upstream.KindOf(err) == upstream.Refused:
		wrong = true
		s.failing.Store(false)
	case errors.Is(ctx.Err(), context.Canceled):
		wrong = !s.failing.Load()
	default:
		s.failing.Store(true)
	}
	return a, err
}

// hold waits for the next multiple of Delay since began, the least-th at the
// earliest, or for the end of ctx. It returns the multiple.
func (s *throttleStore) hold(ctx context.Context, began time.Time, least int64) int64 {
	delay := s.options.Delay
	if delay < 0 {
		return 0
	}
	steps := max(1, least, int64((time.Since(began)+delay-1)/delay))
	timer := time.NewTimer(time.Until(began.Add(time.Duration(steps) * delay)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return steps
}
