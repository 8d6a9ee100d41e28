package oauth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/oauthtest"
)

func newRSA(t *testing.T, bits int) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func serviceFile(t *testing.T, text []byte) []byte {
	t.Helper()
	file, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "svc@project.test", "private_key_id": "kid-1", "private_key": string(text),
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func serviceKey(t *testing.T) (*oauth.Key, *rsa.PublicKey) {
	t.Helper()
	private, text := newRSA(t, 2048)
	key, address, err := oauth.NewServiceAccount(serviceFile(t, text))
	if err != nil || address != "svc@project.test" {
		t.Fatalf("NewServiceAccount = %q, %v", address, err)
	}
	return key, &private.PublicKey
}

func TestAServiceAccountNamesTheMailbox(t *testing.T) {
	issuer := oauthtest.New()
	key, pub := serviceKey(t)
	issuer.Key = pub
	o := options(issuer, nil)
	o.Grant, o.Client = oauth.ServiceAccount, oauth.Client{ID: "svc@project.test", Key: key}
	o.Mailboxes = []string{alice, "bob"}
	tokens := newTokens(t, o)
	wantToken(t, tokens, issuer)
	if c, err := login(t.Context(), tokens, "bob"); err != nil || issuer.Valid(c.Secret.Reveal()) != "bob" {
		t.Errorf("the token of bob: %v", err)
	}
	c := oauthtest.Claims(issuer.Requests[0].Get("assertion"), pub)
	for name, want := range map[string]any{
		"iss": "svc@project.test", "sub": alice, "aud": "https://issuer.test/token", "scope": "mail offline_access", "header.alg": "RS256", "header.kid": "kid-1", "header.typ": "JWT",
	} {
		if c[name] != want {
			t.Errorf("claim %s is %v, want %v", name, c[name], want)
		}
	}
	if life := c["exp"].(float64) - c["iat"].(float64); life <= 0 || life > 3600 {
		t.Errorf("the assertion lives for %v s", life)
	}
}

func TestACertificateProvesTheClient(t *testing.T) {
	private, text := newRSA(t, 2048)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key, err := oauth.NewKey(cert, text)
	if err != nil {
		t.Fatal(err)
	}
	issuer := oauthtest.New()
	o := options(issuer, nil)
	o.Grant, o.Client, o.Mailboxes = oauth.ClientCredentials, oauth.Client{ID: "client", Key: key}, []string{alice, "bob"}
	tokens := newTokens(t, o)
	for _, m := range o.Mailboxes {
		if _, err := login(t.Context(), tokens, m); err != nil {
			t.Fatal(err)
		}
	}
	if issuer.Count() != 1 {
		t.Errorf("%d requests for a token that serves all mailboxes", issuer.Count())
	}
	form := issuer.Requests[0]
	c := oauthtest.Claims(form.Get("client_assertion"), &private.PublicKey)
	old, now := sha1.Sum(der), sha256.Sum256(der)
	for name, want := range map[string]any{
		"iss": "client", "sub": "client", "aud": "https://issuer.test/token", "header.alg": "PS256",
		"header.x5t":      base64.RawURLEncoding.EncodeToString(old[:]),
		"header.x5t#S256": base64.RawURLEncoding.EncodeToString(now[:]),
	} {
		if c[name] != want {
			t.Errorf("claim %s is %v, want %v", name, c[name], want)
		}
	}
	if got := form.Get("client_assertion_type"); got != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Errorf("client_assertion_type is %q", got)
	}
	if form.Get("scope") != "mail offline_access" || form.Get("client_id") != "client" || form.Has("client_secret") {
		t.Errorf("the request is %v", form)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", key, o, o, key); strings.Contains(text, private.D.String()) {
		t.Error("a key can be printed")
	}
	_, other := newRSA(t, 2048)
	if _, err := oauth.NewKey(cert, other); err == nil {
		t.Error("a certificate of another key was taken")
	}
}

func TestKeysThatAreNoUse(t *testing.T) {
	_, small := newRSA(t, 1024)
	for name, data := range map[string][]byte{"empty": nil, "no_json": []byte("x"), "small": serviceFile(t, small), "no_key": serviceFile(t, []byte("x")), "garbage": serviceFile(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary")}))} {
		if _, _, err := oauth.NewServiceAccount(data); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An app-only grant opens the mailboxes of its list, whichever way another is
// asked for, and there must be a list.
func TestAnAppOnlyGrantHasAList(t *testing.T) {
	issuer := oauthtest.New()
	o := options(issuer, nil)
	o.Grant = oauth.ClientCredentials
	for _, list := range [][]string{nil, {}, {"*"}, {"*@example.test"}, {alice, ""}} {
		o.Mailboxes = list
		if _, err := oauth.New(o); err == nil {
			t.Errorf("the list %q was taken", list)
		}
	}
	o.Mailboxes = []string{alice}
	tokens := newTokens(t, o)
	if !tokens.AppOnly() {
		t.Error("AppOnly() = false")
	}
	for _, user := range []string{"bob", "", "ALICE@example.test", alice + " ", "x" + alice} {
		_, err := login(t.Context(), tokens, user)
		wantError(t, err, upstream.Internal, "not among the mailboxes")
	}
	_, err := tokens.Step(t.Context(), upstream.Credentials{User: alice, Authorize: "bob", Secret: upstream.NewSecret("proved-canary")})
	wantError(t, err, upstream.Internal, `"bob" is not among the mailboxes`)
	if issuer.Count() != 0 {
		t.Error("the issuer was asked")
	}
	if _, err := login(t.Context(), tokens, alice); err != nil {
		t.Error(err)
	}
}
