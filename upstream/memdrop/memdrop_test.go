package memdrop_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = "Subject: x\r\nTo: y\r\n\r\none\r\n\r\nthree\r\n"

func open(t *testing.T, s *memdrop.Store) (upstream.Account, upstream.Maildrop) {
	t.Helper()
	a, err := s.Login(t.Context(), upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	m, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a, m
}

func three() *memdrop.Store {
	s := memdrop.New()
	s.AddUser("alice", "pw",
		memdrop.Message{ID: "a", Body: []byte(text)},
		memdrop.Message{ID: "b", Body: []byte("no final line end")},
		memdrop.Message{ID: "c", Size: 99})
	return s
}

func ids(s *memdrop.Store) (list []string) {
	for _, m := range s.Messages("alice") {
		list = append(list, m.ID)
	}
	return list
}

func TestTopHint(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		lines      int
		want       string
	}{
		{"header_and_empty_line", text, 0, "Subject: x\r\nTo: y\r\n\r\n"},
		{"one_line", text, 1, "Subject: x\r\nTo: y\r\n\r\none\r\n"},
		{"an_empty_line_of_the_body_counts", text, 2, "Subject: x\r\nTo: y\r\n\r\none\r\n\r\n"},
		{"past_the_end", text, 9, text},
		{"bare_line_feeds", "A: b\n\nx\ny\n", 1, "A: b\n\nx\n"},
		{"header_only", "A: b\r\n", 0, "A: b\r\n"},
		{"no_header", "\r\nx\r\n", 0, "\r\n"},
		{"last_line_without_end", "A: b\r\n\r\nx\r\ny", 2, "A: b\r\n\r\nx\r\ny"},
		{"empty", "", 3, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := memdrop.New()
			s.AddUser("alice", "pw", memdrop.Message{ID: "a", Body: []byte(tt.body)})
			_, m := open(t, s)
			b, err := m.Retrieve(t.Context(), 0, upstream.Extent{Top: true, Lines: tt.lines})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if got, err := io.ReadAll(b); string(got) != tt.want || err != nil || b.Octets() != int64(len(tt.want)) {
				t.Errorf("TOP %d = %q, %v, %d octets announced; want %q", tt.lines, got, err, b.Octets(), tt.want)
			}
		})
	}
}

func TestUpdateFaultsGiveAPartialReceipt(t *testing.T) {
	s := three()
	lost := &upstream.Error{Kind: upstream.Unavailable, Op: "update", Sent: true}
	s.SetFaults(memdrop.Faults{Update: func(_ context.Context, _ string, remove []string) ([]string, error) {
		if !slices.Equal(remove, []string{"a", "b", "c"}) {
			t.Errorf("the hook got %q", remove)
		}
		s.Expunge("alice", "a")
		return []string{"b"}, lost
	}})
	_, m := open(t, s)
	got, err := m.Update(t.Context(), upstream.Changes{Remove: []int{0, 1, 2}, Seen: []int{1}})
	if want := (upstream.Receipt{Removed: 1, Missing: 1, Kept: 1}); got != want || err != lost {
		t.Errorf("Update = %+v, %v; want %+v, %v", got, err, want, lost)
	}
	if got := ids(s); !slices.Equal(got, []string{"b"}) {
		t.Errorf("left: %q", got)
	}
	if got := s.Seen("alice"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("seen: %q", got)
	}
}

func TestCuts(t *testing.T) {
	lost := &upstream.Error{Kind: upstream.Unavailable, Op: "read"}
	for k := range len(text) + 3 {
		s := three()
		s.SetFaults(memdrop.Faults{Body: func(_, _ string) *memdrop.Cut { return &memdrop.Cut{After: int64(k), Err: lost} }})
		_, m := open(t, s)
		b, err := m.Retrieve(t.Context(), 0, upstream.Extent{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); string(got) != text[:min(k, len(text))] || err != lost {
			t.Errorf("cut after %d: %q, %v", k, got, err)
		}
		b.Close()
	}
}

// A body that stalls ends with its context, and with the account.
func TestStall(t *testing.T) {
	for _, how := range []string{"cancel", "close"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := three()
				s.SetFaults(memdrop.Faults{Body: func(_, _ string) *memdrop.Cut { return &memdrop.Cut{After: 2} }})
				a, m := open(t, s)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				b, err := m.Retrieve(ctx, 0, upstream.Extent{})
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error)
				go func() { _, err := io.ReadAll(b); done <- err }()
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("the read ended early: %v", err)
				default:
				}
				if how == "cancel" {
					cancel()
				} else {
					a.Close()
				}
				if err := <-done; upstream.KindOf(err) != upstream.Unavailable {
					t.Errorf("read = %v", err)
				}
				b.Close()
				a.Close()
				if a, b := s.InUse(); a != 0 || b != 0 {
					t.Errorf("%d accounts and %d bodies are open", a, b)
				}
			})
		})
	}
}

