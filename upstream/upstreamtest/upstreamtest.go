package upstreamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
)

// Soon is how long any call may take in the suite, cancelled or not. It is far
// above what a call needs; it bounds a test that hangs.
const Soon = 20 * time.Second

// A Harness is what the suite needs to drive one store. Its functions play
// another client of the same mailbox, one that does not go through the store;
// they are called from more than one goroutine. An error of theirs ends the
// test; one that wraps [errors.ErrUnsupported] skips it.
type Harness struct {
	// Store is what is tested.
	Store upstream.Store
	// Credentials are accepted by Store and lead to a maildrop that is empty.
	Credentials upstream.Credentials

	// Deliver adds one message at the end of the maildrop: these raw octets.
	Deliver func(ctx context.Context, body []byte) error
	// Expunge removes the message at position i, from 0, oldest first.
	Expunge func(ctx context.Context, i int) error
	// Contents returns what the mail service itself would show to a next session:
	// the raw octets of every message, oldest first. What a store has hidden or
	// moved away on purpose is not shown.
	Contents func(ctx context.Context) ([][]byte, error)

	// Seen tells which messages of Contents are marked as read. Optional.
	Seen func(ctx context.Context) ([]bool, error)
	// Cut makes the mail service end the transfer of every later body after so
	// many octets, by whatever fault. Optional.
	Cut func(after int64)
	// Down makes the mail service unreachable, open sessions included. Optional.
	Down func()
}

// Run runs the suite. It calls newHarness once for each test; what a harness
// holds is released by t.Cleanup.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, group := range [][]test{listTests, bodyTests, updateTests, endTests, faultTests} {
		for _, tt := range group {
			t.Run(tt.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*Soon)
				t.Cleanup(cancel)
				tt.run(&bench{T: t, Harness: newHarness(t), ctx: ctx})
			})
		}
	}
}

type test struct {
	name string // the rule that it checks
	run  func(*bench)
}

// bench is one test at work.
type bench struct {
	*testing.T
	Harness
	ctx context.Context
}

// soon runs f, which must return before the patience of the suite ends.
func (b *bench) soon(what string, f func()) {
	b.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timer := time.NewTimer(Soon)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		b.Fatalf("%s has not returned after %v", what, Soon)
	}
}

// must ends the test if another client's work failed.
func (b *bench) must(err error) {
	b.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		b.Skipf("not with this mail service: %v", err)
	}
	if err != nil {
		b.Fatalf("the harness: %v", err)
	}
}

func (b *bench) deliver(bodies ...string) {
	b.Helper()
	for _, body := range bodies {
		b.must(b.Deliver(b.ctx, []byte(body)))
	}
}

func (b *bench) expunge(i int) {
	b.Helper()
	b.must(b.Expunge(b.ctx, i))
}

// wantContents compares the mail service's own view with want.
func (b *bench) wantContents(want ...string) {
	b.Helper()
	list, err := b.Contents(b.ctx)
	b.must(err)
	var got []string
	for _, body := range list {
		got = append(got, string(body))
	}
	if !slices.Equal(got, want) {
		b.Errorf("the mail service shows %d messages %s, want %d: %s", len(got), brief(got), len(want), brief(want))
	}
}

// brief shows the first line of each message.
func brief(list []string) string {
	var out []string
	for _, s := range list {
		line, _, _ := strings.Cut(s, "\r\n")
		out = append(out, fmt.Sprintf("%.40q", line))
	}
	return "[" + strings.Join(out, " ") + "]"
}

// login proves the harness's user; the account is closed with the test.
func (b *bench) login() (a upstream.Account) {
	b.Helper()
	b.soon("Login", func() {
		var err error
		if a, err = b.Store.Login(b.ctx, b.Credentials); err != nil {
			b.Errorf("Login: %v", err)
			a = nil
		}
	})
	if a == nil {
		b.FailNow()
	}
	b.Cleanup(func() { a.Close() })
	return a
}

func (b *bench) open() (upstream.Account, upstream.Maildrop) {
	b.Helper()
	a := b.login()
	m, err := b.take(a)
	if err != nil {
		b.Fatalf("Open: %v", err)
	}
	return a, m
}

func (b *bench) take(a upstream.Account) (m upstream.Maildrop, err error) {
	b.Helper()
	b.soon("Open", func() { m, err = a.Open(b.ctx) })
	return m, err
}

func (b *bench) close(c io.Closer) {
	b.Helper()
	b.soon("Close", func() {
		if err := c.Close(); err != nil {
			b.wantError("Close", err)
		}
	})
}

