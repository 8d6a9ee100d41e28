package wrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/popgate/popgate/upstream"
)

// Contract checks on every call that the caller and the store keep the promises
// of package upstream. A violation becomes an error of kind Internal whose text
// begins with "contract:" and says which promise was broken; a call with bad
// arguments does not reach the store. After an Update whose receipt does not
// balance nothing is certain: everything counts as Kept, and Sent is set.
//
// Credentials that no mail service can take stop here, since every store has a
// Contract around it: what popgate alone can look at was to be replaced on the way.
//
// It costs one pass over the list at Open, with 16 octets a message until Open
// returns, and nothing that grows with the mailbox afterwards.
func Contract(s upstream.Store) upstream.Store { return &contractStore{s} }

type contractStore struct{ inner upstream.Store }

func (s *contractStore) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	if !c.Proof.ForStore() {
		return nil, checkProof(c)
	}
	a, err := s.inner.Login(ctx, c)
	if err != nil {
		return nil, checkError("login", err)
	}
	if a == nil {
		return nil, violation("login", "neither an account nor an error")
	}
	return &contractAccount{inner: a, key: a.Key()}, nil
}

// checkProof says why credentials stop here that no mail service can take.
func checkProof(c upstream.Credentials) error {
	if c.Proof == upstream.Shared && c.Secret.Reveal() == "" {
		return &upstream.Error{Kind: upstream.Refused, Op: "login", Err: errors.New("the client's digest is wrong, or it has no shared secret")}
	}
	return violation("login", "the client has no password for the mail service, and nobody put one in place: it needs a local account with an upstream-password")
}

type contractAccount struct {
	inner  upstream.Account
	key    string
	opened bool
}

func (a *contractAccount) Key() string { return a.inner.Key() }

func (a *contractAccount) Terms() upstream.Terms { return a.inner.Terms() }

func (a *contractAccount) Unwrap() upstream.Account { return a.inner }

func (a *contractAccount) Close() error { return checkError("close", a.inner.Close()) }

func (a *contractAccount) Open(ctx context.Context) (upstream.Maildrop, error) {
	if a.opened {
		return nil, violation("open", "opened twice")
	}
	a.opened = true
	if a.key == "" {
		return nil, violation("open", "the key is empty")
	}
	if key := a.inner.Key(); key != a.key {
		return nil, violation("open", "the key was %q at login and is %q now", a.key, key)
	}
	m, err := a.inner.Open(ctx)
	if err != nil {
		return nil, checkError("open", err)
	}
	if m == nil {
		return nil, violation("open", "neither a maildrop nor an error")
	}
	if err := checkSnapshot(m); err != nil {
		return nil, err
	}
	return &contractMaildrop{Snapshot: m, inner: m, len: m.Len()}, nil
}

// checkSnapshot demands sizes of 0 or more and legal, unique unique-ids
// (RFC 1939 section 7).
func checkSnapshot(s upstream.Snapshot) error {
	n := s.Len()
	if n < 0 {
		return violation("open", "Len is %d", n)
	}
	// Most stores have ids that grow, and what grows is unique.
	grow := true
	var ids [2][]byte // of the present message and of the one before
	for i := range n {
		if size := s.Size(i); size < 0 {
			return violation("open", "the size of message %d is %d", i, size)
		}
		last := ids[(i+1)%2]
		id := s.AppendUIDL(ids[i%2][:0], i)
		if ids[i%2] = id; !upstream.ValidUIDL(id) {
			return violation("open", "the unique-id of message %d is %.100q", i, id)
		}
		grow = grow && (len(last) < len(id) || len(last) == len(id) && bytes.Compare(last, id) < 0)
	}
	if grow {
		return nil
	}
	return checkUnique(s)
}

// checkUnique demands that no two messages share a unique-id.
func checkUnique(s upstream.Snapshot) error {
	n := s.Len()
	sums := make([]uint64, 0, n) // a hash for each id: the ids of a large maildrop take too much memory
	seed := maphash.MakeSeed()
	var id []byte
	for i := range n {
		id = s.AppendUIDL(id[:0], i)
		sums = append(sums, maphash.Bytes(seed, id))
	}
	slices.Sort(sums)
	twice := map[uint64]bool{}
	for k := 1; k < n; k++ {
		if sums[k] == sums[k-1] {
			twice[sums[k]] = true
		}
	}
	if len(twice) == 0 {
		return nil
	}
	first := map[string]int{} // message by id, of those whose hash is there twice
	for i := range n {
		if id = s.AppendUIDL(id[:0], i); !twice[maphash.Bytes(seed, id)] {
			continue
		}
		if j, ok := first[string(id)]; ok {
			return violation("open", "messages %d and %d share the unique-id %q", j, i, id)
		}
		first[string(id)] = i
	}
	return nil
}

type contractMaildrop struct {
	upstream.Snapshot
	inner    upstream.Maildrop
	len      int // at Open
	bodyOpen bool
	updated  bool
}

// ready checks what every call but those of Snapshot demands.
func (m *contractMaildrop) ready(op string) error {
	if m.bodyOpen {
		return violation(op, "a body is open")
	}
	if n := m.Len(); n != m.len {
		return violation(op, "the frozen list had %d messages and has %d", m.len, n)
	}
	return nil
}

func (m *contractMaildrop) Retrieve(ctx context.Context, i int, want upstream.Extent) (upstream.Body, error) {
	const op = "retrieve"
	if err := m.ready(op); err != nil {
		return nil, err
	}
	if i < 0 || i >= m.len {
		return nil, violation(op, "message %d of %d", i, m.len)
	}
	if want.Lines < 0 || want.Lines > 0 && !want.Top {
		return nil, violation(op, "the extent %+v", want)
	}
	b, err := m.inner.Retrieve(ctx, i, want)
	if err != nil {
		return nil, checkError(op, err)
	}
	if b == nil {
		return nil, violation(op, "neither a body nor an error")
	}
	if n := b.Octets(); n < -1 {
		b.Close()
		return nil, violation(op, "a body of %d octets", n)
	}
	m.bodyOpen = true
	return &contractBody{inner: b, maildrop: m}, nil
}

func (m *contractMaildrop) Update(ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
	const op = "update"
	n := len(ch.Remove)
	none := upstream.Receipt{Kept: n}
	if err := m.ready(op); err != nil {
		return none, err
	}
	if m.updated {
		return none, violation(op, "updated twice")
	}
	for _, list := range [][]int{ch.Remove, ch.Seen} {
		last := -1
		for _, i := range list {
			if i <= last || i >= m.len {
				return none, violation(op, "index %d behind %d, of %d messages", i, last, m.len)
			}
			last = i
		}
	}
	m.updated = true
	r, err := m.inner.Update(ctx, ch)
	err = checkError(op, err)
	if r.Removed < 0 || r.Missing < 0 || r.Kept < 0 || r.Removed+r.Missing+r.Kept != n {
		cause := fmt.Errorf("contract: the receipt %+v for %d messages", r, n)
		if err != nil {
			cause = fmt.Errorf("%w, beside: %w", cause, err)
		}
		return none, &upstream.Error{Kind: upstream.Internal, Op: op, Sent: true, Err: cause}
	}
	return r, err
}
