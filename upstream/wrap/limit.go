package wrap

import (
	"context"
	"fmt"
	"math"

	"github.com/popgate/popgate/upstream"
)

// LimitOptions are the settings of [Limit].
type LimitOptions struct {
	Messages int   // the most messages of a maildrop; 0: no limit
	Octets   int64 // the most octets of all its messages together; 0: no limit
}

// Limit makes Open fail with an error of kind TooBig for a maildrop over a
// limit. It never shows a part of one: a client would take the rest for
// removed. The account is the caller's to close, as after every failed Open.
func Limit(s upstream.Store, o LimitOptions) upstream.Store { return &limitStore{s, o} }

type limitStore struct {
	upstream.Store
	options LimitOptions
}

func (s *limitStore) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := s.Store.Login(ctx, c)
	if err != nil {
		return nil, err
	}
	return &limitAccount{a, s.options}, nil
}

type limitAccount struct {
	upstream.Account
	options LimitOptions
}

func (a *limitAccount) Unwrap() upstream.Account { return a.Account }

func (a *limitAccount) Open(ctx context.Context) (upstream.Maildrop, error) {
	m, err := a.Account.Open(ctx)
	if err != nil {
		return nil, err
	}
	if op, err := a.options.check(m); err != nil {
		return nil, &upstream.Error{Kind: upstream.TooBig, Op: op, Err: err}
	}
	return m, nil
}

func (o LimitOptions) check(s upstream.Snapshot) (op string, err error) {
	if n := s.Len(); o.Messages > 0 && n > o.Messages {
		return opCount, fmt.Errorf("the maildrop has %d messages, the limit is %d", n, o.Messages)
	}
	if o.Octets <= 0 {
		return "", nil
	}
	sum := int64(0)
	for i := range s.Len() {
		size := s.Size(i)
		if size > math.MaxInt64-sum {
			size = math.MaxInt64 - sum
		}
		if sum += size; sum > o.Octets {
			return opSum, fmt.Errorf("the maildrop has more octets than the limit of %d", o.Octets)
		}
	}
	return "", nil
}
