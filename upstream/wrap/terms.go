package wrap

import (
	"context"

	"github.com/popgate/popgate/upstream"
)

// Terms gives every account of s the terms t, whatever its own are.
func Terms(s upstream.Store, t upstream.Terms) upstream.Store { return &termsStore{s, t} }

type termsStore struct {
	upstream.Store
	terms upstream.Terms
}

func (s *termsStore) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := s.Store.Login(ctx, c)
	if err != nil {
		return nil, err
	}
	return &termsAccount{a, s.terms}, nil
}

type termsAccount struct {
	upstream.Account
	terms upstream.Terms
}

func (a *termsAccount) Terms() upstream.Terms { return a.terms }

func (a *termsAccount) Unwrap() upstream.Account { return a.Account }
