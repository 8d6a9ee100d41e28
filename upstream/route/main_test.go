package route_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A recorder is a store that keeps what it is given and lets everybody in.
type recorder struct {
	name string
	err  error // instead

	mu  sync.Mutex
	got []upstream.Credentials
}

func (r *recorder) Login(_ context.Context, c upstream.Credentials) (upstream.Account, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, c)
	if r.err != nil {
		return nil, r.err
	}
	return account{key: r.name}, nil
}

// last is the credentials that came last.
func (r *recorder) last(t *testing.T) upstream.Credentials {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) == 0 {
		t.Fatalf("nobody came to the store %s", r.name)
	}
	return r.got[len(r.got)-1]
}

// account can only be closed, and says whose store it is of.
type account struct {
	upstream.Account
	key string
}

func (a account) Key() string { return a.key }
func (account) Close() error  { return nil }

func table(t *testing.T, routes ...route.Route) *route.Table {
	t.Helper()
	out, err := route.NewTable(routes...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func template(t *testing.T, text string) route.Template {
	t.Helper()
	out, err := route.ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// from is a login with a password.
func from(user string) upstream.Credentials {
	return upstream.Credentials{
		User: user, Secret: upstream.NewSecret("pw"), Listener: "usual",
		Client: netip.MustParseAddrPort("192.0.2.7:4000"), Server: netip.MustParseAddrPort("192.0.2.1:110"),
	}
}

// where logs in and returns the store's name.
func where(t *testing.T, s upstream.Store, c upstream.Credentials) (string, error) {
	t.Helper()
	a, err := s.Login(t.Context(), c)
	if err != nil {
		return "", err
	}
	defer a.Close()
	return a.Key(), nil
}

func wantKind(t *testing.T, what string, err error, kind upstream.Kind, words string) {
	t.Helper()
	e, ok := err.(*upstream.Error)
	if !ok || e.Kind != kind || !strings.Contains(e.Error(), words) {
		t.Errorf("%s: %v, want kind %v and %q", what, err, kind, words)
	}
}

var errBroken = errors.New("broken")
