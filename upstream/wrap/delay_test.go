package wrap_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
	"github.com/popgate/popgate/upstream/wrap"
)

func TestLoginDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newStore(memdrop.Message{ID: "a"})
		s := wrap.LoginDelay(wrap.Lock(inner, wrap.LockOptions{Wait: -1}), time.Minute)
		visit := func(user string) error {
			a := login(t, s, user)
			defer a.Close()
			_, err := a.Open(t.Context())
			return err
		}
		holder := login(t, wrap.Limit(s, wrap.LimitOptions{}), "alice")
		mustOpen(t, holder)
		time.Sleep(59 * time.Second)
		wantError(t, "after 59 s", visit("alice"), upstream.Early, "login delay") // before the lock
		if err := visit("bob"); err != nil {
			t.Errorf("another account: %v", err)
		}
		time.Sleep(time.Second)
		wantError(t, "after a minute", visit("alice"), upstream.Busy, "") // a failure does not begin the time
		holder.Close()
		if err := visit("alice"); err != nil {
			t.Errorf("after a minute, counted from the login that succeeded: %v", err)
		}
		wantError(t, "at once", visit("alice"), upstream.Early, "")
	})
}
