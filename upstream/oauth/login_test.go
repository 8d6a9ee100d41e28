package oauth_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
)

func TestDeviceLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Pending = 3
		tokens := newTokens(t, options(issuer, folder))
		var prompt oauth.Prompt
		if err := tokens.Device(t.Context(), alice, func(p oauth.Prompt) { prompt = p }); err != nil {
			t.Fatal(err)
		}
		if prompt.URL != "https://issuer.test/enter" || prompt.Code != "ABCD-EFGH" || time.Until(prompt.Expires) > 10*time.Minute {
			t.Errorf("the prompt is %+v", prompt)
		}
		if r := record(t, folder); !issuer.Takes(r.Refresh.Reveal()) || r.Authorized.IsZero() || r.Succeeded.IsZero() {
			t.Errorf("the record is %v", r)
		}
		if issuer.Count() != 4 {
			t.Errorf("%d requests", issuer.Count())
		}
	})
}

func TestDeviceLoginThatNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Pending = 1 << 30
		tokens := newTokens(t, options(issuer, folder))
		err := tokens.Device(t.Context(), alice, func(oauth.Prompt) {})
		if err == nil || !strings.Contains(err.Error(), "the code has ended") {
			t.Errorf("Device = %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		err = tokens.Device(ctx, alice, func(oauth.Prompt) { cancel(errors.New("enough")) })
		if err == nil || err.Error() != "enough" {
			t.Errorf("Device = %v", err)
		}
	})
}

func TestALoginWithoutARefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, folder := oauthtest.New(), newFolder(t)
		issuer.Fault = body(200, "application/json", `{"access_token":"access-x","token_type":"bearer"}`)
		err := newTokens(t, options(issuer, folder)).Device(t.Context(), alice, func(oauth.Prompt) {})
		if err == nil || !strings.Contains(err.Error(), "no refresh token") {
			t.Errorf("Device = %v", err)
		}
	})
}

// browser follows a prompt as a person's browser does.
func browser(t *testing.T, change func(*url.URL)) func(oauth.Prompt) {
	return func(p oauth.Prompt) {
		u, err := url.Parse(p.URL)
		if err != nil {
			t.Error(err)
			return
		}
		if change != nil {
			change(u)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
		r, err := client.Get(u.String())
		if err != nil {
			t.Error(err)
			return
		}
		text, err := io.ReadAll(r.Body)
		if err := errors.Join(err, r.Body.Close()); err != nil {
			t.Error(err)
		}
		if r.StatusCode != http.StatusOK || !strings.Contains(string(text), "can be closed") {
			t.Errorf("the page is %d %q", r.StatusCode, text)
		}
	}
}

// served is an issuer on a loopback address.
func served(t *testing.T) (*oauthtest.Issuer, oauth.Options) {
	t.Helper()
	issuer := oauthtest.New()
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	o := options(issuer, newFolder(t))
	o.Transport = nil
	o.Endpoint = oauth.Endpoint{Token: server.URL + "/token", Device: server.URL + "/device", Authorize: server.URL + "/authorize"}
	return issuer, o
}

func TestBrowserLogin(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		issuer, o := served(t)
		o.Redirect, o.Prompt = host, url.Values{"access_type": {"offline"}}
		tokens := newTokens(t, o)
		err := tokens.Browser(t.Context(), alice, "127.0.0.1:0", browser(t, func(u *url.URL) {
			if q := u.Query(); q.Get("access_type") != "offline" || q.Get("code_challenge_method") != "S256" || q.Get("login_hint") != alice {
				t.Errorf("the page is %s", u)
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		if !issuer.Takes(record(t, o.Folder).Refresh.Reveal()) {
			t.Error("the record does not hold the token")
		}
		wantToken(t, tokens, issuer)
	}
}

// What comes to the loopback address without the state is not taken for an answer.
func TestBrowserLoginTakesItsOwnAnswerAlone(t *testing.T) {
	_, o := served(t)
	tokens := newTokens(t, o)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("no answer"))
	defer cancel()
	err := tokens.Browser(ctx, alice, "127.0.0.1:0", func(p oauth.Prompt) {
		u, err := url.Parse(p.URL)
		if err != nil {
			t.Error(err)
			return
		}
		back := u.Query().Get("redirect_uri")
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
		for _, forged := range []string{"?code=x&state=y", "?code=x", "", "other?state=" + u.Query().Get("state") + "&code=x"} {
			r, err := client.Get(back + forged)
			if err != nil {
				t.Error(err)
				continue
			}
			r.Body.Close()
			if r.StatusCode != http.StatusNotFound {
				t.Errorf("%q was answered with %d", forged, r.StatusCode)
			}
		}
		r, err := client.Get(back + "?error=access_denied&error_description=no%0Away&state=" + u.Query().Get("state"))
		if err == nil {
			r.Body.Close()
		}
	})
	if err == nil || !strings.Contains(err.Error(), `access_denied: no\nway`) {
		t.Errorf("Browser = %v", err)
	}
	if _, err := tokens.Step(t.Context(), upstream.Credentials{User: alice}); err == nil {
		t.Error("there is a token")
	}
}

func TestBrowserListensOnLoopbackAlone(t *testing.T) {
	_, o := served(t)
	tokens := newTokens(t, o)
	for _, listen := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.test:80", "127.0.0.1"} {
		if err := tokens.Browser(t.Context(), alice, listen, func(oauth.Prompt) { t.Error("asked") }); err == nil {
			t.Errorf("%q was taken", listen)
		}
	}
}

// The code of the browser is of no use without the secret that this process made.
func TestBrowserLoginProvesItself(t *testing.T) {
	issuer, o := served(t)
	err := newTokens(t, o).Browser(t.Context(), alice, "127.0.0.1:0", browser(t, func(u *url.URL) {
		q := u.Query()
		q.Set("code_challenge", "another")
		u.RawQuery = q.Encode()
	}))
	if err == nil || !strings.Contains(err.Error(), "invalid_grant") || issuer.Count() != 1 {
		t.Errorf("Browser = %v", err)
	}
}

func TestAnAppOnlyGrantHasNoLogins(t *testing.T) {
	o := options(oauthtest.New(), nil)
	o.Grant, o.Mailboxes = oauth.ClientCredentials, []string{alice}
	tokens := newTokens(t, o)
	if err := tokens.Device(t.Context(), alice, nil); err == nil {
		t.Error("Device")
	}
	if err := tokens.Browser(t.Context(), alice, "127.0.0.1:0", nil); err == nil {
		t.Error("Browser")
	}
	if err := tokens.Remove(t.Context(), alice); err == nil {
		t.Error("Remove")
	}
}

func TestRemoveOfNothing(t *testing.T) {
	tokens := newTokens(t, options(oauthtest.New(), newFolder(t)))
	if err := tokens.Remove(t.Context(), alice); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Remove = %v", err)
	}
}
