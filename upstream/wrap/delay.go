package wrap

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/popgate/popgate/upstream"
)

// delayEntries is how many maildrops [LoginDelay] remembers. Those over it may be
// opened early: it is a courtesy of clients and no guard against them.
const delayEntries = 1 << 16

// LoginDelay is the least time between two logins of one maildrop (RFC 2449
// section 6.5). An Open before delay has passed since the last that succeeded
// fails with an error of kind Early, and does not move the time. It is after the
// proof, so that the reply tells nothing to who has no password, and before the
// lock.
func LoginDelay(s upstream.Store, delay time.Duration) upstream.Store {
	return &delayStore{Store: s, delay: delay, began: time.Now(), last: newMemory(delayEntries)}
}

type delayStore struct {
	upstream.Store
	delay time.Duration
	began time.Time // the clock is monotonic

	mu   sync.Mutex
	last *memory // the maildrops that were opened less than delay ago
}

func (s *delayStore) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := s.Store.Login(ctx, c)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(a.Key()))
	return &delayAccount{a, s, name(digest[:len(name{})])}, nil
}

type delayAccount struct {
	upstream.Account
	store *delayStore
	name  name
}

func (a *delayAccount) Open(ctx context.Context) (upstream.Maildrop, error) {
	s := a.store
	s.mu.Lock()
	early := s.last.find(a.name, time.Since(s.began)) != nil
	s.mu.Unlock()
	if early {
		return nil, &upstream.Error{Kind: upstream.Early, Op: "login delay"}
	}
	m, err := a.Account.Open(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(s.began)
	if s.last.find(a.name, now) == nil { // another session may have come between, where there is no lock
		s.last.add(a.name, now, now+s.delay)
	}
	return m, nil
}
