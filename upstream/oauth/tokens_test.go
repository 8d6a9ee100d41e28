package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

func TestALoginGetsAnAccessToken(t *testing.T) {
	for _, rotation := range []oauthtest.Rotation{oauthtest.Keep, oauthtest.Strict, oauthtest.Grace} {
		t.Run(fmt.Sprint(rotation), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer, folder := oauthtest.New(), newFolder(t)
				issuer.Rotation = rotation
				consent(t, folder, issuer.Consent(alice))
				tokens := newTokens(t, options(issuer, folder))
				first := wantToken(t, tokens, issuer)
				if second := wantToken(t, tokens, issuer); second.Secret != first.Secret || issuer.Count() != 1 {
					t.Errorf("the second login made %d requests", issuer.Count())
				}
				for range 5 {
					time.Sleep(time.Hour)
					wantToken(t, tokens, issuer)
				}
				if issuer.Count() != 6 {
					t.Errorf("6 hours took %d requests", issuer.Count())
				}
				// Another process begins where this one ended.
				wantToken(t, newTokens(t, options(issuer, folder)), issuer)
			})
		})
	}
}

// Before an access token ends it is replaced, and no login waits for that.
func TestATokenIsReplacedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		consent(t, folder, issuer.Consent(alice))
		tokens := newTokens(t, options(issuer, folder))
		first := wantToken(t, tokens, issuer)
		issuer.Set(func(s *oauthtest.Issuer) {
			s.Fault = func(_ http.ResponseWriter, r *http.Request) bool { time.Sleep(10 * time.Second); return false }
		})
		time.Sleep(56 * time.Minute)
		began := time.Now()
		if c := wantToken(t, tokens, issuer); c.Secret != first.Secret || time.Since(began) != 0 {
			t.Errorf("the login waited %v", time.Since(began))
		}
		time.Sleep(11 * time.Second)
		if c := wantToken(t, tokens, issuer); c.Secret == first.Secret {
			t.Error("the token was not replaced")
		}
		// An issuer that is down costs nobody a token that still serves.
		issuer.Set(func(s *oauthtest.Issuer) { s.Fault = status(http.StatusBadGateway, nil) })
		time.Sleep(57 * time.Minute)
		wantToken(t, tokens, issuer)
		time.Sleep(time.Second)
		wantToken(t, tokens, issuer)
	})
}

func status(code int, header http.Header) oauthtest.Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for name := range header {
			w.Header().Set(name, header.Get(name))
		}
		w.WriteHeader(code)
		return true
	}
}

func body(code int, kind, text string) oauthtest.Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
		return true
	}
}

func refusal(code string) oauthtest.Fault {
	return body(http.StatusBadRequest, "application/json", `{"error":"`+code+`","error_description":"because\r\nof it"}`)
}

func TestAnErrorSaysWhoMustAct(t *testing.T) {
	const js = "application/json"
	for _, tt := range []struct {
		name  string
		fault oauthtest.Fault
		kind  upstream.Kind
		words []string
	}{
		{"invalid_grant", refusal("invalid_grant"), upstream.Internal, []string{`invalid_grant: because\r\nof it`, "run `popgate oauth login alice@example.test`"}},
		{"invalid_client", refusal("invalid_client"), upstream.Internal, []string{"invalid_client", "client id"}},
		{"unauthorized_client", refusal("unauthorized_client"), upstream.Internal, []string{"client id"}},
		{"invalid_scope", refusal("invalid_scope"), upstream.Internal, []string{"scopes"}},
		{"consent_required", refusal("consent_required"), upstream.Internal, []string{"popgate oauth login"}},
		{"temporarily_unavailable", refusal("temporarily_unavailable"), upstream.Unavailable, nil},
		{"server_error", refusal("server_error"), upstream.Unavailable, nil},
		{"500", status(500, nil), upstream.Unavailable, []string{"HTTP 500"}},
		{"503", status(503, nil), upstream.Unavailable, nil},
		{"429", status(429, nil), upstream.Unavailable, nil},
		{"404", status(404, nil), upstream.Internal, []string{"HTTP 404"}},
		{"redirect", status(307, http.Header{"Location": {"https://elsewhere.test/"}}), upstream.Internal, []string{"HTTP 307"}},
		{"no_json", body(200, js, "<html>refresh-</html>"), upstream.Unavailable, []string{"makes no sense"}},
		{"no_token", body(200, js, "{}"), upstream.Unavailable, nil},
		{"another_kind_of_token", body(200, js, `{"access_token":"access-x","token_type":"mac"}`), upstream.Unavailable, []string{"not bearer"}},
		{"a_token_with_a_line_end", body(200, js, `{"access_token":"access-x\r\ny","token_type":"bearer"}`), upstream.Unavailable, []string{"no protocol can carry"}},
		{"a_token_with_a_separator", body(200, js, `{"access_token":"access-x\u0001y","token_type":"bearer"}`), upstream.Unavailable, nil},
		{"a_huge_token", body(200, js, `{"access_token":"`+strings.Repeat("x", 20<<10)+`","token_type":"bearer"}`), upstream.Unavailable, nil},
		{"a_huge_answer", body(200, js, `{"access_token":"`+strings.Repeat("x", 1<<20)+`"}`), upstream.Unavailable, []string{"more than 262144 octets"}},
		{"an_error_with_200", body(200, js, `{"error":"invalid_grant"}`), upstream.Internal, []string{"popgate oauth login"}},
		{"never", func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, upstream.Unavailable, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer, folder := oauthtest.New(), newFolder(t)
				token := issuer.Consent(alice)
				consent(t, folder, token)
				issuer.Fault = tt.fault
				tokens := newTokens(t, options(issuer, folder))
				began := time.Now()
				_, err := login(t.Context(), tokens, alice)
				wantError(t, err, tt.kind, tt.words...)
				if d := time.Since(began); d > 20*time.Second {
					t.Errorf("it took %v", d)
				}
				// No answer costs the refresh token.
				if record(t, folder).Refresh.Reveal() != token {
					t.Error("the refresh token is gone")
				}
				// The next one comes at once, without a request.
				n, again := issuer.Count(), time.Now()
				_, err = login(t.Context(), tokens, alice)
				wantError(t, err, tt.kind)
				if issuer.Count() != n || !time.Now().Equal(again) {
					t.Error("a failure was not remembered")
				}
				issuer.Set(func(s *oauthtest.Issuer) { s.Fault = nil })
				time.Sleep(time.Minute)
				wantToken(t, tokens, issuer)
			})
		})
	}
}

