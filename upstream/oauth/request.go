package oauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/popgate/popgate/upstream"
)

const (
	maxAnswer   = 256 << 10        // octets of one answer of the issuer
	maxToken    = 16 << 10         // octets of a token
	unknownLife = 10 * time.Minute // of an access token whose issuer does not tell
	maxLife     = 24 * time.Hour   // after which any access token is replaced
)

// The names of RFC 7523 section 2 and RFC 6749.
const (
	grantJWT         = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	assertionJWT     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	grantRefresh     = "refresh_token"
	grantCredentials = "client_credentials"
)

// issued is an answer of the issuer.
type issued struct {
	access  upstream.Secret
	life    time.Duration
	refresh upstream.Secret // the one that was sent, where the issuer gave no other
	expires time.Time       // of refresh; zero where the issuer does not tell
}

// bounded is a transport that hands on whole answers, of a bounded size and in a
// bounded time: the library closes not every body, and gives not every request a
// context.
type bounded struct {
	next http.RoundTripper
	time time.Duration
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), b.time)
	defer cancel()
	answer, err := b.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer has more than %d octets", maxAnswer)
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// CloseIdleConnections is for [http.Client.CloseIdleConnections].
func (b bounded) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// newClient is the HTTP client of one issuer. It follows no redirect: the request
// would carry its secrets there.
func newClient(o *Options) *http.Client {
	return &http.Client{
		Transport:     bounded{o.transport(), o.Time},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask sends one request to the token endpoint. params are those of the grant.
func (t *Tokens) ask(ctx context.Context, params url.Values) (issued, error) {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return issued{}, &failure{outcome: Down, text: "too many requests wait for the issuer", err: context.Cause(ctx)}
	}
	if err := t.prove(params); err != nil {
		return issued{}, err
	}
	config := clientcredentials.Config{
		ClientID:       t.o.Client.ID,
		ClientSecret:   t.o.Client.Secret.Reveal(),
		TokenURL:       t.o.Endpoint.Token,
		AuthStyle:      t.style(),
		EndpointParams: params, // the grant_type among them replaces the library's
	}
	if len(t.o.Scopes) > 0 && !params.Has("assertion") {
		config.Scopes = t.o.Scopes
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	if err != nil {
		return issued{}, t.classify(err, params)
	}
	return accept(token)
}

func (t *Tokens) style() oauth2.AuthStyle {
	if t.o.Client.Basic {
		return oauth2.AuthStyleInHeader
	}
	return oauth2.AuthStyleInParams
}

// prove adds the client's assertion, if it has a key and the grant is not one
// itself (RFC 7523 section 2.2).
func (t *Tokens) prove(params url.Values) error {
	if t.o.Client.Key == nil || params.Has("assertion") {
		return nil
	}
	id := t.o.Client.ID
	jwt, err := t.o.Client.Key.sign(claims{Issuer: id, Subject: id, Audience: t.o.Endpoint.Token})
	if err != nil {
		return &failure{outcome: BadClient, text: "the client's assertion cannot be signed", err: err}
	}
	params.Set("client_assertion_type", assertionJWT)
	params.Set("client_assertion", jwt)
	return nil
}

// accept takes an answer over, if it can be used.
func accept(token *oauth2.Token) (issued, error) {
	bad := func(why string) (issued, error) { return issued{}, &failure{outcome: Down, text: why} }
	if !strings.EqualFold(token.Type(), "bearer") {
		return bad("the issuer gave a token of a kind that is not bearer")
	}
	if !usable(token.AccessToken) || token.RefreshToken != "" && !usable(token.RefreshToken) {
		return bad("the issuer gave a token that no protocol can carry")
	}
	out := issued{access: upstream.NewSecret(token.AccessToken), refresh: upstream.NewSecret(token.RefreshToken), life: unknownLife}
	if !token.Expiry.IsZero() {
		out.life = min(time.Until(token.Expiry), maxLife)
	}
	if s, ok := token.Extra("refresh_token_expires_in").(float64); ok && s > 0 && s < 1e9 {
		out.expires = time.Now().Add(time.Duration(s) * time.Second)
	}
	return out, nil
}

// usable is what RFC 6750 section 2.1 lets a token be, and a little more: visible
// ASCII. Everything else could end a line or a field of the login.
func usable(token string) bool {
	return token != "" && len(token) <= maxToken && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}

// classify says what an error of the library means.
func (t *Tokens) classify(err error, params url.Values) error {
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			return &failure{outcome: Down, text: "the issuer cannot be reached", err: urlErr.Err}
		}
		// The library's text may hold a piece of the answer.
		return &failure{outcome: Down, text: "the issuer's answer makes no sense"}
	}
	status := refusal.Response.StatusCode
	f := &failure{
		outcome: outcomeOf(status, refusal.ErrorCode),
		text:    t.quote(fmt.Sprintf("HTTP %d", status), refusal, params),
		code:    refusal.ErrorCode,
	}
	if f.outcome == Throttled || f.outcome == Down {
		f.retry = retryAfter(refusal.Response.Header.Get("Retry-After"))
	}
	return f
}

// quote repeats the issuer's words, without what was a secret among ours.
func (t *Tokens) quote(start string, e *oauth2.RetrieveError, params url.Values) string {
	words := start
	if e.ErrorCode != "" {
		words = e.ErrorCode
	}
	if e.ErrorDescription != "" {
		words += ": " + e.ErrorDescription
	}
	hide := []string{t.o.Client.Secret.Reveal()}
	for _, name := range []string{"refresh_token", "assertion", "client_assertion", "code", "code_verifier", "device_code"} {
		hide = append(hide, params.Get(name))
	}
	for _, secret := range hide {
		if secret != "" {
			words = strings.ReplaceAll(words, secret, "[secret]")
		}
	}
	return "the issuer says " + clean(words)
}

// clean makes foreign words short, and fit for one line.
func clean(s string) string {
	const most = 300
	s = strings.ToValidUTF8(s, "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}
