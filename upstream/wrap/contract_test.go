package wrap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/wrap"
)

// fake is a whole mail service that does as its fields say; the zero value is
// an empty maildrop whose every call succeeds.
type fake struct {
	loginErr, openErr, retrieveErr, updateErr, closeErr error
	noAccount, noMaildrop, noBody                       bool
	keys                                                []string // one a call of Key; the last stays
	ids                                                 []string
	size                                                int64
	receipt                                             upstream.Receipt
	read                                                func(p []byte) (int, error)
	octets                                              int64
	calls                                               []string
}

func (f *fake) Login(context.Context, upstream.Credentials) (upstream.Account, error) {
	if f.noAccount || f.loginErr != nil {
		return nil, f.loginErr
	}
	return f, nil
}

func (f *fake) Terms() upstream.Terms { return upstream.Terms{} }

func (f *fake) Key() string {
	key := "alice"
	if len(f.keys) > 0 {
		key = f.keys[0]
	}
	if len(f.keys) > 1 {
		f.keys = f.keys[1:]
	}
	return key
}

func (f *fake) Open(context.Context) (upstream.Maildrop, error) {
	if f.noMaildrop || f.openErr != nil {
		return nil, f.openErr
	}
	return f, nil
}

func (f *fake) Close() error                        { return f.closeErr }
func (f *fake) Len() int                            { return len(f.ids) }
func (f *fake) Size(int) int64                      { return f.size }
func (f *fake) AppendUIDL(dst []byte, i int) []byte { return append(dst, f.ids[i]...) }
func (f *fake) Retrieve(context.Context, int, upstream.Extent) (upstream.Body, error) {
	f.calls = append(f.calls, "retrieve")
	if f.noBody || f.retrieveErr != nil {
		return nil, f.retrieveErr
	}
	return fakeBody{f}, nil
}

func (f *fake) Update(_ context.Context, ch upstream.Changes) (upstream.Receipt, error) {
	f.calls = append(f.calls, "update")
	return f.receipt, f.updateErr
}

type fakeBody struct{ f *fake }

func (b fakeBody) Octets() int64              { return b.f.octets }
func (b fakeBody) Read(p []byte) (int, error) { return b.f.read(p) }
func (b fakeBody) Close() error               { return nil }

var good = &upstream.Error{Kind: upstream.Unavailable, Op: "x"}

// pieces is a read that gives one piece a call and then err.
func pieces(err error, list ...string) func([]byte) (int, error) {
	return func(p []byte) (int, error) {
		if len(list) == 0 {
			return 0, err
		}
		n := copy(p, list[0])
		list = list[1:]
		return n, nil
	}
}

// use plays one session and returns its first error.
func use(t *testing.T, f *fake, do func(m upstream.Maildrop) error) error {
	t.Helper()
	a, err := wrap.Contract(f).Login(t.Context(), alice)
	if err != nil {
		return err
	}
	m, err := a.Open(t.Context())
	if err != nil {
		return err
	}
	if do != nil {
		if err := do(m); err != nil {
			return err
		}
	}
	return a.Close()
}

func read(t *testing.T) func(upstream.Maildrop) error {
	return func(m upstream.Maildrop) error {
		b, err := m.Retrieve(t.Context(), 0, upstream.Extent{})
		if err != nil {
			return err
		}
		defer b.Close()
		_, err = io.ReadAll(b)
		return err
	}
}

func update(t *testing.T, ch upstream.Changes) func(upstream.Maildrop) error {
	return func(m upstream.Maildrop) error {
		r, err := m.Update(t.Context(), ch)
		if r.Removed+r.Missing+r.Kept != len(ch.Remove) {
			t.Errorf("the receipt %+v for %d messages", r, len(ch.Remove))
		}
		return err
	}
}

