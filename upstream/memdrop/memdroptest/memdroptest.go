// Package memdroptest gives the conformance suite a mail service in memory: for
// package memdrop itself, and for every decorator, which is tested around a
// memdrop store.
//
// Each harness has a store of its own, which nothing else uses. The package is
// imported by tests alone.
package memdroptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

const user, password = "alice", "a secret of alice"

// Harness makes a harness around a new memdrop store. The suite sees what
// decorate returns; nil: the store itself. At the end of the test every account
// and every body must have been closed.
func Harness(t *testing.T, decorate func(upstream.Store) upstream.Store) upstreamtest.Harness {
	s := memdrop.New()
	s.AddUser(user, password)
	t.Cleanup(func() {
		if accounts, bodies := s.InUse(); accounts != 0 || bodies != 0 {
			t.Errorf("%d accounts and %d bodies were left open", accounts, bodies)
		}
	})
	var store upstream.Store = s
	if decorate != nil {
		store = decorate(s)
	}
	var mu sync.Mutex
	delivered := 0
	return upstreamtest.Harness{
		Store:       store,
		Credentials: upstream.Credentials{User: user, Secret: upstream.NewSecret(password)},
		Deliver: func(_ context.Context, body []byte) error {
			mu.Lock()
			defer mu.Unlock()
			delivered++
			s.Deliver(user, memdrop.Message{ID: fmt.Sprintf("id-%d", delivered), Body: body})
			return nil
		},
		Expunge: func(_ context.Context, i int) error {
			list := s.Messages(user)
			if i >= len(list) {
				return fmt.Errorf("no message %d of %d", i, len(list))
			}
			s.Expunge(user, list[i].ID)
			return nil
		},
		Contents: func(context.Context) ([][]byte, error) {
			var list [][]byte
			for _, m := range s.Messages(user) {
				list = append(list, m.Body)
			}
			return list, nil
		},
		Seen: func(context.Context) ([]bool, error) {
			ids := s.Seen(user)
			var list []bool
			for _, m := range s.Messages(user) {
				list = append(list, slices.Contains(ids, m.ID))
			}
			return list, nil
		},
		Cut: func(after int64) {
			s.SetFaults(memdrop.Faults{Body: func(string, string) *memdrop.Cut {
				return &memdrop.Cut{After: after, Err: lost("read")}
			}})
		},
		Down: func() {
			s.SetFaults(memdrop.Faults{
				Login:    func(context.Context, upstream.Credentials) error { return lost("login") },
				Open:     func(context.Context, string) error { return lost("open") },
				Retrieve: func(context.Context, string, string) error { return lost("retrieve") },
				Update: func(_ context.Context, _ string, remove []string) ([]string, error) {
					return remove, lost("update")
				},
			})
		},
	}
}

func lost(op string) error {
	return &upstream.Error{Kind: upstream.Unavailable, Op: op, Err: errors.New("connection lost")}
}
