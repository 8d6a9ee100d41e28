package wrap_test

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
	"github.com/popgate/popgate/upstream/memdrop/memdroptest"
	"github.com/popgate/popgate/upstream/upstreamtest"
	"github.com/popgate/popgate/upstream/wrap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func lock(s upstream.Store) upstream.Store     { return wrap.Lock(s, wrap.LockOptions{Wait: -1}) }
func contract(s upstream.Store) upstream.Store { return wrap.Contract(s) }
func throttle(s upstream.Store) upstream.Store {
	return wrap.Throttle(s, wrap.ThrottleOptions{Delay: -1})
}
func loginDelay(s upstream.Store) upstream.Store { return wrap.LoginDelay(s, 1) }
func sessions(s upstream.Store) upstream.Store   { return wrap.Sessions(s, 10) }
func limit(s upstream.Store) upstream.Store {
	return wrap.Limit(s, wrap.LimitOptions{Messages: 1000, Octets: 1 << 30})
}

func TestConformance(t *testing.T) {
	for name, decorate := range map[string]func(upstream.Store) upstream.Store{
		"lock":     lock,
		"contract": contract,
		"limit":    limit,
		"throttle": throttle,
		"delay":    loginDelay,
		"sessions": sessions,
		"observe":  func(s upstream.Store) upstream.Store { return wrap.Observe(s, func(wrap.Stop) {}) },
		"terms":    func(s upstream.Store) upstream.Store { return wrap.Terms(s, upstream.Terms{}) },
		"all": func(s upstream.Store) upstream.Store {
			return contract(throttle(loginDelay(sessions(lock(limit(contract(s)))))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			upstreamtest.Run(t, func(t *testing.T) upstreamtest.Harness { return memdroptest.Harness(t, decorate) })
		})
	}
}

var alice = upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")}

func newStore(msgs ...memdrop.Message) *memdrop.Store {
	s := memdrop.New()
	s.AddUser("alice", "pw", msgs...)
	s.AddUser("bob", "pw")
	return s
}

func login(t *testing.T, s upstream.Store, user string) upstream.Account {
	t.Helper()
	c := alice
	c.User = user
	a, err := s.Login(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wantError demands an error of this kind, directly, with these words.
func wantError(t *testing.T, what string, err error, kind upstream.Kind, words string) {
	t.Helper()
	e, ok := err.(*upstream.Error)
	if !ok || e.Kind != kind || !strings.Contains(e.Error(), words) {
		t.Errorf("%s: %v, want kind %v and %q", what, err, kind, words)
	}
}

func TestLimit(t *testing.T) {
	three := []memdrop.Message{{ID: "a", Body: []byte("12345")}, {ID: "b", Body: []byte("12345")}, {ID: "c", Body: nil}}
	huge := []memdrop.Message{{ID: "a", Size: 1 << 62}, {ID: "b", Size: 1 << 62}, {ID: "c", Size: 1 << 62}}
	for _, tt := range []struct {
		name    string
		msgs    []memdrop.Message
		options wrap.LimitOptions
		words   string // of the error; none: it opens
	}{
		{"no_limit", three, wrap.LimitOptions{}, ""},
		{"messages_at_the_limit", three, wrap.LimitOptions{Messages: 3}, ""},
		{"messages_over_it", three, wrap.LimitOptions{Messages: 2}, "3 messages"},
		{"octets_at_the_limit", three, wrap.LimitOptions{Octets: 10}, ""},
		{"octets_over_it", three, wrap.LimitOptions{Octets: 9}, "octets"},
		{"a_sum_past_64_bits", huge, wrap.LimitOptions{Octets: 1<<63 - 2}, "octets"},
		{"a_sum_past_64_bits_without_limit", huge, wrap.LimitOptions{Octets: 1<<63 - 1}, ""},
		{"empty", nil, wrap.LimitOptions{Messages: 1, Octets: 1}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(tt.msgs...)
			a := login(t, wrap.Limit(s, tt.options), "alice")
			m, err := a.Open(t.Context())
			if tt.words != "" {
				wantError(t, "Open", err, upstream.TooBig, tt.words)
				if m != nil {
					t.Error("a maildrop beside the error")
				}
			} else if err != nil {
				t.Errorf("Open: %v", err)
			}
			if open, _ := s.InUse(); open != 1 {
				t.Error("the account was closed, which belongs to the caller")
			}
			a.Close()
			if open, _ := s.InUse(); open != 0 {
				t.Error("Close did not reach the store")
			}
		})
	}
}