func TestContractFindsTheStoresFaults(t *testing.T) {
	two := []string{"a", "b"}
	three := upstream.Changes{Remove: []int{0, 1, 2}}
	var nilError *upstream.Error
	for _, tt := range []struct {
		name string
		f    fake
		do   func(upstream.Maildrop) error
		want string
	}{
		{"login_error_of_a_stranger", fake{loginErr: io.ErrUnexpectedEOF}, nil, "an error of type *errors.errorString: unexpected EOF"},
		{"login_error_wrapped", fake{loginErr: fmt.Errorf("x: %w", good)}, nil, "an error of type *fmt.wrapError"},
		{"login_error_that_is_a_nil_pointer", fake{loginErr: nilError}, nil, "nil *upstream.Error"},
		{"login_gives_nothing", fake{noAccount: true}, nil, "neither an account nor an error"},
		{"key_is_empty", fake{keys: []string{""}}, nil, "the key is empty"},
		{"key_changes", fake{keys: []string{"a", "b"}}, nil, `the key was "a" at login and is "b" now`},
		{"open_error_of_a_stranger", fake{openErr: io.EOF}, nil, "an error of type"},
		{"open_error_of_no_kind", fake{openErr: &upstream.Error{Kind: 99, Op: "open"}}, nil, "an error of kind 99"},
		{"open_error_of_no_operation", fake{openErr: &upstream.Error{Kind: upstream.Busy}}, nil, `operation ""`},
		{"open_gives_nothing", fake{noMaildrop: true}, nil, "neither a maildrop nor an error"},
		{"size_below_0", fake{ids: two, size: -1}, nil, "the size of message 0 is -1"},
		{"unique_id_empty", fake{ids: []string{"a", ""}}, nil, `the unique-id of message 1 is ""`},
		{"unique_id_with_a_space", fake{ids: []string{"a b"}}, nil, `the unique-id of message 0 is "a b"`},
		{"unique_id_too_long", fake{ids: []string{strings.Repeat("a", 71)}}, nil, "the unique-id of message 0"},
		{"unique_id_twice", fake{ids: []string{"a", "b", "c", "b", "d"}}, nil, `messages 1 and 3 share the unique-id "b"`},
		{"unique_id_twice_in_a_row", fake{ids: []string{"a", "b", "b"}}, nil, `messages 1 and 2 share the unique-id "b"`},
		{"unique_id_twice_shorter_first", fake{ids: []string{"9", "10", "9"}}, nil, `messages 0 and 2 share the unique-id "9"`},
		{"retrieve_error_of_a_stranger", fake{ids: two, retrieveErr: io.EOF}, read(t), "an error of type"},
		{"retrieve_gives_nothing", fake{ids: two, noBody: true}, read(t), "neither a body nor an error"},
		{"octets_below_minus_1", fake{ids: two, octets: -2}, read(t), "a body of -2 octets"},
		{"body_too_short", fake{ids: two, octets: 4, read: pieces(io.EOF, "abc")}, read(t), "4 octets were announced and the body ends well after 3"},
		{"body_too_long", fake{ids: two, octets: 4, read: pieces(io.EOF, "abc", "de")}, read(t), "4 octets were announced and 5 came"},
		{"read_error_of_a_stranger", fake{ids: two, octets: 4, read: pieces(io.ErrUnexpectedEOF, "abc")}, read(t), "an error of type"},
		{"read_of_too_much", fake{ids: two, octets: -1, read: func(p []byte) (int, error) { return len(p) + 1, nil }}, read(t), "octets for a buffer of"},
		{"read_of_less_than_nothing", fake{ids: two, octets: -1, read: func(p []byte) (int, error) { return -1, nil }}, read(t), "-1 octets"},
		{"read_never_gives_anything", fake{ids: two, octets: -1, read: func(p []byte) (int, error) { return 0, nil }}, read(t), "100 reads in a row gave nothing"},
		{"receipt_too_small", fake{ids: []string{"a", "b", "c"}, receipt: upstream.Receipt{Removed: 2}}, update(t, three), "the receipt {Removed:2 Missing:0 Kept:0} for 3 messages"},
		{"receipt_too_large", fake{ids: []string{"a", "b", "c"}, receipt: upstream.Receipt{Removed: 2, Missing: 2}}, update(t, three), "for 3 messages"},
		{"receipt_below_0", fake{ids: []string{"a", "b", "c"}, receipt: upstream.Receipt{Removed: 4, Kept: -1}}, update(t, three), "for 3 messages"},
		{"no_receipt_beside_an_error", fake{ids: []string{"a", "b", "c"}, updateErr: good}, update(t, three), "for 3 messages"},
		{"update_error_of_a_stranger", fake{ids: two, updateErr: io.EOF}, update(t, upstream.Changes{}), "an error of type"},
		{"close_error_of_a_stranger", fake{closeErr: io.EOF}, nil, "an error of type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := use(t, &tt.f, tt.do)
			wantError(t, "the session", err, upstream.Internal, ": contract: ")
			wantError(t, "the session", err, upstream.Internal, tt.want)
		})
	}
}

