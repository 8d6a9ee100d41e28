package wrap

import (
	"context"
	"errors"

	"github.com/popgate/popgate/upstream"
)

// A Stop is the limit that keeps a proven user from a maildrop. The set is closed.
type Stop string

// The stops.
const (
	ByDelay    Stop = "delay"    // [LoginDelay]
	BySessions Stop = "sessions" // [Sessions]
	ByLock     Stop = "lock"     // [Lock]
	ByMessages Stop = "messages" // the messages of [Limit], or the store's own limit on a mailbox
	ByOctets   Stop = "octets"   // the octets of [Limit]
)

// What the errors of the decorators say was done, where it tells their limits apart.
const (
	opLock     = "lock"
	opSessions = "sessions"
	opCount    = "count messages"
	opSum      = "sum octets"
)

// Stops lists every [Stop].
func Stops() []Stop { return []Stop{ByDelay, BySessions, ByLock, ByMessages, ByOctets} }

// Observe calls stopped for each Open that fails because of a limit of the
// decorators below it or of the store. It changes nothing. stopped is called from
// many goroutines and must not wait.
func Observe(s upstream.Store, stopped func(Stop)) upstream.Store {
	return &observeStore{s, stopped}
}

type observeStore struct {
	upstream.Store
	stopped func(Stop)
}

func (s *observeStore) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := s.Store.Login(ctx, c)
	if err != nil {
		return nil, err
	}
	return &observeAccount{a, s.stopped}, nil
}

type observeAccount struct {
	upstream.Account
	stopped func(Stop)
}

func (a *observeAccount) Open(ctx context.Context) (upstream.Maildrop, error) {
	m, err := a.Account.Open(ctx)
	if by := stopOf(err); by != "" {
		a.stopped(by)
	}
	return m, err
}

// stopOf tells which limit an error of Open is of; "" is none.
func stopOf(err error) Stop {
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		return ""
	}
	switch {
	case e.Kind == upstream.Early:
		return ByDelay
	case e.Kind == upstream.Busy && e.Op == opSessions:
		return BySessions
	case e.Kind == upstream.Busy && e.Op == opLock:
		return ByLock
	case e.Kind == upstream.TooBig && e.Op == opSum:
		return ByOctets
	case e.Kind == upstream.TooBig:
		return ByMessages
	}
	return ""
}
