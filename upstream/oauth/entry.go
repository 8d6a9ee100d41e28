package oauth

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

const (
	// settle is for how long a refused access token is not replaced after it was
	// issued: a mail service that refuses fresh tokens refuses the next one too.
	settle = 30 * time.Second
	// deadTime is for how long the issuer is not asked again after it refused, be
	// it that the record changes.
	deadTime  = time.Minute
	firstWait = time.Second // after a first failure of the issuer; it doubles
	lastWait  = time.Minute
	earlyPart = 4 // a token is replaced early in the last such part of its life at most
)

// An entry is what is known of one account: its access token, and why there is
// none. Times have the monotonic clock in them: the wall clock may be set at will.
type entry struct {
	account string

	mu      sync.Mutex
	secret  upstream.Secret
	issued  time.Time
	early   time.Time // when to replace secret
	end     time.Time // when it ends; zero: there is none
	flight  *flight   // that is under way, or nil
	failure error     // the last, until a success
	until   time.Time // when to ask again after it
	failed  int       // in a row
	stamp   tokenfile.Stamp
	unkept  *unkept // what the issuer gave and the disk did not take; of the flight alone
}

// A flight is a request that others wait for.
type flight struct {
	done   chan struct{} // closed when it has landed
	secret upstream.Secret
	err    error
}

// seen forgets what an older record led to, if another process or a person has
// changed it.
func (e *entry) seen(stamp tokenfile.Stamp) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.flight == nil && !e.stamp.Equal(stamp) {
		e.stamp, e.end, e.failure, e.until, e.failed = stamp, time.Time{}, nil, time.Time{}, 0
	}
}

// look returns the token of e, or what to wait for. refused is one not to be given
// again; nil for none.
func (t *Tokens) look(ctx context.Context, e *entry, refused *upstream.Secret) (upstream.Secret, *flight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	good := now.Before(e.end) && (refused == nil || *refused != e.secret)
	switch {
	case good && now.Before(e.early):
		return e.secret, nil
	case e.flight != nil:
	case now.Before(e.until):
		if !good {
			return upstream.Secret{}, landed(e.failure)
		}
	case !good && now.Before(e.end) && now.Sub(e.issued) < settle:
		return upstream.Secret{}, landed(&failure{outcome: Throttled, text: "the mail service refuses the access token that was just issued: are its scopes right, and may this user use IMAP?"})
	default:
		if !good {
			e.end = time.Time{} // nobody is to get it again
		}
		e.flight = t.start(ctx, e, good)
	}
	if good { // replaced early, and nobody waits
		return e.secret, nil
	}
	return upstream.Secret{}, e.flight
}

// landed is a flight that was over before it began.
func landed(err error) *flight {
	done := make(chan struct{})
	close(done)
	return &flight{done: done, err: err}
}

// land ends a flight.
func (e *entry) land(f *flight, got fetched, err error, early time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.stamp = got.stamp
	if err != nil {
		e.failure, f.err = err, err
		e.failed++
		e.until = now.Add(wait(err, e.failed))
	} else {
		e.secret, f.secret = got.access, got.access
		e.issued, e.end = now, now.Add(got.life)
		e.early = e.end.Add(-min(early, got.life/earlyPart))
		e.failure, e.until, e.failed = nil, time.Time{}, 0
	}
	e.flight = nil
	close(f.done)
}

// wait is how long a failure is remembered, the times-th in a row.
func wait(err error, times int) time.Duration {
	f, ok := errors.AsType[*failure](err)
	if ok && f.kind() == upstream.Internal {
		return deadTime
	}
	d := backoff(times)
	if ok {
		d = max(d, f.retry)
	}
	return d
}

// backoff doubles from firstWait to lastWait.
func backoff(times int) time.Duration {
	if times > 6 {
		return lastWait
	}
	return min(firstWait<<max(0, times-1), lastWait)
}