// The cause stays in the chain, for the log.
func TestContractKeepsTheCause(t *testing.T) {
	for name, f := range map[string]fake{
		"stranger": {loginErr: fmt.Errorf("x: %w", io.ErrClosedPipe)},
		"receipt":  {ids: []string{"a"}, updateErr: &upstream.Error{Kind: upstream.Unavailable, Op: "update", Err: io.ErrClosedPipe}},
	} {
		t.Run(name, func(t *testing.T) {
			err := use(t, &f, update(t, upstream.Changes{Remove: []int{0}}))
			if !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%v has lost its cause", err)
			}
			if e, _ := errors.AsType[*upstream.Error](err); name == "receipt" && !e.Sent {
				t.Errorf("%v: Sent is not set, though the store may have changed", err)
			}
		})
	}
}

func TestContractFindsTheCallersFaults(t *testing.T) {
	retrieve := func(i int, want upstream.Extent) func(upstream.Maildrop) error {
		return func(m upstream.Maildrop) error { _, err := m.Retrieve(t.Context(), i, want); return err }
	}
	for _, tt := range []struct {
		name string
		do   func(upstream.Maildrop) error
		want string
	}{
		{"index_below_0", retrieve(-1, upstream.Extent{}), "message -1 of 3"},
		{"index_past_the_end", retrieve(3, upstream.Extent{}), "message 3 of 3"},
		{"lines_below_0", retrieve(0, upstream.Extent{Top: true, Lines: -1}), "the extent"},
		{"lines_without_top", retrieve(0, upstream.Extent{Lines: 1}), "the extent"},
		{"remove_out_of_order", update(t, upstream.Changes{Remove: []int{1, 0}}), "index 0 behind 1"},
		{"remove_twice", update(t, upstream.Changes{Remove: []int{1, 1}}), "index 1 behind 1"},
		{"remove_below_0", update(t, upstream.Changes{Remove: []int{-1}}), "index -1"},
		{"remove_past_the_end", update(t, upstream.Changes{Remove: []int{0, 3}}), "index 3 behind 0, of 3"},
		{"seen_out_of_order", update(t, upstream.Changes{Seen: []int{2, 1}}), "index 1 behind 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{ids: []string{"a", "b", "c"}}
			wantError(t, "the call", use(t, f, tt.do), upstream.Internal, "contract: "+tt.want)
			if len(f.calls) != 0 {
				t.Errorf("the call has reached the store: %q", f.calls)
			}
		})
	}
}

