package wrap

import (
	"context"
	"fmt"
	"sync"

	"github.com/popgate/popgate/upstream"
)

// Sessions limits how many logins one account may have under way or open at a
// time, from the proof to Close, each of which takes a connection to the mail
// service. It holds beside the lock, whose waiters it bounds, and without one. An
// Open over the limit fails at once with an error of kind Busy. It is after the
// proof, by Account.Key: before it, a guesser could keep the owner out.
func Sessions(s upstream.Store, most int) upstream.Store {
	return &sessionsStore{Store: s, most: most, open: map[string]int{}}
}

type sessionsStore struct {
	upstream.Store
	most int

	mu   sync.Mutex
	open map[string]int // accounts that are not closed, by key; 1 or more
}

func (s *sessionsStore) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := s.Store.Login(ctx, c)
	if err != nil {
		return nil, err
	}
	key := a.Key()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key] >= s.most {
		return &sessionsAccount{Account: a, over: true, most: s.most, free: func() {}}, nil
	}
	s.open[key]++
	return &sessionsAccount{Account: a, free: sync.OnceFunc(func() { s.free(key) })}, nil
}

func (s *sessionsStore) free(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key]--; s.open[key] == 0 {
		delete(s.open, key)
	}
}

type sessionsAccount struct {
	upstream.Account
	over bool // it came when most were open; it is not counted
	most int
	free func() // once
}

func (a *sessionsAccount) Open(ctx context.Context) (upstream.Maildrop, error) {
	if a.over {
		return nil, &upstream.Error{Kind: upstream.Busy, Op: opSessions, Err: fmt.Errorf("the account has %d sessions already", a.most)}
	}
	return a.Account.Open(ctx)
}

func (a *sessionsAccount) Close() error {
	a.free()
	return a.Account.Close()
}
