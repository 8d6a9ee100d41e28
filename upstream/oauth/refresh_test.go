package oauth_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// When somebody has an access token, the refresh token that came with it is on
// disk, and the one before it too, until the new one has worked.
func TestARotatedTokenIsWrittenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Rotation = oauthtest.Grace
		given := issuer.Consent(alice)
		consent(t, folder, given)
		tokens := newTokens(t, options(issuer, folder))
		for range 3 {
			c := wantToken(t, tokens, issuer)
			r := record(t, folder)
			if r.Refresh.Reveal() == given || !issuer.Takes(r.Refresh.Reveal()) || r.Previous.Reveal() != given {
				t.Fatal("the record does not hold the new token and the one before")
			}
			given = r.Refresh.Reveal()
			time.Sleep(31 * time.Second)
			if _, err := c.Renewer.Renew(t.Context(), c.Secret); err != nil {
				t.Fatal(err)
			}
			given = record(t, folder).Refresh.Reveal()
			time.Sleep(time.Hour)
		}
		issuer.Set(func(s *oauthtest.Issuer) { s.Rotation = oauthtest.Keep })
		time.Sleep(time.Hour)
		wantToken(t, tokens, issuer)
		if r := record(t, folder); r.Previous != (upstream.Secret{}) {
			t.Error("the one before is kept although the new one has worked")
		}
	})
}

// An issuer that replaced a token and then lost the new one takes the one before.
func TestThePreviousTokenIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Rotation = oauthtest.Strict
		before := issuer.Consent(alice)
		write(t, folder, tokenfile.Record{Refresh: upstream.NewSecret("refresh-lost"), Previous: upstream.NewSecret(before)})
		wantToken(t, newTokens(t, options(issuer, folder)), issuer)
		if r := record(t, folder); !issuer.Takes(r.Refresh.Reveal()) || r.Previous.Reveal() != before {
			t.Error("the record does not hold what worked")
		}
	})
}

func TestNeitherTokenIsTaken(t *testing.T) {
	issuer, folder := oauthtest.New(), newFolder(t)
	both := tokenfile.Record{Refresh: upstream.NewSecret("refresh-a"), Previous: upstream.NewSecret("refresh-b")}
	write(t, folder, both)
	_, err := login(t.Context(), newTokens(t, options(issuer, folder)), alice)
	wantError(t, err, upstream.Internal, "invalid_grant")
	if r := record(t, folder); r.Refresh != both.Refresh || r.Previous != both.Previous {
		t.Error("the tokens are gone")
	}
}

// Where the answer could not be kept, the issuer is not asked: a strict one would
// take the old refresh token no more.
func TestAFullDiskCostsNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens")
		issuer, folder := oauthtest.New(), openFolder(t, path)
		issuer.Rotation = oauthtest.Strict
		token := issuer.Consent(alice)
		consent(t, folder, token)
		name := obstruct(t, path)
		tokens := newTokens(t, options(issuer, folder))
		_, err := login(t.Context(), tokens, alice)
		wantError(t, err, upstream.Unavailable, "cannot be written")
		if issuer.Count() != 0 || !issuer.Takes(token) {
			t.Error("the issuer was asked")
		}
		remove(t, name)
		time.Sleep(time.Second)
		wantToken(t, tokens, issuer)
	})
}

