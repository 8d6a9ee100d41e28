package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const alice = "alice@example.test"

// direct hands requests to a handler without a network, so that a fake clock sees
// all who wait.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	done := make(chan *http.Response, 1)
	go func() {
		w := httptest.NewRecorder()
		d.handler.ServeHTTP(w, r)
		done <- w.Result()
	}()
	select {
	case answer := <-done:
		return answer, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func newFolder(t *testing.T) *tokenfile.Folder {
	t.Helper()
	return openFolder(t, filepath.Join(t.TempDir(), "tokens"))
}

func openFolder(t *testing.T, path string) *tokenfile.Folder {
	t.Helper()
	f, err := tokenfile.Open(path, upstream.NewSecret(strings.Repeat("key ", 10)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// options are those of a grant at an issuer without a network.
func options(issuer http.Handler, folder *tokenfile.Folder) oauth.Options {
	return oauth.Options{
		Name: "test", Grant: oauth.Refresh, Client: oauth.Client{ID: "client", Secret: upstream.NewSecret("client-secret-canary")},
		Endpoint: oauth.Endpoint{Token: "https://issuer.test/token", Device: "https://issuer.test/device", Authorize: "https://issuer.test/authorize"},
		Scopes:   []string{"mail", "offline_access"}, Folder: folder, Transport: direct{issuer},
	}
}

func newTokens(t *testing.T, o oauth.Options) *oauth.Tokens {
	t.Helper()
	tokens, err := oauth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tokens.Close(); err != nil {
			t.Error(err)
		}
	})
	return tokens
}

// consent keeps a refresh token for alice.
func consent(t *testing.T, f *tokenfile.Folder, token string) {
	t.Helper()
	write(t, f, tokenfile.Record{Refresh: upstream.NewSecret(token), Authorized: time.Now(), Succeeded: time.Now()})
}

func write(t *testing.T, f *tokenfile.Folder, r tokenfile.Record) {
	t.Helper()
	l, err := f.Lock(t.Context(), tokenfile.Name{Grant: "test", Account: alice})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Write(r), l.Unlock()); err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, f *tokenfile.Folder) tokenfile.Record {
	t.Helper()
	r, err := f.Read(tokenfile.Name{Grant: "test", Account: alice})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// login is a login of alice with the password that a step before has proved.
func login(ctx context.Context, tokens *oauth.Tokens, user string) (upstream.Credentials, error) {
	return tokens.Step(ctx, upstream.Credentials{User: user, Secret: upstream.NewSecret("proved-canary")})
}

// wantToken logs alice in and checks that the issuer knows the token.
func wantToken(t *testing.T, tokens *oauth.Tokens, issuer *oauthtest.Issuer) upstream.Credentials {
	t.Helper()
	c, err := login(t.Context(), tokens, alice)
	if err != nil {
		t.Fatalf("Step: %v", err)
	}
	if c.Proof != upstream.Bearer || c.Renewer == nil || issuer.Valid(c.Secret.Reveal()) != alice {
		t.Fatalf("Step gave proof %v, renewer %v and a token that the issuer has for %q", c.Proof, c.Renewer, issuer.Valid(c.Secret.Reveal()))
	}
	return c
}

// wantError checks kind and words, and that nothing secret is among them.
func wantError(t *testing.T, err error, kind upstream.Kind, words ...string) {
	t.Helper()
	if err == nil || upstream.KindOf(err) != kind {
		t.Fatalf("the error is %v, want one of kind %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error is %q, and %q is not in it", err, w)
		}
	}
	for _, canary := range []string{"refresh-", "access-", "canary"} {
		if strings.Contains(err.Error(), canary) {
			t.Errorf("the error %q holds a secret: %s", err, canary)
		}
	}
}

// slow lets each request take a second and counts how many there are at a time.
func slow(issuer *oauthtest.Issuer, now, most *int) oauthtest.Fault {
	return func(http.ResponseWriter, *http.Request) bool {
		issuer.Set(func(*oauthtest.Issuer) { *now++; *most = max(*most, *now) })
		time.Sleep(time.Second)
		issuer.Set(func(*oauthtest.Issuer) { *now-- })
		return false
	}
}
