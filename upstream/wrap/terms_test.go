package wrap_test

import (
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/wrap"
)

func TestTermsReachTheEngineThroughEveryDecorator(t *testing.T) {
	want := upstream.Terms{ReadOnly: true, MarkSeen: true}
	s := contract(throttle(loginDelay(sessions(lock(limit(wrap.Terms(contract(newStore()), want)))))))
	a := login(t, s, "alice")
	defer a.Close()
	if got := a.Terms(); got != want {
		t.Errorf("terms %+v, want %+v", got, want)
	}
}
