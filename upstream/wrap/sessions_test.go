package wrap_test

import (
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/wrap"
)

func TestSessionsOfOneAccount(t *testing.T) {
	s := wrap.Sessions(newStore(), 2)
	first, second, over := login(t, s, "alice"), login(t, s, "alice"), login(t, s, "alice")
	other := login(t, s, "bob")
	defer other.Close()
	mustOpen(t, first)
	mustOpen(t, other)
	_, err := over.Open(t.Context())
	wantError(t, "the third", err, upstream.Busy, "2 sessions")
	over.Close()
	over.Close() // frees nobody else's place
	again := login(t, s, "alice")
	_, err = again.Open(t.Context())
	wantError(t, "beside two that are open", err, upstream.Busy, "")
	again.Close()
	first.Close()
	first.Close()
	third, fourth := login(t, s, "alice"), login(t, s, "alice")
	mustOpen(t, third)
	_, err = fourth.Open(t.Context())
	wantError(t, "beside two that are open", err, upstream.Busy, "")
	for _, a := range []upstream.Account{second, third, fourth} {
		a.Close()
	}
}