// The text of an error repeats what the issuer says, but for what was secret.
func TestNoErrorHoldsASecret(t *testing.T) {
	folder, issuer := newFolder(t), oauthtest.New()
	consent(t, folder, "refresh-unknown")
	_, err := login(t.Context(), newTokens(t, options(issuer, folder)), alice)
	wantError(t, err, upstream.Internal, "[secret] is not known")
}

func TestRetryAfterIsObeyed(t *testing.T) {
	for _, tt := range []struct {
		header string
		least  time.Duration
	}{{"40", 40 * time.Second}, {"86400", 5 * time.Minute}, {"-1", time.Second}, {"soon", time.Second}} {
		t.Run(tt.header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer, folder := oauthtest.New(), newFolder(t)
				consent(t, folder, issuer.Consent(alice))
				issuer.Fault = status(429, http.Header{"Retry-After": {tt.header}})
				tokens := newTokens(t, options(issuer, folder))
				_, err := login(t.Context(), tokens, alice)
				wantError(t, err, upstream.Unavailable)
				time.Sleep(tt.least - time.Millisecond)
				_, err = login(t.Context(), tokens, alice)
				wantError(t, err, upstream.Unavailable)
				if issuer.Count() != 1 {
					t.Errorf("asked %d times within %v", issuer.Count(), tt.least)
				}
				issuer.Set(func(s *oauthtest.Issuer) { s.Fault = nil })
				time.Sleep(time.Millisecond)
				wantToken(t, tokens, issuer)
			})
		})
	}
}

// Many logins of one account are one request, also if the first of them hangs up.
func TestOneRequestAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Rotation = oauthtest.Strict
		consent(t, folder, issuer.Consent(alice))
		issuer.Fault = func(http.ResponseWriter, *http.Request) bool { time.Sleep(5 * time.Second); return false }
		tokens := newTokens(t, options(issuer, folder))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			_, err := login(ctx, tokens, alice)
			wantError(t, err, upstream.Unavailable)
		})
		synctest.Wait()
		for range 50 {
			all.Go(func() {
				if _, err := login(t.Context(), tokens, alice); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if issuer.Count() != 1 {
			t.Errorf("%d requests", issuer.Count())
		}
	})
}

// Two processes that share a folder never use one refresh token at the same time.
func TestOneRequestAtATimeOverProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Rotation = oauthtest.Strict
		consent(t, folder, issuer.Consent(alice))
		issuer.Fault = func(http.ResponseWriter, *http.Request) bool { time.Sleep(3 * time.Second); return false }
		var all sync.WaitGroup
		for range 4 {
			tokens := newTokens(t, options(issuer, folder))
			all.Go(func() {
				if _, err := login(t.Context(), tokens, alice); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		consent(t, folder, issuer.Consent(alice))
		tokens := newTokens(t, options(issuer, folder))
		c := wantToken(t, tokens, issuer)
		time.Sleep(time.Minute)
		var all sync.WaitGroup
		for range 10 { // ten sessions are told the same at the same time
			all.Go(func() {
				if s, err := c.Renewer.Renew(t.Context(), c.Secret); err != nil || issuer.Valid(s.Reveal()) != alice || s == c.Secret {
					t.Errorf("Renew: %v", err)
				}
			})
		}
		all.Wait()
		if issuer.Count() != 2 {
			t.Errorf("%d requests", issuer.Count())
		}
		// A fresh token that is refused too is no cause for another.
		fresh := wantToken(t, tokens, issuer)
		for range 100 {
			_, err := fresh.Renewer.Renew(t.Context(), fresh.Secret)
			wantError(t, err, upstream.Unavailable, "just issued")
		}
		if issuer.Count() != 2 {
			t.Errorf("%d requests", issuer.Count())
		}
		if record(t, folder).Refresh == (upstream.Secret{}) {
			t.Error("the refresh token is gone")
		}
		time.Sleep(30 * time.Second)
		if _, err := fresh.Renewer.Renew(t.Context(), fresh.Secret); err != nil {
			t.Error(err)
		}
	})
}

