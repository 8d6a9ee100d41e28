package memdrop

import (
	"context"

	"github.com/popgate/popgate/upstream"
)

// Faults are hooks that make a store misbehave. A nil hook does nothing. Each
// runs before the call does its work and without a lock, so that it may deliver,
// expunge, or wait until its context ends: the context ends with the caller's
// and with the account's Close. An error that a hook returns is what the caller
// gets, as it is; let it be an [*upstream.Error].
type Faults struct {
	Login    func(ctx context.Context, c upstream.Credentials) error
	Open     func(ctx context.Context, user string) error
	Retrieve func(ctx context.Context, user, id string) error

	// Body returns where the body of a message ends too early; nil: nowhere.
	Body func(user, id string) *Cut

	// Octets returns what Body.Octets announces, -1 for nothing; n is the true
	// count.
	Octets func(user, id string, n int64) int64

	// Update returns which of the messages to remove stay (they are Kept in the
	// receipt), and the error to give beside the receipt. The others are removed.
	Update func(ctx context.Context, user string, remove []string) (keep []string, err error)
}

// A Cut ends a body too early.
type Cut struct {
	After int64 // octets that are given first; the length of the body or more: all, but no io.EOF
	Err   error // what Read returns then; nil: it waits until the context ends or the account is closed
}

// SetFaults replaces the hooks, for calls that start from now on.
func (s *Store) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

func (s *Store) hooks() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}
