package upstreamtest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/popgate/popgate/upstream"
)

// Login, Key and the snapshot.
var listTests = []test{
	{"a_wrong_secret_is_refused", func(b *bench) {
		for _, secret := range []string{"", "canary-not-the-secret"} {
			c := b.Credentials
			c.Secret = upstream.NewSecret(secret)
			var a upstream.Account
			var err error
			b.soon("Login", func() { a, err = b.Store.Login(b.ctx, c) })
			b.wantError("Login with a wrong secret", err, upstream.Refused)
			if err == nil {
				b.close(a)
			} else if secret != "" && strings.Contains(err.Error(), secret) {
				b.Errorf("the error tells the secret: %v", err)
			}
		}
		b.session()
	}},
	{"an_unknown_user_is_refused", func(b *bench) {
		c := b.Credentials
		c.User = "nobody-of-that-name"
		var err error
		b.soon("Login", func() { _, err = b.Store.Login(b.ctx, c) })
		b.wantError("Login of an unknown user", err, upstream.Refused)
	}},
	{"the_key_is_stable", func(b *bench) {
		a := b.login()
		key := a.Key()
		if _, err := b.take(a); err != nil {
			b.Fatalf("Open: %v", err)
		}
		if again := a.Key(); key == "" || again != key {
			b.Errorf("Key() = %q, after Open %q", key, again)
		}
		b.close(a)
		a = b.login()
		if again := a.Key(); again != key {
			b.Errorf("Key() = %q, in the next session %q", key, again)
		}
	}},
	{"an_empty_maildrop", func(b *bench) {
		a, m := b.open()
		if m.Len() != 0 {
			b.Errorf("Len() = %d, want 0", m.Len())
		}
		b.update(m, upstream.Changes{}, upstream.Receipt{})
		b.close(a)
		b.wantContents()
	}},
	{"the_list_has_the_order_of_delivery_and_true_sizes", func(b *bench) {
		all := append(b.fill(3), large(10_000))
		b.deliver(all[3])
		_, m := b.open()
		if m.Len() != len(all) {
			b.Fatalf("Len() = %d, want %d", m.Len(), len(all))
		}
		for i, body := range all {
			if got := m.Size(i); got != int64(len(body)) {
				b.Errorf("Size(%d) = %d, want %d", i, got, len(body))
			}
		}
	}},
	{"unique_ids_are_legal_and_unique", func(b *bench) {
		b.fill(20)
		b.deliver(message("twin"), message("twin"))
		_, m := b.open()
		seen := map[string]int{}
		for i := range m.Len() {
			id := m.AppendUIDL(nil, i)
			if !upstream.ValidUIDL(id) {
				b.Errorf("message %d: %q is no legal unique-id (RFC 1939 section 7)", i, id)
			}
			if j, ok := seen[string(id)]; ok {
				b.Errorf("messages %d and %d share the unique-id %q", j, i, id)
			}
			seen[string(id)] = i
			if got := m.AppendUIDL([]byte("7 "), i); string(got) != "7 "+string(id) {
				b.Errorf("AppendUIDL(%q, %d) = %q", "7 ", i, got)
			}
		}
	}},
	{"unique_ids_last", func(b *bench) {
		b.fill(4)
		first := b.session()
		b.wantSame(b.session(), first)
		b.expunge(1)
		b.deliver(message("late"))
		third := b.session()
		want := []string{first.uidls[0], first.uidls[2], first.uidls[3]}
		if len(third.uidls) != 4 || !slices.Equal(third.uidls[:3], want) {
			b.Errorf("after one was removed and one came: %q, want %q and a new one", third.uidls, want)
		}
		for _, id := range third.uidls[min(3, len(third.uidls)):] {
			if slices.Contains(first.uidls, id) {
				b.Errorf("the new message has the unique-id %q of an old one", id)
			}
		}
	}},
	{"a_unique_id_never_comes_back", func(b *bench) {
		all := b.fill(3)
		a, m := b.open()
		old := copyOf(m)
		b.update(m, upstream.Changes{Remove: []int{0, 1, 2}}, upstream.Receipt{Removed: 3})
		b.close(a)
		b.deliver(all...)
		for _, id := range b.session().uidls {
			if slices.Contains(old.uidls, id) {
				b.Errorf("an equal message that came later has the unique-id %q again", id)
			}
		}
	}},
	{"the_list_is_frozen", func(b *bench) {
		all := b.fill(4)
		a, m := b.open()
		want := copyOf(m)
		b.deliver(message("late"))
		b.wantListing(m, want, "after a delivery")
		b.expunge(0)
		b.wantListing(m, want, "after an expunge")
		b.wantBody(m, 2, all[2])
		b.wantListing(m, want, "after a message was read")
		b.wantBody(m, 3, all[3])
		b.close(a)
		if got := b.session(); len(got.uidls) != 4 {
			b.Errorf("the next session has %d messages, want 4", len(got.uidls))
		}
	}},
	{"the_list_is_frozen_while_others_work", func(b *bench) {
		all := b.fill(6)
		_, m := b.open()
		want := copyOf(m)
		stop := make(chan struct{})
		var other error
		var wg sync.WaitGroup
		wg.Go(func() { // takes the first, which nobody reads, and then what it brought itself
			for round := range 50 {
				if other = b.Deliver(b.ctx, []byte(message("late"))); other != nil {
					return
				}
				victim := 0
				if round > 0 {
					victim = len(all) - 1
				}
				if other = b.Expunge(b.ctx, victim); other != nil {
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		for range 5 {
			for i := 1; i < len(all); i++ {
				b.wantBody(m, i, all[i])
			}
			b.wantListing(m, want, "meanwhile")
		}
		close(stop)
		wg.Wait()
		b.must(other)
		b.wantListing(m, want, "afterwards")
	}},
	{"an_index_out_of_range_panics", func(b *bench) {
		b.fill(2)
		_, m := b.open()
		for _, i := range []int{-1, 2} {
			for name, call := range map[string]func(){
				"Size":       func() { m.Size(i) },
				"AppendUIDL": func() { m.AppendUIDL(nil, i) },
			} {
				if !panics(call) {
					b.Errorf("%s(%d) of 2 messages does not panic", name, i)
				}
			}
		}
	}},
	{"the_contexts_of_earlier_calls_may_end", func(b *bench) {
		all := b.fill(1)
		once := func(f func(context.Context)) {
			ctx, cancel := context.WithCancel(b.ctx)
			defer cancel()
			f(ctx)
		}
		var a upstream.Account
		var m upstream.Maildrop
		var err error
		b.soon("Login", func() { once(func(ctx context.Context) { a, err = b.Store.Login(ctx, b.Credentials) }) })
		if err != nil {
			b.Fatalf("Login: %v", err)
		}
		defer a.Close()
		b.soon("Open", func() { once(func(ctx context.Context) { m, err = a.Open(ctx) }) })
		if err != nil {
			b.Fatalf("Open: %v", err)
		}
		b.wantBody(m, 0, all[0])
		b.update(m, upstream.Changes{Remove: []int{0}}, upstream.Receipt{Removed: 1})
	}},
}

func (b *bench) wantSame(got, want listing) {
	b.Helper()
	if !slices.Equal(got.uidls, want.uidls) || !slices.Equal(got.sizes, want.sizes) {
		b.Errorf("the next session lists %v, want %v", got, want)
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}