// obstruct makes it impossible to write the one record of a folder, for root too.
func obstruct(t *testing.T, path string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(path, "*.token"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	name := files[0][:len(files[0])-len(".token")] + ".new"
	if err := os.MkdirAll(filepath.Join(name, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

// A write that fails all the same keeps the answer in memory, gives nobody the
// access token, and is done again before the issuer is asked again.
func TestAnAnswerThatCannotBeWrittenIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens")
		issuer, folder := oauthtest.New(), openFolder(t, path)
		issuer.Rotation = oauthtest.Strict
		token := issuer.Consent(alice)
		consent(t, folder, token)
		files, err := filepath.Glob(filepath.Join(path, "*.token"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		saved := files[0] + ".saved"
		issuer.Fault = func(http.ResponseWriter, *http.Request) bool {
			// A folder in the place of the record, after room was made: the rename fails.
			if err := os.Rename(files[0], saved); err != nil {
				t.Error(err)
			}
			if err := os.MkdirAll(filepath.Join(files[0], "full"), 0o700); err != nil {
				t.Error(err)
			}
			return false
		}
		tokens := newTokens(t, options(issuer, folder))
		_, err = login(t.Context(), tokens, alice)
		wantError(t, err, upstream.Unavailable, "cannot be replaced")
		issuer.Set(func(s *oauthtest.Issuer) { s.Fault = nil })
		remove(t, files[0])
		if err := os.Rename(saved, files[0]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		wantToken(t, tokens, issuer)
		if issuer.Count() != 1 {
			t.Errorf("%d requests", issuer.Count())
		}
		if r := record(t, folder); !issuer.Takes(r.Refresh.Reveal()) || r.Previous.Reveal() != token {
			t.Error("the record does not hold the new token and the one before")
		}
	})
}

// A login by a person wins over an answer that could not be written.
func TestALoginWinsOverWhatCouldNotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tokens")
		issuer, folder := oauthtest.New(), openFolder(t, path)
		issuer.Rotation = oauthtest.Strict
		consent(t, folder, issuer.Consent(alice))
		files, _ := filepath.Glob(filepath.Join(path, "*.token"))
		issuer.Fault = func(http.ResponseWriter, *http.Request) bool {
			remove(t, files[0])
			if err := os.MkdirAll(filepath.Join(files[0], "full"), 0o700); err != nil {
				t.Error(err)
			}
			return false
		}
		tokens := newTokens(t, options(issuer, folder))
		_, err := login(t.Context(), tokens, alice)
		wantError(t, err, upstream.Unavailable)
		issuer.Set(func(s *oauthtest.Issuer) { s.Fault = nil })
		remove(t, files[0])
		fresh := issuer.Consent(alice)
		consent(t, folder, fresh)
		wantToken(t, tokens, issuer)
		if issuer.Requests[1].Get("refresh_token") != fresh {
			t.Error("the new login was not used")
		}
	})
}

// An issuer that is down, or a mail service that refuses, deletes no token.
func TestARefusalDeletesNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		token := issuer.Consent(alice)
		consent(t, folder, token)
		tokens := newTokens(t, options(issuer, folder))
		c := wantToken(t, tokens, issuer)
		issuer.Set(func(s *oauthtest.Issuer) { s.Fault = refusal("invalid_grant") })
		time.Sleep(time.Minute)
		_, err := c.Renewer.Renew(t.Context(), c.Secret)
		wantError(t, err, upstream.Internal, "popgate oauth login")
		_, err = login(t.Context(), tokens, alice)
		wantError(t, err, upstream.Internal, "popgate oauth login")
		if record(t, folder).Refresh.Reveal() != token {
			t.Error("the refresh token is gone")
		}
	})
}

// Damage is told, the file stays, and other accounts are served.
func TestADamagedRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	issuer, folder := oauthtest.New(), openFolder(t, path)
	consent(t, folder, issuer.Consent(alice))
	files, _ := filepath.Glob(filepath.Join(path, "*.token"))
	if err := os.WriteFile(files[0], []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens := newTokens(t, options(issuer, folder))
	_, err := login(t.Context(), tokens, alice)
	wantError(t, err, upstream.Internal, "it is damaged", files[0])
	if data, err := os.ReadFile(files[0]); err != nil || string(data) != "{}" {
		t.Errorf("the file is %q, %v", data, err)
	}
}

// The wall clock in a record may be anything.
func TestAClockThatWasWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		write(t, folder, tokenfile.Record{Refresh: upstream.NewSecret(issuer.Consent(alice)), Succeeded: time.Now().AddDate(10, 0, 0), Failed: time.Now().AddDate(5, 0, 0)})
		wantToken(t, newTokens(t, options(issuer, folder)), issuer)
		if r := record(t, folder); time.Since(r.Succeeded) < 0 || !r.Failed.IsZero() {
			t.Errorf("the record still tells of times to come: %v", r.Succeeded)
		}
	})
}
