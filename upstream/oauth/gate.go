package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// trials is how many requests in a row must fail before the issuer as a whole is
// taken to be down: one account's trouble is not everybody's.
const trials = 3

// A gate keeps requests from an issuer that is down, for all accounts together.
type gate struct {
	mu     sync.Mutex
	failed int // in a row
	until  time.Time
	last   error
}

// through asks the issuer, unless it is known to be down.
func (t *Tokens) through(ctx context.Context, params url.Values) (issued, error) {
	if err := t.gate.pass(); err != nil {
		return issued{}, err
	}
	got, err := t.ask(ctx, params)
	t.gate.learn(err)
	return got, err
}

func (g *gate) pass() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if left := time.Until(g.until); left > 0 {
		return &failure{outcome: Down, text: fmt.Sprintf("the issuer is down and is asked again in %s", left.Round(time.Second)), err: g.last}
	}
	return nil
}

func (g *gate) learn(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, ok := errors.AsType[*failure](err)
	if !ok || f.outcome != Down {
		g.failed, g.last = 0, nil
		return
	}
	g.last = err
	if g.failed++; g.failed >= trials {
		g.until = time.Now().Add(min(backoff(g.failed-trials+1), lastWait/2))
	}
}
