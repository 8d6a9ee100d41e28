package oauth_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

func benchFolder(b *testing.B, issuer *oauthtest.Issuer, accounts int) *tokenfile.Folder {
	b.Helper()
	f, err := tokenfile.Open(filepath.Join(b.TempDir(), "tokens"), upstream.NewSecret("0123456789abcdef0123456789abcdef"))
	if err != nil {
		b.Fatal(err)
	}
	for i := range accounts {
		name := tokenfile.Name{Grant: "test", Account: fmt.Sprint("user", i)}
		lock, err := f.Lock(b.Context(), name)
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(lock.Write(tokenfile.Record{Refresh: upstream.NewSecret(issuer.Consent(name.Account)), Succeeded: time.Now()}), lock.Unlock()); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

// BenchmarkStep is a login whose token is there.
func BenchmarkStep(b *testing.B) {
	issuer := oauthtest.New()
	tokens, err := oauth.New(options(issuer, benchFolder(b, issuer, 1)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := login(b.Context(), tokens, "user0"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefresh is a login that needs a new token, from an issuer in memory that
// gives a new refresh token each time.
func BenchmarkRefresh(b *testing.B) {
	issuer := oauthtest.New()
	issuer.Rotation, issuer.Life = oauthtest.Strict, -time.Second
	tokens, err := oauth.New(options(issuer, benchFolder(b, issuer, 1)))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := login(b.Context(), tokens, "user0"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStates is a look at a thousand accounts, as Keep takes it.
func BenchmarkStates(b *testing.B) {
	issuer := oauthtest.New()
	tokens, err := oauth.New(options(issuer, benchFolder(b, issuer, 1000)))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if states, bad := tokens.States(); len(states) != 1000 || bad != nil {
			b.Fatal(len(states), bad)
		}
	}
}
