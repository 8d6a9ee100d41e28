package upstreamtest

import (
	"context"
	"io"

	"github.com/popgate/popgate/upstream"
)

// How sessions, bodies and calls end.
var endTests = []test{
	{"close_without_open", func(b *bench) {
		all := b.fill(2)
		a := b.login()
		b.close(a)
		b.close(a)
		b.wantSession(all)
	}},
	{"close_twice", func(b *bench) {
		all := b.fill(2)
		a, _ := b.open()
		b.close(a)
		b.close(a)
		b.wantSession(all)
	}},
	{"close_after_a_failed_open", func(b *bench) {
		all := b.fill(2)
		a := b.login()
		var err error
		b.soon("Open", func() { _, err = a.Open(cancelled(b.ctx)) })
		b.wantError("Open with a context that has ended", err, transient...)
		b.close(a)
		b.close(a)
		b.wantSession(all)
	}},
	{"an_account_left_open_after_a_failed_open_holds_nothing_back", func(b *bench) {
		all := b.fill(2)
		a := b.login()
		var err error
		b.soon("Open", func() { _, err = a.Open(cancelled(b.ctx)) })
		b.wantError("Open with a context that has ended", err, transient...)
		b.wantSession(all) // a is still open
		b.close(a)
	}},
	{"close_after_gone", func(b *bench) {
		all := b.fill(2)
		a, m := b.open()
		b.expunge(0)
		_, err := b.retrieve(m, 0, upstream.Extent{})
		b.wantError("Retrieve of a removed message", err, upstream.Gone)
		b.close(a)
		b.close(a)
		b.wantSession(all[1:])
	}},
	{"close_after_update", func(b *bench) {
		all := b.fill(2)
		a, m := b.open()
		b.update(m, upstream.Changes{Remove: []int{0}}, upstream.Receipt{Removed: 1})
		b.close(a)
		b.close(a)
		b.wantSession(all[1:])
	}},
	{"close_during_a_body", func(b *bench) {
		whole := large(1 << 20)
		b.deliver(whole)
		a, m := b.open()
		body := b.begin(m, b.ctx, whole)
		b.close(a)
		b.wantEnd(body, whole)
		b.close(body)
		b.close(body)
		b.close(a)
		b.wantSession([]string{whole})
	}},
	{"close_by_another_goroutine_ends_a_body", func(b *bench) {
		whole := large(4 << 20)
		b.deliver(whole)
		a, m := b.open()
		body := b.begin(m, b.ctx, whole)
		done := make(chan error, 1)
		go func() { done <- a.Close() }()
		b.wantEnd(body, whole)
		if err := <-done; err != nil {
			b.wantError("Close", err)
		}
		b.close(body)
		b.wantSession([]string{whole})
	}},
	{"calls_after_close_fail", func(b *bench) {
		all := b.fill(2)
		a, m := b.open()
		want := copyOf(m)
		b.close(a)
		b.wantListing(m, want, "after Close")
		body, err := b.retrieve(m, 0, upstream.Extent{})
		b.wantError("Retrieve after Close", err, transient...)
		if err == nil {
			b.close(body)
		}
		var r upstream.Receipt
		b.soon("Update", func() { r, err = m.Update(b.ctx, upstream.Changes{Remove: []int{0}}) })
		b.wantError("Update after Close", err, transient...)
		if want := (upstream.Receipt{Kept: 1}); r != want {
			b.Errorf("Update after Close: %+v, want %+v", r, want)
		}
		b.wantSession(all)
	}},
	{"open_after_close_fails", func(b *bench) {
		all := b.fill(1)
		a := b.login()
		b.close(a)
		_, err := b.take(a)
		b.wantError("Open after Close", err, transient...)
		b.wantSession(all)
	}},
	{"a_body_left_in_the_middle", func(b *bench) {
		whole := large(1 << 20)
		all := []string{whole, message("small"), whole}
		b.deliver(all...)
		a, m := b.open()
		for range 3 {
			body := b.begin(m, b.ctx, whole)
			b.close(body)
			b.close(body)
			b.wantBody(m, 1, all[1])
		}
		body, err := b.retrieve(m, 0, upstream.Extent{}) // not one octet read
		if err != nil {
			b.Fatalf("Retrieve: %v", err)
		}
		b.close(body)
		b.wantBody(m, 2, whole)
		b.update(m, upstream.Changes{Remove: []int{1}}, upstream.Receipt{Removed: 1})
		b.close(a)
		b.wantContents(whole, whole)
	}},
	{"login_cancelled_before_it_began", func(b *bench) {
		var a upstream.Account
		var err error
		b.soon("Login", func() { a, err = b.Store.Login(cancelled(b.ctx), b.Credentials) })
		b.wantError("Login with a context that has ended", err, transient...)
		if err == nil {
			b.close(a)
		}
		b.wantSession(nil)
	}},
	{"retrieve_cancelled_before_it_began", func(b *bench) {
		all := b.fill(2)
		a, m := b.open()
		var body upstream.Body
		var err error
		b.soon("Retrieve", func() { body, err = m.Retrieve(cancelled(b.ctx), 0, upstream.Extent{}) })
		b.wantError("Retrieve with a context that has ended", err, transient...)
		if err == nil {
			b.close(body)
		}
		b.close(a)
		b.wantSession(all)
	}},
	{"cancellation_in_the_middle_of_a_body", func(b *bench) {
		whole := large(4 << 20)
		b.deliver(whole, message("small"))
		a, m := b.open()
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		body := b.begin(m, ctx, whole)
		cancel()
		got, err := b.read(body, 4096)
		b.wantError("Read after the context has ended", err, transient...)
		if len(got) > 0 && string(got) != whole[1000:1000+len(got)] {
			b.Errorf("the %d octets after the cancellation are not those of the message", len(got))
		}
		b.close(body)
		b.close(body)
		// The session may have lost its mail service with the body. It says so, or
		// goes on.
		if next, err := b.retrieve(m, 1, upstream.Extent{}); err != nil {
			b.wantError("Retrieve after a cancelled body", err, transient...)
		} else {
			b.close(next)
		}
		b.close(a)
		b.wantSession([]string{whole, message("small")})
	}},
}

