package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// kept runs Keep and collects what it reports.
type kept struct {
	mu        sync.Mutex
	summaries []oauth.Summary
	outcomes  map[oauth.Outcome]int
}

func (k *kept) trace() oauth.Trace {
	k.outcomes = map[oauth.Outcome]int{}
	return oauth.Trace{
		Kept:      func(s oauth.Summary) { k.mu.Lock(); defer k.mu.Unlock(); k.summaries = append(k.summaries, s) },
		Requested: func(o oauth.Outcome, _ time.Duration) { k.mu.Lock(); defer k.mu.Unlock(); k.outcomes[o]++ },
	}
}

func (k *kept) last(t *testing.T) oauth.Summary {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.summaries) == 0 {
		t.Fatal("nothing was reported")
	}
	return k.summaries[len(k.summaries)-1]
}

func keep(t *testing.T, tokens *oauth.Tokens) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { tokens.Keep(ctx) })
	return func() { cancel(); running.Wait() }
}

// A token that nobody uses is refreshed all the same, and the report tells when a
// person must act.
func TestKeepRefreshesWhatNobodyUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Rotation = oauthtest.Strict
		consent(t, folder, issuer.Consent(alice))
		o := options(issuer, folder)
		var k kept
		o.Trace, o.Idle = k.trace(), 90*24*time.Hour
		tokens := newTokens(t, o)
		stop := keep(t, tokens)
		defer stop()
		time.Sleep(time.Minute)
		if s := k.last(t); issuer.Count() != 0 || s.Accounts != 1 || s.Failing != 0 || time.Since(s.Oldest) > time.Minute || time.Until(s.Ends) < 89*24*time.Hour {
			t.Errorf("after a login: %+v, %d requests", s, issuer.Count())
		}
		time.Sleep(10 * 24 * time.Hour)
		if s := k.last(t); issuer.Count() != 10 && issuer.Count() != 9 || time.Since(s.Oldest) > 25*time.Hour {
			t.Errorf("after ten days: %+v, %d requests", s, issuer.Count())
		}
		issuer.Revoke(alice)
		time.Sleep(26 * time.Hour)
		if s := k.last(t); s.Failing != 1 || k.outcomes[oauth.BadGrant] == 0 {
			t.Errorf("after the consent has ended: %+v, %v", s, k.outcomes)
		}
		n := issuer.Count()
		time.Sleep(48 * time.Hour)
		if issuer.Count()-n > 4 { // two tokens a day
			t.Errorf("a dead grant was tried %d times in two days", issuer.Count()-n)
		}
		consent(t, folder, issuer.Consent(alice))
		time.Sleep(2 * time.Hour)
		if s := k.last(t); s.Failing != 0 {
			t.Errorf("after a login: %+v", s)
		}
	})
}

// An issuer that is down is tried in every round.
func TestKeepTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		write(t, folder, tokenfile.Record{Refresh: upstream.NewSecret(issuer.Consent(alice))})
		issuer.Fault = status(500, nil)
		o := options(issuer, folder)
		var k kept
		o.Trace = k.trace()
		stop := keep(t, newTokens(t, o))
		defer stop()
		time.Sleep(5*time.Hour + time.Minute)
		if issuer.Count() != 6 || k.last(t).Failing != 0 {
			t.Errorf("%d requests in five hours, %+v", issuer.Count(), k.last(t))
		}
		issuer.Set(func(s *oauthtest.Issuer) { s.Fault = nil })
		time.Sleep(time.Hour)
		if s := k.last(t); time.Since(s.Oldest) > time.Hour || k.outcomes[oauth.Issued] != 1 {
			t.Errorf("after it came back: %+v", s)
		}
	})
}

func TestKeepReportsWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens")
		issuer, folder := oauthtest.New(), openFolder(t, path)
		consent(t, folder, issuer.Consent(alice))
		if err := os.WriteFile(filepath.Join(path, "x.token"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		o := options(issuer, folder)
		var k kept
		o.Trace = k.trace()
		stop := keep(t, newTokens(t, o))
		defer stop()
		synctest.Wait()
		if s := k.last(t); s.Accounts != 1 || s.Unreadable != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Many accounts are refreshed few at a time, and all of them.
func TestKeepIsGentle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		for i := range 50 {
			lock, err := folder.Lock(t.Context(), tokenfile.Name{Grant: "test", Account: fmt.Sprint("user", i)})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(lock.Write(tokenfile.Record{Refresh: upstream.NewSecret(issuer.Consent("u"))}), lock.Unlock()); err != nil {
				t.Fatal(err)
			}
		}
		var now, most int
		issuer.Fault = slow(issuer, &now, &most)
		tokens := newTokens(t, options(issuer, folder))
		stop := keep(t, tokens)
		defer stop()
		time.Sleep(30 * time.Second)
		states, bad := tokens.States()
		if most > 4 || len(states) != 50 || bad != nil || slices.ContainsFunc(states, func(s oauth.State) bool { return s.Succeeded.IsZero() }) {
			t.Errorf("%d at a time, %d accounts, %v", most, len(states), bad)
		}
	})
}

func TestAppOnlyStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := oauthtest.New()
		o := options(issuer, nil)
		o.Grant, o.Mailboxes = oauth.ClientCredentials, []string{alice, "bob"}
		issuer.Fault = refusal("invalid_client")
		var k kept
		o.Trace = k.trace()
		tokens := newTokens(t, o)
		stop := keep(t, tokens)
		defer stop()
		synctest.Wait()
		if s := k.last(t); s.Accounts != 1 || s.Failing != 1 {
			t.Errorf("a client that is not taken: %+v", s)
		}
		issuer.Set(func(s *oauthtest.Issuer) { s.Fault = nil })
		time.Sleep(25 * time.Hour)
		if s := k.last(t); s.Failing != 0 || k.outcomes[oauth.Issued] == 0 {
			t.Errorf("once it is taken: %+v", s)
		}
	})
}
