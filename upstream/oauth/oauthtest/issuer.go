package oauthtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Rotation says what becomes of a refresh token that was used.
type Rotation int

const (
	// Keep gives no new refresh token.
	Keep Rotation = iota
	// Strict gives a new one and takes the old one no more.
	Strict
	// Grace gives a new one and takes the old one until the new one was used.
	Grace
)

// Fault answers a request to the token endpoint in the place of the issuer. It
// reports whether it did.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// An Issuer is an [http.Handler] for /token, /device, /authorize and /introspect.
// The fields may be set before it is used, and later by [Issuer.Set].
type Issuer struct {
	Rotation Rotation
	Life     time.Duration // of an access token
	Fault    Fault         // nil: none
	Pending  int           // times that a device code is answered as pending
	Key      *rsa.PublicKey

	mu       sync.Mutex
	refresh  map[string]grant
	access   map[string]grant
	codes    map[string]code
	Requests []url.Values // to the token endpoint, in order
}

type grant struct {
	user string
	end  time.Time // zero: none
	old  string    // the refresh token that it replaced
}

type code struct{ user, challenge, redirect string }

// New returns an issuer whose access tokens live for an hour.
func New() *Issuer {
	return &Issuer{Life: time.Hour, refresh: map[string]grant{}, access: map[string]grant{}, codes: map[string]code{}}
}

// Set changes the issuer under its lock.
func (s *Issuer) Set(change func(*Issuer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// Consent makes a refresh token for a user.
func (s *Issuer) Consent(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newRefresh(grant{user: user})
}

// Revoke ends every token of a user.
func (s *Issuer) Revoke(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tokens := range []map[string]grant{s.refresh, s.access} {
		for token, g := range tokens {
			if g.user == user {
				delete(tokens, token)
			}
		}
	}
}

// Expire ends every access token.
func (s *Issuer) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// Valid returns whose access token it is; "" if it is none.
func (s *Issuer) Valid(token string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.access[token]
	if !ok || time.Now().After(g.end) {
		return ""
	}
	return g.user
}

// Takes reports whether a refresh token would be taken now.
func (s *Issuer) Takes(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.refresh[token]
	return ok
}

// Count is how many requests came to the token endpoint.
func (s *Issuer) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.Requests)
}

func (s *Issuer) newRefresh(g grant) string {
	token := "refresh-" + rand.Text()
	s.refresh[token] = g
	return token
}

func (s *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if r.ParseForm() != nil {
		refuse(w, "invalid_request", "the form cannot be read")
		return
	}
	switch r.URL.Path {
	case "/token":
		s.token(w, r)
	case "/device":
		s.mu.Lock()
		s.codes["device"] = code{user: "device@example.test"}
		s.mu.Unlock()
		reply(w, http.StatusOK, map[string]any{"device_code": "device", "user_code": "ABCD-EFGH", "verification_uri": "https://issuer.test/enter", "expires_in": 600, "interval": 1})
	case "/authorize":
		s.authorize(w, r)
	case "/introspect":
		user := s.Valid(r.Form.Get("token"))
		answer := map[string]any{"active": user != ""}
		if user != "" {
			answer["email"], answer["username"], answer["scope"] = user, user, "mail"
		}
		reply(w, http.StatusOK, answer)
	default:
		http.NotFound(w, r)
	}
}

// authorize is the page of consent. The user consents at once.
func (s *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name := "code-" + rand.Text()
	s.mu.Lock()
	s.codes[name] = code{user: q.Get("login_hint"), challenge: q.Get("code_challenge"), redirect: q.Get("redirect_uri")}
	s.mu.Unlock()
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {name}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
}

func (s *Issuer) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.Requests = append(s.Requests, r.Form)
	fault := s.Fault
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := r.Form
	switch f.Get("grant_type") {
	case "refresh_token":
		s.renew(w, f.Get("refresh_token"))
	case "client_credentials":
		s.issue(w, "any", "")
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if c := s.claims(f.Get("assertion")); c != nil {
			s.issue(w, c["sub"].(string), "")
			return
		}
		refuse(w, "invalid_grant", "the assertion does not hold")
	case "urn:ietf:params:oauth:grant-type:device_code":
		if s.Pending--; s.Pending >= 0 {
			refuse(w, "authorization_pending", "")
			return
		}
		s.issue(w, s.codes["device"].user, s.newRefresh(grant{user: s.codes["device"].user}))
	case "authorization_code":
		c, ok := s.codes[f.Get("code")]
		delete(s.codes, f.Get("code"))
		sum := sha256.Sum256([]byte(f.Get("code_verifier")))
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge || c.redirect != f.Get("redirect_uri") {
			refuse(w, "invalid_grant", "the code does not hold")
			return
		}
		s.issue(w, c.user, s.newRefresh(grant{user: c.user}))
	default:
		refuse(w, "unsupported_grant_type", "")
	}
}

// renew answers a refresh token.
func (s *Issuer) renew(w http.ResponseWriter, token string) {
	g, ok := s.refresh[token]
	if !ok {
		refuse(w, "invalid_grant", "the refresh token "+token+" is not known")
		return
	}
	delete(s.refresh, g.old)
	next := ""
	switch s.Rotation {
	case Strict:
		delete(s.refresh, token)
		next = s.newRefresh(grant{user: g.user})
	case Grace:
		next = s.newRefresh(grant{user: g.user, old: token})
	}
	s.issue(w, g.user, next)
}

func (s *Issuer) issue(w http.ResponseWriter, user, refresh string) {
	token := "access-" + rand.Text()
	s.access[token] = grant{user: user, end: time.Now().Add(s.Life)}
	answer := map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(s.Life / time.Second)}
	if refresh != "" {
		answer["refresh_token"] = refresh
	}
	reply(w, http.StatusOK, answer)
}

// claims returns what an assertion of s.Key says; nil if it does not hold.
func (s *Issuer) claims(jwt string) map[string]any { return Claims(jwt, s.Key) }

// Claims returns what a JWT says, PS256 or RS256; nil if it does not hold by key.
func Claims(jwt string, key *rsa.PublicKey) map[string]any {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 || key == nil {
		return nil
	}
	var header, claims map[string]any
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !part(parts[0], &header) || !part(parts[1], &claims) {
		return nil
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if header["alg"] == "PS256" {
		err = rsa.VerifyPSS(key, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature)
	}
	if err != nil {
		return nil
	}
	for name, value := range header {
		claims["header."+name] = value
	}
	return claims
}

func part(text string, to *map[string]any) bool {
	data, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(data, to) == nil
}

func refuse(w http.ResponseWriter, code, words string) {
	reply(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": words})
}

func reply(w http.ResponseWriter, status int, answer map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}
