package upstreamtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
)

// A mail service that fails; for harnesses that can make it fail.
var faultTests = []test{
	{"a_body_that_is_cut_never_ends_well", func(b *bench) {
		if b.Cut == nil {
			b.Skip("the harness cannot cut a body")
		}
		whole := large(100_000)
		for _, after := range []int64{0, 1, 4096, int64(len(whole)) - 1} {
			b.Run(fmt.Sprintf("after_%d", after), func(t *testing.T) {
				b := &bench{T: t, Harness: b.Harness, ctx: b.ctx}
				b.deliver(whole)
				a, m := b.open()
				i := m.Len() - 1
				b.Cut(after)
				b.wantHonest(m, i, whole)
				b.close(a)
			})
		}
	}},
	{"a_service_that_is_down_is_never_a_wrong_secret", func(b *bench) {
		if b.Down == nil {
			b.Skip("the harness cannot take the mail service down")
		}
		b.Down()
		var a upstream.Account
		var err error
		b.soon("Login", func() { a, err = b.Store.Login(b.ctx, b.Credentials) })
		if err == nil { // a store may prove nothing before Open
			_, err = b.take(a)
			b.close(a)
		}
		b.wantError("Login and Open of a service that is down", err, upstream.Unavailable)
	}},
	{"a_service_that_goes_down_in_a_session", func(b *bench) {
		if b.Down == nil {
			b.Skip("the harness cannot take the mail service down")
		}
		whole := large(100_000)
		b.deliver(whole, message("small"))
		a, m := b.open()
		want := copyOf(m)
		b.Down()
		b.wantHonest(m, 0, whole)
		b.wantListing(m, want, "after the mail service went down")
		b.close(a)
		b.close(a)
	}},
	{"an_update_of_a_service_that_is_down_balances", func(b *bench) {
		if b.Down == nil {
			b.Skip("the harness cannot take the mail service down")
		}
		b.fill(3)
		a, m := b.open()
		b.Down()
		var r upstream.Receipt
		var err error
		b.soon("Update", func() { r, err = m.Update(b.ctx, upstream.Changes{Remove: []int{0, 2}}) })
		b.wantError("Update of a service that is down", err, upstream.Unavailable)
		if want := (upstream.Receipt{Kept: 2}); r != want {
			b.Errorf("Update of a service that is down: %+v, want %+v", r, want)
		}
		b.close(a)
	}},
}

// wantHonest reads message i of a service at fault: the whole of it and a good
// end, or a beginning of it and an error that says to try again.
func (b *bench) wantHonest(m upstream.Maildrop, i int, whole string) {
	b.Helper()
	body, err := b.retrieve(m, i, upstream.Extent{})
	if err != nil {
		b.wantError("Retrieve", err, transient...)
		return
	}
	defer b.close(body)
	got, err := b.read(body, 1000)
	switch {
	case err != nil:
		b.wantError("Read", err, transient...)
		if !strings.HasPrefix(whole, string(got)) {
			b.Errorf("the %d octets that were read are no beginning of the message", len(got))
		}
	case string(got) != whole:
		b.Errorf("the body ends well after %d of %d octets", len(got), len(whole))
	}
}
