package upstreamtest_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop/memdroptest"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

// A store's package runs the suite from one of its own tests.
func ExampleRun() {
	_ = func(t *testing.T) {
		upstreamtest.Run(t, func(t *testing.T) upstreamtest.Harness {
			return memdroptest.Harness(t, nil)
		})
	}
}

var broken = flag.String("broken", "", "run the suite against the store with this fault")

func TestMain(m *testing.M) {
	flag.Parse()
	if *broken != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

func TestBroken(t *testing.T) {
	if *broken == "" {
		t.Skip("for TestSuiteFindsFaults alone")
	}
	upstreamtest.Run(t, func(t *testing.T) upstreamtest.Harness {
		return memdroptest.Harness(t, func(s upstream.Store) upstream.Store {
			return &faulty{Store: s, fault: faults[slices.IndexFunc(faults, func(f fault) bool { return f.name == *broken })]}
		})
	})
}

// The suite must be able to fail: each of these stores breaks one promise, and
// the test that is named finds it.
func TestSuiteFindsFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			run := "^TestBroken$/^" + strings.ReplaceAll(f.found, "/", "$/^") + "$"
			out, err := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+run, "-broken="+f.name).CombinedOutput()
			if _, ok := errors.AsType[*exec.ExitError](err); !ok || !bytes.Contains(out, []byte("--- FAIL: TestBroken/"+f.found)) {
				t.Errorf("%s did not find it: %v\n%s", f.found, err, out)
			}
			if bytes.Contains(out, []byte("panic:")) {
				t.Errorf("%s found it by a panic:\n%s", f.found, out)
			}
		})
	}
}

// fault is one broken promise: the functions that are set replace what the
// inner store does.
type fault struct {
	name     string
	found    string // the test of the suite that finds it
	login    func(s upstream.Store, ctx context.Context, c upstream.Credentials) (upstream.Account, error)
	key      func(inner string, opened bool) string
	open     func(a upstream.Account, ctx context.Context) (upstream.Maildrop, error)
	close    func(a upstream.Account, m upstream.Maildrop) error
	size     func(m upstream.Maildrop, i int) int64
	uidl     func(m upstream.Maildrop, dst []byte, i int) []byte
	retrieve func(m upstream.Maildrop, ctx context.Context, i int, want upstream.Extent) (upstream.Body, error)
	update   func(m upstream.Maildrop, ctx context.Context, ch upstream.Changes) (upstream.Receipt, error)
}