// What only popgate can look at must not reach a mail service: a shared secret would
// go there as a password, and a certificate as an empty one.
func TestContractStopsProofsThatNoMailServiceCanTake(t *testing.T) {
	for _, tt := range []struct {
		name   string
		proof  upstream.Proof
		secret string
		want   upstream.Kind
		text   string
	}{
		{"a_shared_secret", upstream.Shared, "tanstaaf", upstream.Internal, "contract: the client has no password for the mail service"},
		{"a_digest_that_was_wrong", upstream.Shared, "", upstream.Refused, "the client's digest is wrong"},
		{"a_certificate", upstream.External, "", upstream.Internal, "contract: the client has no password for the mail service"},
		{"a_proof_that_nobody_knows", 99, "x", upstream.Internal, "contract: the client has no password for the mail service"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wrap.Contract(&fake{}).Login(t.Context(), upstream.Credentials{User: "alice", Secret: upstream.NewSecret(tt.secret), Proof: tt.proof})
			wantError(t, "Login", err, tt.want, tt.text)
		})
	}
	for _, proof := range []upstream.Proof{upstream.Password, upstream.Bearer} {
		if _, err := wrap.Contract(&fake{}).Login(t.Context(), upstream.Credentials{User: "alice", Secret: upstream.NewSecret("x"), Proof: proof}); err != nil {
			t.Errorf("Login with proof %d: %v", proof, err)
		}
	}
}

func TestContractFindsCallsOutOfOrder(t *testing.T) {
	newFake := func() *fake { return &fake{ids: []string{"a", "b"}, octets: -1, read: pieces(io.EOF, "x")} }
	t.Run("open_twice", func(t *testing.T) {
		a, err := wrap.Contract(newFake()).Login(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		mustOpen(t, a)
		_, err = a.Open(t.Context())
		wantError(t, "Open", err, upstream.Internal, "opened twice")
	})
	t.Run("two_bodies", func(t *testing.T) {
		err := use(t, newFake(), func(m upstream.Maildrop) error {
			if _, err := m.Retrieve(t.Context(), 0, upstream.Extent{}); err != nil {
				t.Fatal(err)
			}
			_, err := m.Retrieve(t.Context(), 1, upstream.Extent{})
			return err
		})
		wantError(t, "Retrieve", err, upstream.Internal, "a body is open")
	})
	t.Run("update_with_a_body_open", func(t *testing.T) {
		f := newFake()
		err := use(t, f, func(m upstream.Maildrop) error {
			if _, err := m.Retrieve(t.Context(), 0, upstream.Extent{}); err != nil {
				t.Fatal(err)
			}
			return update(t, upstream.Changes{Remove: []int{0}})(m)
		})
		wantError(t, "Update", err, upstream.Internal, "a body is open")
		if len(f.calls) != 1 {
			t.Errorf("calls: %q", f.calls)
		}
	})
	t.Run("update_twice", func(t *testing.T) {
		err := use(t, newFake(), func(m upstream.Maildrop) error {
			if err := update(t, upstream.Changes{})(m); err != nil {
				t.Fatal(err)
			}
			return update(t, upstream.Changes{Remove: []int{0}})(m)
		})
		wantError(t, "Update", err, upstream.Internal, "updated twice")
	})
	t.Run("read_after_close", func(t *testing.T) {
		err := use(t, newFake(), func(m upstream.Maildrop) error {
			b, err := m.Retrieve(t.Context(), 0, upstream.Extent{})
			if err != nil {
				t.Fatal(err)
			}
			b.Close()
			_, err = b.Read(make([]byte, 9))
			return err
		})
		wantError(t, "Read", err, upstream.Internal, "the body is closed")
	})
	t.Run("the_list_thaws", func(t *testing.T) {
		f := newFake()
		err := use(t, f, func(m upstream.Maildrop) error {
			f.ids = f.ids[:1]
			return update(t, upstream.Changes{Remove: []int{0}})(m)
		})
		wantError(t, "Update", err, upstream.Internal, "the frozen list had 2 messages and has 1")
	})
	t.Run("the_next_body_may_follow", func(t *testing.T) {
		err := use(t, newFake(), func(m upstream.Maildrop) error {
			if err := read(t)(m); err != nil {
				return err
			}
			return read(t)(m)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkContractOpen100k(b *testing.B) {
	f := &fake{}
	for i := range 100_000 {
		f.ids = append(f.ids, fmt.Sprintf("1700000000.%d", i))
	}
	s := wrap.Contract(f)
	for b.Loop() {
		a, err := s.Login(b.Context(), alice)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.Open(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
