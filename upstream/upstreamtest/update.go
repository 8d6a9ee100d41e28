package upstreamtest

import (
	"context"
	"slices"

	"github.com/popgate/popgate/upstream"
)

// UPDATE.
var updateTests = func() []test {
	var list []test
	for _, set := range []struct {
		name   string
		n      int
		remove func(i int) bool
	}{
		{"none", 6, func(int) bool { return false }},
		{"first", 6, func(i int) bool { return i == 0 }},
		{"last", 6, func(i int) bool { return i == 5 }},
		{"holes", 6, func(i int) bool { return i == 0 || i == 2 || i == 5 }},
		{"run", 6, func(i int) bool { return 2 <= i && i <= 4 }},
		{"all_but_one", 6, func(i int) bool { return i != 3 }},
		{"all", 6, func(int) bool { return true }},
		{"every_second_of_many", 150, func(i int) bool { return i%2 == 1 }},
	} {
		list = append(list, test{"update_removes_exactly/" + set.name, func(b *bench) {
			all := b.fill(set.n)
			a, m := b.open()
			before := copyOf(m)
			var ch upstream.Changes
			var left, leftIDs []string
			for i := range all {
				if set.remove(i) {
					ch.Remove = append(ch.Remove, i)
				} else {
					left, leftIDs = append(left, all[i]), append(leftIDs, before.uidls[i])
				}
			}
			given := slices.Clone(ch.Remove)
			b.update(m, ch, upstream.Receipt{Removed: len(ch.Remove)})
			if !slices.Equal(ch.Remove, given) {
				b.Error("Update changed the list that it was given")
			}
			b.wantListing(m, before, "after Update")
			b.close(a)
			b.wantContents(left...)
			if got := b.session().uidls; !slices.Equal(got, leftIDs) {
				b.Errorf("the next session lists %q, want %q", got, leftIDs)
			}
		}})
	}
	return append(list,
		test{"update_spares_what_came_later", func(b *bench) {
			all := b.fill(3)
			a, m := b.open()
			b.deliver(message("late"))
			b.update(m, upstream.Changes{Remove: []int{0, 1, 2}}, upstream.Receipt{Removed: len(all)})
			b.close(a)
			b.wantContents(message("late"))
		}},
		test{"messages_already_gone_are_missing", func(b *bench) {
			all := b.fill(5)
			a, m := b.open()
			b.expunge(3)
			b.expunge(1)
			b.update(m, upstream.Changes{Remove: []int{0, 1, 3}}, upstream.Receipt{Removed: 1, Missing: 2})
			b.close(a)
			b.wantContents(all[2], all[4])
		}},
		test{"all_already_gone", func(b *bench) {
			b.fill(2)
			a, m := b.open()
			b.expunge(0)
			b.expunge(0)
			b.update(m, upstream.Changes{Remove: []int{0, 1}}, upstream.Receipt{Missing: 2})
			b.close(a)
			b.wantContents()
		}},
		test{"update_after_reading", func(b *bench) {
			all := b.fill(3)
			a, m := b.open()
			for i := range all {
				b.wantBody(m, i, all[i])
			}
			b.update(m, upstream.Changes{Remove: []int{1}, Seen: []int{0, 1}}, upstream.Receipt{Removed: 1})
			b.close(a)
			b.wantContents(all[0], all[2])
			b.wantSeen(true, false)
		}},
		test{"seen_removes_nothing", func(b *bench) {
			all := b.fill(3)
			a, m := b.open()
			b.expunge(2)
			b.update(m, upstream.Changes{Seen: []int{1, 2}}, upstream.Receipt{})
			b.close(a)
			b.wantContents(all[0], all[1])
			b.wantSeen(false, true)
		}},
		test{"nothing_is_removed_without_update", func(b *bench) {
			all := b.fill(3)
			for _, use := range []func(upstream.Maildrop){
				func(upstream.Maildrop) {},
				func(m upstream.Maildrop) { b.wantBody(m, 0, all[0]) },
			} {
				a, m := b.open()
				use(m)
				b.close(a)
				b.wantContents(all...)
			}
		}},
		test{"an_update_cancelled_before_it_began_removes_nothing", func(b *bench) {
			all := b.fill(3)
			a, m := b.open()
			var r upstream.Receipt
			var err error
			b.soon("Update", func() { r, err = m.Update(cancelled(b.ctx), upstream.Changes{Remove: []int{0, 1}}) })
			b.wantError("Update with a context that has ended", err, transient...)
			if want := (upstream.Receipt{Kept: 2}); r != want {
				b.Errorf("Update with a context that has ended: %+v, want %+v", r, want)
			}
			b.close(a)
			b.wantContents(all...)
		}},
	)
}()

// update applies ch, which must succeed with this receipt.
func (b *bench) update(m upstream.Maildrop, ch upstream.Changes, want upstream.Receipt) {
	b.Helper()
	var got upstream.Receipt
	var err error
	b.soon("Update", func() { got, err = m.Update(b.ctx, ch) })
	if err != nil || got != want {
		b.Errorf("Update(%v) = %+v, %v; want %+v, no error", ch, got, err, want)
	}
}

// wantSeen compares which messages are marked as read, where the harness can
// tell.
func (b *bench) wantSeen(want ...bool) {
	b.Helper()
	if b.Seen == nil {
		b.Log("not checked: the harness cannot tell what was marked as read")
		return
	}
	got, err := b.Seen(b.ctx)
	b.must(err)
	if !slices.Equal(got, want) {
		b.Errorf("marked as read: %v, want %v", got, want)
	}
}

func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}
