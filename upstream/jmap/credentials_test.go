package jmap_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
	"github.com/popgate/popgate/upstream/readahead"
)

// renewer gives the tokens in order, and then an error of kind.
type renewer struct {
	mu      sync.Mutex
	tokens  []string
	kind    upstream.Kind
	refused []string
	during  func()
}

func (r *renewer) Renew(_ context.Context, refused upstream.Secret) (upstream.Secret, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, refused.Reveal())
	if r.during != nil {
		r.during()
	}
	if len(r.tokens) == 0 {
		return upstream.Secret{}, &upstream.Error{Kind: r.kind, Op: "renew", Err: errors.New("no more of them")}
	}
	next := r.tokens[0]
	r.tokens = r.tokens[1:]
	return upstream.NewSecret(next), nil
}

func byToken(token string, r upstream.Renewer) upstream.Credentials {
	return upstream.Credentials{User: jmaptest.User, Secret: upstream.NewSecret(token), Proof: upstream.Bearer, Renewer: r}
}

// TestATokenIsRenewedOnce for each refusal, at login.
func TestATokenIsRenewedOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		first  string
		tokens []string // that the renewer has
		kind   upstream.Kind
		none   bool // no renewer
		want   upstream.Kind
		ok     bool
		asked  []string
	}{
		{name: "good", first: jmaptest.Token, tokens: []string{"x"}, ok: true},
		{name: "old", first: "old", tokens: []string{jmaptest.Token, "x"}, ok: true, asked: []string{"old"}},
		{name: "refused_again", first: "old", tokens: []string{"older", jmaptest.Token}, want: upstream.Internal, asked: []string{"old"}},
		{name: "issuer_down", first: "old", kind: upstream.Unavailable, want: upstream.Unavailable, asked: []string{"old"}},
		{name: "consent_withdrawn", first: "old", kind: upstream.Internal, want: upstream.Internal, asked: []string{"old"}},
		{name: "no_renewer", first: "old", none: true, want: upstream.Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			r := &renewer{tokens: tt.tokens, kind: tt.kind}
			c := byToken(tt.first, r)
			if tt.none {
				c.Renewer = nil
			}
			a, err := newStore(t, s, nil).Login(t.Context(), c)
			if tt.ok != (err == nil) {
				t.Errorf("Login: %v", err)
			}
			if err == nil {
				a.Close()
			} else {
				wantKind(t, "Login", err, tt.want)
			}
			if !slices.Equal(r.refused, tt.asked) {
				t.Errorf("the renewer was asked for %q, want %q", r.refused, tt.asked)
			}
		})
	}
}

// TestATokenIsRenewedInMidSession, at every request, and the request is made again.
func TestATokenIsRenewedInMidSession(t *testing.T) {
	for _, tt := range []struct {
		at   string // the method, or download
		then int    // requests of the kind that pass before
	}{{"Mailbox/get", 0}, {"Email/query", 0}, {"download", 0}, {"download", 1}, {"Email/get", 1}, {"Email/set", 0}} {
		t.Run(fmt.Sprint(tt.at, tt.then), func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			for i := range 5 {
				s.Deliver([]byte(nth(i)))
			}
			n := 0
			s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
				if r.Op == tt.at || r.Calls(tt.at) {
					if n++; n == tt.then+1 {
						s.SetToken("second")
					}
				}
				return nil
			})
			r := &renewer{tokens: []string{"second"}, kind: upstream.Internal}
			a, err := newStore(t, s, nil).Login(t.Context(), byToken(jmaptest.Token, r))
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			m, err := a.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			each(t, m, 0, 1, upstream.Extent{})
			got, err := m.Update(t.Context(), upstream.Changes{Remove: []int{0, 4}})
			if err != nil || got.Removed != 2 {
				t.Errorf("Update: %+v, %v", got, err)
			}
			if !slices.Equal(r.refused, []string{jmaptest.Token}) {
				t.Errorf("the renewer was asked for %q", r.refused)
			}
		})
	}
}

