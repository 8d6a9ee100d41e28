package jmap_test

import (
	"context"
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var alice = upstream.Credentials{User: jmaptest.User, Secret: upstream.NewSecret(jmaptest.Password)}

// newStore makes a store over the server.
func newStore(t testing.TB, s *jmaptest.Server, change func(*jmap.Options)) *jmap.Store {
	t.Helper()
	o := jmap.Options{URL: s.URL, Dial: s.Dial}
	if change != nil {
		change(&o)
	}
	store, err := jmap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// open logs in and opens; both must succeed.
func open(t testing.TB, store upstream.Store) (upstream.Account, upstream.Maildrop) {
	t.Helper()
	a, err := store.Login(t.Context(), alice)
	if err != nil {
		t.Fatalf("Login: %v", err)
	}
	t.Cleanup(func() { a.Close() })
	m, err := a.Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return a, m
}

// retrieve reads message i to its end.
func retrieve(t testing.TB, m upstream.Maildrop, i int, want upstream.Extent) (string, error) {
	t.Helper()
	b, err := m.Retrieve(t.Context(), i, want)
	if err != nil {
		return "", err
	}
	defer b.Close()
	text, err := io.ReadAll(b)
	return string(text), err
}

func wantKind(t testing.TB, what string, err error, want upstream.Kind) {
	t.Helper()
	if _, ok := err.(*upstream.Error); err != nil && !ok {
		t.Errorf("%s: the error is a %T: %v", what, err, err)
	}
	if err == nil || upstream.KindOf(err) != want {
		t.Errorf("%s: %v, want kind %v", what, err, want)
	}
}

func harness(o jmaptest.Options, policy jmap.Policy) func(t *testing.T) upstreamtest.Harness {
	return func(t *testing.T) upstreamtest.Harness {
		s := jmaptest.New(t, o)
		store := newStore(t, s, func(o *jmap.Options) { o.Delete = policy })
		view := func() (out []jmaptest.Email) {
			for _, e := range s.Emails(jmaptest.Inbox) {
				if !e.Keywords[jmap.HiddenKeyword] {
					out = append(out, e)
				}
			}
			return out
		}
		return upstreamtest.Harness{
			Store:       store,
			Credentials: alice,
			Deliver:     func(_ context.Context, body []byte) error { s.Deliver(body); return nil },
			Expunge:     func(_ context.Context, i int) error { s.Destroy(view()[i].ID); return nil },
			Contents: func(context.Context) (out [][]byte, err error) {
				for _, e := range view() {
					out = append(out, e.Body)
				}
				return out, nil
			},
			Seen: func(context.Context) (out []bool, err error) {
				for _, e := range view() {
					out = append(out, e.Keywords["$seen"])
				}
				return out, nil
			},
			Cut: func(after int64) {
				s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
					if r.Op != "download" {
						return nil
					}
					return &jmaptest.Fault{End: jmaptest.FIN, After: after}
				})
			},
			Down: s.Down,
		}
	}
}

// TestConformance runs the suite of the hinge over every policy, and over servers
// that differ in what a store could rest on.
func TestConformance(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      jmaptest.Options
		policy jmap.Policy
	}{
		{"expunge", jmaptest.Options{TCP: true}, jmap.Expunge},
		{"trash", jmaptest.Options{}, jmap.Trash},
		{"hide", jmaptest.Options{}, jmap.Hide},
		{"ranges", jmaptest.Options{Ranges: true, NoJump: true, Absolute: true}, jmap.Expunge},
		{"no_lengths", jmaptest.Options{TCP: true, Chunked: true, GoneIsDestroyed: true}, jmap.Expunge},
		{"small_limits", jmaptest.Options{MaxGet: 3, MaxSet: 2, MaxCalls: 2, QueryMax: 2}, jmap.Trash},
	} {
		t.Run(tt.name, func(t *testing.T) { upstreamtest.Run(t, harness(tt.o, tt.policy)) })
	}
}
