package wrap_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
	"github.com/popgate/popgate/upstream/wrap"
)

// Each limit tells its name when it is met, and nothing else does.
func TestObserveTellsWhichLimitWasMet(t *testing.T) {
	full := newStore(memdrop.Message{ID: "a", Body: []byte("12345")}, memdrop.Message{ID: "b", Body: []byte("12345")})
	met := map[wrap.Stop]bool{}
	for _, tt := range []struct {
		name   string
		store  upstream.Store
		before int // sessions that are open already
		want   wrap.Stop
	}{
		{"delay", wrap.LoginDelay(full, time.Hour), 1, wrap.ByDelay},
		{"sessions", wrap.Sessions(full, 1), 1, wrap.BySessions},
		{"lock", wrap.Lock(full, wrap.LockOptions{Wait: -1}), 1, wrap.ByLock},
		{"lock_after_a_wait", wrap.Lock(full, wrap.LockOptions{Wait: time.Millisecond}), 1, wrap.ByLock},
		{"messages", wrap.Limit(full, wrap.LimitOptions{Messages: 1}), 0, wrap.ByMessages},
		{"octets", wrap.Limit(full, wrap.LimitOptions{Octets: 9}), 0, wrap.ByOctets},
		{"messages_of_the_store", failing{full, &upstream.Error{Kind: upstream.TooBig, Op: "select"}}, 0, wrap.ByMessages},
		{"no_limit", full, 1, ""},
		{"the_store_is_down", failing{full, &upstream.Error{Kind: upstream.Unavailable, Op: "lock"}}, 0, ""},
		{"the_mail_service_has_a_lock", failing{full, &upstream.Error{Kind: upstream.Busy, Op: "select"}}, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []wrap.Stop
			s := wrap.Observe(tt.store, func(by wrap.Stop) { got = append(got, by) })
			for range tt.before {
				a := login(t, s, "alice")
				defer a.Close()
				mustOpen(t, a)
			}
			a := login(t, s, "alice")
			defer a.Close()
			_, err := a.Open(t.Context())
			var want []wrap.Stop
			if tt.want != "" {
				met[tt.want] = true
				want = append(want, tt.want)
			}
			if !slices.Equal(got, want) {
				t.Errorf("told %v of %v, want %v", got, err, want)
			}
		})
	}
	for _, by := range wrap.Stops() {
		if !met[by] {
			t.Errorf("%s was never met", by)
		}
	}
}

// failing is a store whose maildrops do not open.
type failing struct {
	upstream.Store
	err error
}

func (s failing) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := s.Store.Login(ctx, c)
	return failingAccount{a, s.err}, err
}

type failingAccount struct {
	upstream.Account
	err error
}

func (a failingAccount) Open(context.Context) (upstream.Maildrop, error) { return nil, a.err }