// TestRequestsAtATimeRenewOneToken once.
func TestRequestsAtATimeRenewOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		for i := range 60 {
			s.Deliver([]byte(nth(i)))
		}
		r := &renewer{tokens: []string{"second", "third"}, during: func() { time.Sleep(time.Second) }}
		store := newStore(t, s, func(o *jmap.Options) { o.ReadAhead = readahead.NewPool(1<<20, 1<<20) })
		a, err := store.Login(t.Context(), byToken(jmaptest.Token, r))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		m, err := a.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
			if r.Op != "download" {
				return nil
			}
			if n++; n == 3 { // those that are fetched ahead come together
				s.SetToken("second")
			}
			return &jmaptest.Fault{Delay: time.Millisecond}
		})
		each(t, m, 0, 1, upstream.Extent{})
		if len(r.refused) != 1 {
			t.Errorf("the renewer was asked for %q", r.refused)
		}
	})
}

// TestProofs: a token is shown as one, whatever the store's own way is, and an empty
// shared secret proves nothing.
func TestProofs(t *testing.T) {
	for _, tt := range []struct {
		auth   jmap.Auth
		proof  upstream.Proof
		secret string
		ok     bool
	}{
		{jmap.Basic, upstream.Bearer, jmaptest.Token, true},
		{jmap.Basic, upstream.Bearer, jmaptest.Password, false},
		{jmap.Basic, upstream.Password, jmaptest.Token, false},
		{jmap.Bearer, upstream.Password, jmaptest.Token, true},
		{jmap.Basic, upstream.Shared, jmaptest.Password, true},
		{jmap.Basic, upstream.Shared, "", false},
	} {
		s := jmaptest.New(t, jmaptest.Options{})
		a, err := newStore(t, s, func(o *jmap.Options) { o.Auth = tt.auth }).
			Login(t.Context(), upstream.Credentials{User: jmaptest.User, Secret: upstream.NewSecret(tt.secret), Proof: tt.proof})
		if tt.ok != (err == nil) {
			t.Errorf("%+v: %v", tt, err)
		}
		if err == nil {
			a.Close()
		} else {
			wantKind(t, "Login", err, upstream.Refused)
		}
		if tt.secret == "" && len(s.Requests()) > 0 {
			t.Error("the server was asked, and might know an account without a password")
		}
	}
}