// A token that has ended is replaced, however young it is.
func TestATokenThatEndsInMidSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Life = 2 * time.Second
		consent(t, folder, issuer.Consent(alice))
		c := wantToken(t, newTokens(t, options(issuer, folder)), issuer)
		time.Sleep(2 * time.Second)
		if s, err := c.Renewer.Renew(t.Context(), c.Secret); err != nil || issuer.Valid(s.Reveal()) != alice {
			t.Errorf("Renew: %v", err)
		}
	})
}

// What a person does about a dead grant helps at once, in another process too.
func TestAFailureIsForgottenWhenTheRecordChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		tokens := newTokens(t, options(issuer, folder))
		_, err := login(t.Context(), tokens, alice)
		wantError(t, err, upstream.Internal, "there is no refresh token", "popgate oauth login alice@example.test")
		consent(t, folder, "refresh-dead")
		_, err = login(t.Context(), tokens, alice)
		wantError(t, err, upstream.Internal, "invalid_grant")
		if r := record(t, folder); r.Failed.IsZero() || !strings.Contains(r.Failure, "invalid_grant") {
			t.Errorf("the record does not tell of it: %v %q", r.Failed, r.Failure)
		}
		consent(t, folder, issuer.Consent(alice))
		wantToken(t, tokens, issuer)
		if r := record(t, folder); !r.Failed.IsZero() || r.Failure != "" {
			t.Errorf("the record still tells of a failure: %v %q", r.Failed, r.Failure)
		}
		if err := tokens.Remove(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		_, err = login(t.Context(), tokens, alice)
		wantError(t, err, upstream.Internal, "there is no refresh token")
	})
}

// An issuer that is down for everybody is asked by hardly anybody.
func TestAnIssuerThatIsDownIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := oauthtest.New()
		key, pub := serviceKey(t)
		issuer.Key, issuer.Fault = pub, status(502, nil)
		o := options(issuer, nil)
		o.Grant, o.Client.Key = oauth.ServiceAccount, key
		for i := range 1000 {
			o.Mailboxes = append(o.Mailboxes, fmt.Sprint("user", i))
		}
		tokens := newTokens(t, o)
		for round := range 10 {
			for _, m := range o.Mailboxes {
				_, err := login(t.Context(), tokens, m)
				wantError(t, err, upstream.Unavailable)
			}
			if n := issuer.Count(); n > 3+round {
				t.Fatalf("%d requests after %d rounds of a thousand accounts", n, round+1)
			}
			time.Sleep(100 * time.Millisecond)
		}
		issuer.Set(func(s *oauthtest.Issuer) { s.Fault = nil })
		time.Sleep(time.Minute)
		for _, m := range o.Mailboxes {
			if _, err := login(t.Context(), tokens, m); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestOneAccountsTroubleIsNotEverybodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		consent(t, folder, "refresh-dead")
		tokens := newTokens(t, options(issuer, folder))
		for range 20 {
			_, err := login(t.Context(), tokens, alice)
			wantError(t, err, upstream.Internal)
			time.Sleep(time.Minute)
		}
		lock, err := folder.Lock(t.Context(), tokenfile.Name{Grant: "test", Account: "bob"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(lock.Write(tokenfile.Record{Refresh: upstream.NewSecret(issuer.Consent("bob"))}), lock.Unlock()); err != nil {
			t.Fatal(err)
		}
		if _, err := login(t.Context(), tokens, "bob"); err != nil {
			t.Error(err)
		}
	})
}

func TestStepRefusesWhatNobodyProved(t *testing.T) {
	issuer, folder := oauthtest.New(), newFolder(t)
	consent(t, folder, issuer.Consent(alice))
	tokens := newTokens(t, options(issuer, folder))
	for _, c := range []upstream.Credentials{
		{User: alice, Proof: upstream.Bearer, Secret: upstream.NewSecret("canary")},
		{User: alice, Proof: upstream.Shared},
	} {
		got, err := tokens.Step(t.Context(), c)
		wantError(t, err, upstream.Refused)
		if got.Secret != c.Secret || issuer.Count() != 0 {
			t.Error("a token was given out")
		}
	}
}

func TestAfterCloseNobodyIsAsked(t *testing.T) {
	issuer, folder := oauthtest.New(), newFolder(t)
	consent(t, folder, issuer.Consent(alice))
	tokens := newTokens(t, options(issuer, folder))
	if err := tokens.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := login(t.Context(), tokens, alice)
	wantError(t, err, upstream.Unavailable)
	if issuer.Count() != 0 {
		t.Error("the issuer was asked")
	}
}