// listing is a copy of a snapshot.
type listing struct {
	sizes []int64
	uidls []string
}

func copyOf(s upstream.Snapshot) (l listing) {
	for i := range s.Len() {
		l.sizes = append(l.sizes, s.Size(i))
		l.uidls = append(l.uidls, string(s.AppendUIDL(nil, i)))
	}
	return l
}

func (b *bench) wantListing(s upstream.Snapshot, want listing, when string) {
	b.Helper()
	got := copyOf(s)
	if !slices.Equal(got.sizes, want.sizes) || !slices.Equal(got.uidls, want.uidls) {
		b.Errorf("%s the list is %v, want %v", when, got, want)
	}
}

// session lists the maildrop in a session of its own.
func (b *bench) session() listing {
	b.Helper()
	a, m := b.open()
	defer b.close(a)
	return copyOf(m)
}

func (b *bench) retrieve(m upstream.Maildrop, i int, want upstream.Extent) (body upstream.Body, err error) {
	b.Helper()
	b.soon("Retrieve", func() { body, err = m.Retrieve(b.ctx, i, want) })
	return body, err
}

// read reads body to its end by pieces of at most size octets.
func (b *bench) read(body io.Reader, size int) (got []byte, err error) {
	b.Helper()
	b.soon("Read", func() {
		p := make([]byte, size)
		for err == nil {
			var n int
			if n, err = body.Read(p); n < 0 || n > size {
				err = fmt.Errorf("Read of %d octets returned %d", size, n)
				return
			}
			got = append(got, p[:n]...)
		}
	})
	if err == io.EOF {
		err = nil
	}
	return got, err
}

// wantBody reads message i whole and compares.
func (b *bench) wantBody(m upstream.Maildrop, i int, want string) {
	b.Helper()
	b.wantBodyBy(m, i, want, 4096)
}

func (b *bench) wantBodyBy(m upstream.Maildrop, i int, want string, size int) {
	b.Helper()
	body, err := b.retrieve(m, i, upstream.Extent{})
	if err != nil {
		b.Errorf("Retrieve(%d): %v", i, err)
		return
	}
	defer b.close(body)
	announced := body.Octets()
	got, err := b.read(body, size)
	if err != nil {
		b.Errorf("message %d ends with %v after %d of %d octets", i, err, len(got), len(want))
	}
	if !bytes.Equal(got, []byte(want)) {
		b.Errorf("message %d by %d octets: %d octets %.80q, want %d: %.80q", i, size, len(got), got, len(want), want)
	}
	if announced != -1 && announced != int64(len(got)) {
		b.Errorf("message %d: %d octets announced, %d read", i, announced, len(got))
	}
}

// wantError demands the form that every error of the hinge has, and one of
// kinds, where any are given.
func (b *bench) wantError(what string, err error, kinds ...upstream.Kind) {
	b.Helper()
	if err == nil {
		b.Errorf("%s succeeded, want an error %v", what, kinds)
		return
	}
	e, ok := err.(*upstream.Error)
	if !ok {
		b.Errorf("%s: the error is a %T, want an *upstream.Error: %v", what, err, err)
		return
	}
	if !slices.Contains(upstream.Kinds(), e.Kind) || e.Op == "" {
		b.Errorf("%s: the error has kind %d, operation %q: %v", what, e.Kind, e.Op, e)
	}
	if len(kinds) > 0 && !slices.Contains(kinds, e.Kind) {
		b.Errorf("%s: %v, want kind %v", what, err, kinds)
	}
}

// transient are the kinds that a call may end with when its context or the mail
// service ended: never Refused or Gone, which a client acts upon for good.
var transient = []upstream.Kind{upstream.Internal, upstream.Unavailable, upstream.Changed}

// message makes a small message with this subject.
func message(subject string) string {
	return "From: a@example.org\r\nSubject: " + subject + "\r\n\r\nText of " + subject + ".\r\n"
}

// large makes a message of about n octets, lines of 78.
func large(n int) string {
	line := strings.Repeat("0123456789abcdef", 5)[:76] + "\r\n"
	return "Subject: large\r\n\r\n" + strings.Repeat(line, n/len(line))
}

// fill delivers n small messages and returns them.
func (b *bench) fill(n int) []string {
	b.Helper()
	var list []string
	for i := range n {
		list = append(list, message(fmt.Sprintf("m%d", i)))
	}
	b.deliver(list...)
	return list
}