// TestTheMailboxOfTheCredentials comes before that of the store.
func TestTheMailboxOfTheCredentials(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	s.Deliver([]byte("inbox"))
	s.DeliverAt([]byte("archive"), time.Unix(0, 0), jmaptest.Archive)
	s.DeliverAt([]byte("trash"), time.Unix(0, 0), jmaptest.Trash)
	store := newStore(t, s, func(o *jmap.Options) { o.Mailbox = "Archive" })
	keys := map[string]bool{}
	for mailbox, want := range map[string]string{"": "archive", "inbox": "inbox", "Trash": "trash"} {
		c := alice
		c.Mailbox = mailbox
		a, err := store.Login(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		keys[a.Key()] = true
		m, err := a.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := retrieve(t, m, 0, upstream.Extent{}); err != nil || got != want {
			t.Errorf("%q shows %q, %v", mailbox, got, err)
		}
		if r, err := m.Update(t.Context(), upstream.Changes{Remove: []int{0}}); err != nil || r.Removed != 1 {
			t.Errorf("%q: Update: %+v, %v", mailbox, r, err)
		}
		a.Close()
	}
	if len(keys) != 3 {
		t.Errorf("three maildrops have the keys %v", keys)
	}
}

// TestTheAccountOfAnotherUser is the one of that name that is shared, and mail.
func TestTheAccountOfAnotherUser(t *testing.T) {
	mail := map[string]any{"urn:ietf:params:jmap:mail": map[string]any{}}
	shared := func(name string, personal bool, capabilities map[string]any) map[string]any {
		return map[string]any{"name": name, "isPersonal": personal, "isReadOnly": false, "accountCapabilities": capabilities}
	}
	for _, tt := range []struct {
		name  string
		wants string
		all   map[string]any // besides alice's own
		want  upstream.Kind
		ok    bool
	}{
		{"shared", "team", map[string]any{jmaptest.Account: shared("team", false, mail)}, 0, true},
		{"not_there", "team", nil, upstream.Refused, false},
		{"of_other_letters", "Team", map[string]any{jmaptest.Account: shared("team", false, mail)}, upstream.Refused, false},
		{"without_mail", "team", map[string]any{jmaptest.Account: shared("team", false, map[string]any{})}, upstream.Refused, false},
		{"her_own_under_that_name", "team", map[string]any{jmaptest.Account: shared("team", true, mail)}, upstream.Refused, false},
		{"two_of_them", "team", map[string]any{jmaptest.Account: shared("team", false, mail), "z": shared("team", false, mail)}, upstream.Internal, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{Session: func(v map[string]any) {
				all := map[string]any{"own": shared(jmaptest.User, true, mail)}
				for k, a := range tt.all {
					all[k] = a
				}
				v["accounts"], v["primaryAccounts"] = all, map[string]any{"urn:ietf:params:jmap:mail": "own"}
			}})
			s.Deliver([]byte(small))
			c := alice
			c.Authorize = tt.wants
			a, err := newStore(t, s, nil).Login(t.Context(), c)
			if !tt.ok {
				wantKind(t, "Login", err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if m, err := a.Open(t.Context()); err != nil || m.Len() != 1 || !strings.HasSuffix(a.Key(), jmaptest.Account) {
				t.Errorf("the maildrop %q: %v, %v", a.Key(), m, err)
			}
		})
	}
	s := jmaptest.New(t, jmaptest.Options{})
	c := alice
	c.Authorize = c.User
	a, err := newStore(t, s, nil).Login(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}

// TestFurtherOrigins: credentials go where the configuration says, if the session
// resource sends them there, and never by a redirect.
func TestFurtherOrigins(t *testing.T) {
	const other = "http://127.0.0.2:8081"
	for _, tt := range []struct {
		name     string
		origins  []string
		session  string // where the session resource says that the rest is
		redirect string // of the session resource
		ok       bool
	}{
		{"listed", []string{"http://127.0.0.3", other}, other, "", true},
		{"listed_with_a_slash", []string{other + "/"}, other, "", true},
		{"not_listed", nil, other, "", false},
		{"another_port", []string{other}, "http://127.0.0.2:8082", "", false},
		{"another_scheme", []string{other}, "https://127.0.0.2:8081", "", false},
		{"by_redirect", []string{other}, "", other + "/jmap", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{NoJump: true, Session: func(v map[string]any) {
				for _, k := range []string{"apiUrl", "downloadUrl"} {
					v[k] = tt.session + v[k].(string)
				}
			}})
			s.Deliver([]byte(small))
			if tt.redirect != "" {
				s.Hook(jmaptest.Once(jmaptest.Op("session"), jmaptest.Fault{Status: 302, Header: http.Header{"Location": {tt.redirect}}}))
			}
			store := newStore(t, s, func(o *jmap.Options) { o.Origins = tt.origins })
			a, err := store.Login(t.Context(), alice)
			if !tt.ok {
				wantKind(t, "Login", err, upstream.Internal)
				for _, at := range s.Dialed() {
					if at != "127.0.0.1:8080" {
						t.Errorf("connected to %s", at)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			m, err := a.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := retrieve(t, m, 0, upstream.Extent{}); err != nil || got != small {
				t.Errorf("%q, %v", got, err)
			}
			if !slices.Contains(s.Dialed(), "127.0.0.2:8081") {
				t.Errorf("connected to %q", s.Dialed())
			}
		})
	}
	for _, bad := range []string{"", "jmap.example.net", "http://jmap.example.net", "https://jmap.example.net/path", "https://a@jmap.example.net", "*"} {
		if _, err := jmap.New(jmap.Options{URL: "https://jmap.example.net", Origins: []string{bad}}); err == nil {
			t.Errorf("the origin %q is taken", bad)
		}
	}
}