var faults = []fault{
	{name: "wrong_secret_is_unavailable", found: "a_wrong_secret_is_refused",
		login: func(s upstream.Store, ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
			a, err := s.Login(ctx, c)
			if err != nil {
				err = &upstream.Error{Kind: upstream.Unavailable, Op: "login"}
			}
			return a, err
		}},
	{name: "error_of_another_type", found: "an_unknown_user_is_refused",
		login: func(s upstream.Store, ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
			a, err := s.Login(ctx, c)
			if err != nil {
				err = fmt.Errorf("login: %w", err)
			}
			return a, err
		}},
	{name: "secret_in_the_error", found: "a_wrong_secret_is_refused",
		login: func(s upstream.Store, ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
			a, err := s.Login(ctx, c)
			if err != nil {
				err = &upstream.Error{Kind: upstream.Refused, Op: "login", Err: errors.New(c.Secret.Reveal())}
			}
			return a, err
		}},
	{name: "down_is_refused", found: "a_service_that_is_down_is_never_a_wrong_secret",
		login: func(s upstream.Store, ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
			a, err := s.Login(ctx, c)
			if err != nil {
				err = &upstream.Error{Kind: upstream.Refused, Op: "login"}
			}
			return a, err
		}},
	{name: "key_changes", found: "the_key_is_stable",
		key: func(inner string, opened bool) string { return fmt.Sprint(inner, opened) }},
	{name: "session_lives_on_the_context_of_login", found: "the_contexts_of_earlier_calls_may_end",
		open: func(a upstream.Account, ctx context.Context) (upstream.Maildrop, error) {
			m, err := a.Open(ctx)
			return &faultyMaildrop{Maildrop: m, fault: fault{retrieve: func(m upstream.Maildrop, _ context.Context, i int, want upstream.Extent) (upstream.Body, error) {
				return m.Retrieve(ctx, i, want)
			}}}, err
		}},
	{name: "open_ignores_its_context", found: "close_after_a_failed_open",
		open: func(a upstream.Account, ctx context.Context) (upstream.Maildrop, error) {
			return a.Open(context.WithoutCancel(ctx))
		}},
	{name: "close_removes", found: "nothing_is_removed_without_update",
		close: func(a upstream.Account, m upstream.Maildrop) error {
			if m != nil && m.Len() > 0 {
				m.Update(context.Background(), upstream.Changes{Remove: []int{0}})
			}
			return a.Close()
		}},
	{name: "size_off_by_one", found: "the_list_has_the_order_of_delivery_and_true_sizes",
		size: func(m upstream.Maildrop, i int) int64 { return m.Size(i) + 1 }},
	{name: "uidl_is_the_index", found: "unique_ids_last",
		uidl: func(_ upstream.Maildrop, dst []byte, i int) []byte { return fmt.Append(dst, i) }},
	{name: "uidl_is_the_size", found: "unique_ids_are_legal_and_unique",
		uidl: func(m upstream.Maildrop, dst []byte, i int) []byte { return fmt.Append(dst, m.Size(i)) }},
	{name: "uidl_comes_back", found: "a_unique_id_never_comes_back",
		uidl: func(_ upstream.Maildrop, dst []byte, i int) []byte { return fmt.Append(dst, i) }},
	{name: "uidl_with_a_space", found: "unique_ids_are_legal_and_unique",
		uidl: func(m upstream.Maildrop, dst []byte, i int) []byte { return append(m.AppendUIDL(dst, i), ' ') }},
	{name: "uidl_overwrites", found: "unique_ids_are_legal_and_unique",
		uidl: func(m upstream.Maildrop, dst []byte, i int) []byte { return m.AppendUIDL(dst[:0], i) }},
	{name: "list_is_live", found: "the_list_is_frozen",
		open: func(a upstream.Account, ctx context.Context) (upstream.Maildrop, error) {
			m, err := a.Open(ctx)
			gone := 0
			return &faultyMaildrop{Maildrop: m, fault: fault{
				retrieve: func(m upstream.Maildrop, ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
					gone = 1 // the mail service tells of the expunge in its answer
					return m.Retrieve(ctx, i, want)
				},
				uidl: func(m upstream.Maildrop, dst []byte, i int) []byte {
					return m.AppendUIDL(dst, min(i+gone, m.Len()-1))
				},
			}}, err
		}},
	{name: "index_out_of_range_is_zero", found: "an_index_out_of_range_panics",
		size: func(m upstream.Maildrop, i int) int64 {
			if i < 0 || i >= m.Len() {
				return 0
			}
			return m.Size(i)
		}},
	{name: "line_ends_are_repaired", found: "byte_for_byte/bare_line_feeds", retrieve: mapped(func(p []byte) []byte {
		return bytes.ReplaceAll(bytes.ReplaceAll(p, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	})},
	{name: "final_line_end_is_added", found: "byte_for_byte/no_final_line_end", retrieve: mapped(func(p []byte) []byte {
		return append(bytes.TrimSuffix(p, []byte("\r\n")), "\r\n"...)
	})},
	{name: "dots_are_stuffed", found: "byte_for_byte/dots", retrieve: mapped(func(p []byte) []byte {
		return bytes.ReplaceAll(p, []byte("\r\n."), []byte("\r\n.."))
	})},
	{name: "octets_are_the_size_of_the_list", found: "top_of_a_large_message",
		retrieve: func(m upstream.Maildrop, ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
			b, err := m.Retrieve(ctx, i, want)
			return &faultyBody{Body: b, octets: m.Size(i)}, err
		}},
	{name: "top_is_too_short", found: "top_gives_at_least_header_and_lines",
		retrieve: func(m upstream.Maildrop, ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
			want.Lines = max(0, want.Lines-1)
			return m.Retrieve(ctx, i, want)
		}},
	{name: "gone_is_empty", found: "a_removed_message_is_gone_and_the_session_goes_on",
		retrieve: func(m upstream.Maildrop, ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
			b, err := m.Retrieve(ctx, i, want)
			if upstream.KindOf(err) == upstream.Gone && err != nil {
				return &faultyBody{Body: &noBody{}, octets: 0}, nil
			}
			return b, err
		}},
	{name: "cut_body_ends_well", found: "a_body_that_is_cut_never_ends_well",
		retrieve: func(m upstream.Maildrop, ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
			b, err := m.Retrieve(ctx, i, want)
			if err != nil {
				return nil, err
			}
			return &faultyBody{Body: b, octets: -1, eof: true}, nil
		}},
	{name: "body_ignores_its_context", found: "cancellation_in_the_middle_of_a_body",
		retrieve: func(m upstream.Maildrop, ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
			return m.Retrieve(context.WithoutCancel(ctx), i, want)
		}},
	{name: "update_removes_the_span", found: "update_removes_exactly/holes",
		update: func(m upstream.Maildrop, ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
			n := len(ch.Remove)
			if n > 0 {
				first, last := ch.Remove[0], ch.Remove[n-1]
				ch.Remove = nil
				for i := first; i <= last; i++ {
					ch.Remove = append(ch.Remove, i)
				}
			}
			_, err := m.Update(ctx, ch)
			return upstream.Receipt{Removed: n}, err
		}},
	{name: "update_removes_all_that_is_there", found: "update_removes_exactly/none",
		update: func(m upstream.Maildrop, ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
			n := len(ch.Remove)
			ch.Remove = nil
			for i := range m.Len() {
				ch.Remove = append(ch.Remove, i)
			}
			_, err := m.Update(ctx, ch)
			return upstream.Receipt{Removed: n}, err
		}},
	{name: "update_does_nothing", found: "update_removes_exactly/first",
		update: func(_ upstream.Maildrop, _ context.Context, ch upstream.Changes) (upstream.Receipt, error) {
			return upstream.Receipt{Removed: len(ch.Remove)}, nil
		}},
	{name: "missing_counts_as_removed", found: "messages_already_gone_are_missing",
		update: func(m upstream.Maildrop, ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
			r, err := m.Update(ctx, ch)
			return upstream.Receipt{Removed: r.Removed + r.Missing, Kept: r.Kept}, err
		}},
	{name: "update_ignores_its_context", found: "an_update_cancelled_before_it_began_removes_nothing",
		update: func(m upstream.Maildrop, ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
			return m.Update(context.WithoutCancel(ctx), ch)
		}},
	{name: "no_receipt_beside_an_error", found: "an_update_of_a_service_that_is_down_balances",
		update: func(m upstream.Maildrop, ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
			r, err := m.Update(ctx, ch)
			if err != nil {
				r = upstream.Receipt{}
			}
			return r, err
		}},
	{name: "seen_is_forgotten", found: "seen_removes_nothing",
		update: func(m upstream.Maildrop, ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
			ch.Seen = nil
			return m.Update(ctx, ch)
		}},
}

// mapped is a retrieve that changes the octets.
func mapped(change func([]byte) []byte) func(upstream.Maildrop, context.Context, int, upstream.Extent) (upstream.Body, error) {
	return func(m upstream.Maildrop, ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
		b, err := m.Retrieve(ctx, i, want)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		p, err := io.ReadAll(b)
		if err != nil {
			return nil, err
		}
		return &noBody{*bytes.NewReader(change(p))}, nil
	}
}

type noBody struct{ bytes.Reader }

func (*noBody) Close() error  { return nil }
func (*noBody) Octets() int64 { return -1 }

type faultyBody struct {
	upstream.Body
	octets int64
	eof    bool
}

func (b *faultyBody) Octets() int64 { return b.octets }

func (b *faultyBody) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if b.eof && err != nil {
		err = io.EOF
	}
	return n, err
}

type faulty struct {
	upstream.Store
	fault
}

func (s *faulty) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	login := s.login
	if login == nil {
		login = upstream.Store.Login
	}
	a, err := login(s.Store, ctx, c)
	if err != nil {
		return nil, err
	}
	return &faultyAccount{Account: a, fault: s.fault}, nil
}