// begin opens message 0 and reads the first 1000 octets of it.
func (b *bench) begin(m upstream.Maildrop, ctx context.Context, whole string) upstream.Body {
	b.Helper()
	var body upstream.Body
	var err error
	b.soon("Retrieve", func() { body, err = m.Retrieve(ctx, 0, upstream.Extent{}) })
	if err != nil {
		b.Fatalf("Retrieve: %v", err)
	}
	p := make([]byte, 1000)
	b.soon("Read", func() { _, err = io.ReadFull(body, p) })
	if err != nil || string(p) != whole[:1000] {
		b.close(body)
		b.Fatalf("the first 1000 octets: %v, %.80q", err, p)
	}
	return body
}

// wantEnd reads on in a body whose account was closed: it ends in an error, or
// in the whole of the message.
func (b *bench) wantEnd(body upstream.Body, whole string) {
	b.Helper()
	got, err := b.read(body, 4096)
	switch {
	case err != nil:
		b.wantError("Read", err, transient...)
	case string(got) != whole[1000:]:
		b.Errorf("the body ends well after %d of %d octets", 1000+len(got), len(whole))
	}
}

// wantSession checks that a new session finds these messages, all readable:
// whatever went before holds nothing back.
func (b *bench) wantSession(want []string) {
	b.Helper()
	b.wantContents(want...)
	a, m := b.open()
	defer b.close(a)
	if m.Len() != len(want) {
		b.Errorf("the next session has %d messages, want %d", m.Len(), len(want))
		return
	}
	for i, body := range want {
		b.wantBody(m, i, body)
	}
}