func TestHooksFailTheirCall(t *testing.T) {
	want := &upstream.Error{Kind: upstream.Changed, Op: "x"}
	s := three()
	s.SetFaults(memdrop.Faults{Login: func(context.Context, upstream.Credentials) error { return want }})
	if _, err := s.Login(t.Context(), upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")}); err != want {
		t.Errorf("Login = %v", err)
	}
	s.SetFaults(memdrop.Faults{Open: func(context.Context, string) error { return want }})
	a, err := s.Login(t.Context(), upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(t.Context()); err != want {
		t.Errorf("Open = %v", err)
	}
	a.Close()
	s.SetFaults(memdrop.Faults{
		Retrieve: func(_ context.Context, _, id string) error { return want },
		Octets:   func(_, _ string, n int64) int64 { return n + 1 },
	})
	_, m := open(t, s)
	if _, err := m.Retrieve(t.Context(), 0, upstream.Extent{}); err != want {
		t.Errorf("Retrieve = %v", err)
	}
	if got := m.Size(2); got != 99 {
		t.Errorf("Size = %d, want what the list was told to say", got)
	}
	if got, want := s.Calls(), (memdrop.Calls{Login: 3, Open: 2, Retrieve: 1, Close: 1}); got != want {
		t.Errorf("Calls = %+v, want %+v", got, want)
	}
}

func TestCallersAreHeldToTheHinge(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(a upstream.Account, m upstream.Maildrop) error
	}{
		{"open_twice", func(a upstream.Account, _ upstream.Maildrop) error { _, err := a.Open(t.Context()); return err }},
		{"two_bodies", func(_ upstream.Account, m upstream.Maildrop) error {
			b, _ := m.Retrieve(t.Context(), 0, upstream.Extent{})
			defer b.Close()
			_, err := m.Retrieve(t.Context(), 1, upstream.Extent{})
			return err
		}},
		{"update_with_a_body_open", func(_ upstream.Account, m upstream.Maildrop) error {
			b, _ := m.Retrieve(t.Context(), 0, upstream.Extent{})
			defer b.Close()
			_, err := m.Update(t.Context(), upstream.Changes{Remove: []int{0}})
			return err
		}},
		{"update_twice", func(_ upstream.Account, m upstream.Maildrop) error {
			m.Update(t.Context(), upstream.Changes{})
			_, err := m.Update(t.Context(), upstream.Changes{Remove: []int{0}})
			return err
		}},
		{"out_of_order", func(_ upstream.Account, m upstream.Maildrop) error {
			_, err := m.Update(t.Context(), upstream.Changes{Remove: []int{1, 0}})
			return err
		}},
		{"out_of_range", func(_ upstream.Account, m upstream.Maildrop) error {
			_, err := m.Update(t.Context(), upstream.Changes{Remove: []int{3}})
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := three()
			a, m := open(t, s)
			err := tt.do(a, m)
			if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != upstream.Internal {
				t.Errorf("got %v, want an error of kind internal", err)
			}
			if got := ids(s); len(got) != 3 {
				t.Errorf("left: %q", got)
			}
		})
	}
}

func TestIDsAreNeverUsedTwice(t *testing.T) {
	for name, id := range map[string]string{"known": "a", "expunged": "b", "illegal": "a b", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			s := three()
			s.Expunge("alice", "b")
			defer func() {
				if recover() == nil {
					t.Errorf("Deliver(%q) did not panic", id)
				}
			}()
			s.Deliver("alice", memdrop.Message{ID: id})
		})
	}
}