type faultyAccount struct {
	upstream.Account
	fault
	maildrop upstream.Maildrop
}

func (a *faultyAccount) Key() string {
	if a.key != nil {
		return a.key(a.Account.Key(), a.maildrop != nil)
	}
	return a.Account.Key()
}

func (a *faultyAccount) Open(ctx context.Context) (upstream.Maildrop, error) {
	open := a.open
	if open == nil {
		open = upstream.Account.Open
	}
	m, err := open(a.Account, ctx)
	if err != nil {
		return nil, err
	}
	a.maildrop = m
	return &faultyMaildrop{Maildrop: m, fault: a.fault}, nil
}

func (a *faultyAccount) Close() error {
	if a.close != nil {
		return a.close(a.Account, a.maildrop)
	}
	return a.Account.Close()
}

type faultyMaildrop struct {
	upstream.Maildrop
	fault
}

func (m *faultyMaildrop) Size(i int) int64 {
	if m.size != nil {
		return m.size(m.Maildrop, i)
	}
	return m.Maildrop.Size(i)
}

func (m *faultyMaildrop) AppendUIDL(dst []byte, i int) []byte {
	if m.uidl != nil {
		return m.uidl(m.Maildrop, dst, i)
	}
	return m.Maildrop.AppendUIDL(dst, i)
}

func (m *faultyMaildrop) Retrieve(ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
	if m.retrieve != nil {
		return m.retrieve(m.Maildrop, ctx, i, want)
	}
	return m.Maildrop.Retrieve(ctx, i, want)
}

func (m *faultyMaildrop) Update(ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
	if m.update != nil {
		return m.update(m.Maildrop, ctx, ch)
	}
	return m.Maildrop.Update(ctx, ch)
}
