package imap_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// aliceBears are credentials whose secret is a token.
func aliceBears(token string) upstream.Credentials {
	return upstream.Credentials{User: imaptest.DefaultUser, Secret: upstream.NewSecret(token), Proof: upstream.Bearer}
}

// bearing is a server that takes tokens in these ways alone.
func bearing(caps []string, mechanisms ...string) imaptest.Profile {
	p := imaptest.Full().Without("SASL-IR").With(caps...)
	p.Auth = mechanisms
	return p
}

var initialResponse = []string{"SASL-IR"}

// mechanisms are those that the server was asked for.
func mechanisms(srv *imaptest.Server) (out []string) {
	for _, c := range srv.Journal().Commands("AUTHENTICATE", "LOGIN") {
		verb, rest, _ := strings.Cut(c.Line, " ")
		if verb == "AUTHENTICATE" {
			verb, _, _ = strings.Cut(rest, " ")
		}
		out = append(out, verb)
	}
	return out
}

func TestATokenIsProvedByWhatTheServerTakes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		profile imaptest.Profile
		want    string
	}{
		{"both", bearing(initialResponse, "OAUTHBEARER", "PLAIN", "XOAUTH2"), "XOAUTH2"},
		{"xoauth2", bearing(nil, "XOAUTH2"), "XOAUTH2"},
		{"oauthbearer", bearing(initialResponse, "PLAIN", "OAUTHBEARER"), "OAUTHBEARER"},
		{"oauthbearer_without_initial_response", bearing(nil, "OAUTHBEARER"), "OAUTHBEARER"},
	} {
		for _, length := range []int{20, 2900, 3100, 6000} { // around what goes into the command, and what does not
			srv := imaptest.New(t, tt.profile)
			token := strings.Repeat("t", length)
			srv.SetPassword(imaptest.DefaultUser, token)
			store := newStore(t, srv, imap.Options{})
			if err := login(t, store, aliceBears(token)); err != nil {
				t.Errorf("%s, %d octets: %v", tt.name, length, err)
			}
			if got := strings.Join(mechanisms(srv), " "); got != tt.want {
				t.Errorf("%s, %d octets: proved by %q, want %q", tt.name, length, got, tt.want)
			}
			for _, s := range srv.Journal().Secrets() {
				if s != token {
					t.Errorf("%s: the server got another token", tt.name)
				}
			}
		}
	}
}

// A name with the separators of the message in it stays one name.
func TestAnyNameArrivesBesideAToken(t *testing.T) {
	for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
		for _, name := range []string{"a,b", "a=b", "a=2Cb", "n,a=eve,", "alice@example.org", "j\u00fcrgen"} {
			srv := imaptest.New(t, bearing(initialResponse, mechanism), imaptest.User(name, "token"))
			c := aliceBears("token")
			c.User = name
			if err := login(t, newStore(t, srv, imap.Options{}), c); err != nil {
				t.Errorf("%s: %q: %v", mechanism, name, err)
			}
		}
	}
}

func TestARefusedTokenIsRefusedAndSaysWhy(t *testing.T) {
	for _, p := range []imaptest.Profile{bearing(initialResponse, "XOAUTH2"), bearing(nil, "XOAUTH2"), bearing(initialResponse, "OAUTHBEARER"), bearing(nil, "OAUTHBEARER")} {
		srv := imaptest.New(t, p)
		err := login(t, newStore(t, srv, imap.Options{}), aliceBears("wrong-token"))
		wantKind(t, err, upstream.Refused)
		if text := err.Error(); !strings.Contains(text, "AUTHENTICATIONFAILED") || !strings.Contains(text, "status: 401") || !strings.Contains(text, "scope: mail") || strings.Contains(text, "wrong-t") {
			t.Errorf("the cause is %q", text)
		}
		entries := srv.Journal().String()
		if strings.Contains(entries, "BAD") {
			t.Errorf("%v: the exchange was not ended as it should be:\n%s", p.Auth, entries)
		}
	}
}

// challenge is what a server sends in place of OK to a token.
func challenge(text string) string {
	return "+ " + base64.StdEncoding.EncodeToString([]byte(text)) + "\r\n"
}

func TestWhatAServerSaysOfAToken(t *testing.T) {
	const token = "ya29.a-token-of-alice"
	for _, tt := range []struct {
		name, reply string
		want        upstream.Kind
		says        string
	}{
		{"no_at_once", "{tag} NO AUTHENTICATE failed.\r\n", upstream.Refused, "AUTHENTICATE failed"},
		{"no_for_now", "{tag} NO [UNAVAILABLE] x\r\n", upstream.Unavailable, ""},
		{"issuer_down", challenge(`{"status":"503","scope":"x"}`) + "{tag} NO failed\r\n", upstream.Unavailable, "status: 503"},
		{"too_many", challenge(`{"status":429}`) + "{tag} NO failed\r\n", upstream.Unavailable, "status: 429"},
		{"invalid_token", challenge(`{"status":"invalid_token"}`) + "{tag} NO failed\r\n", upstream.Refused, "invalid_token"},
		{"repeats_the_token", challenge(`{"status":"`+token+`"}`) + "{tag} NO failed " + token + "\r\n", upstream.Refused, ""},
		{"control_characters", challenge(`{"status":"a\r\nb\u0007\u00e9c"}`) + "{tag} NO failed\r\n", upstream.Refused, "status: abc"},
		{"no_json", challenge(`<html>`) + "{tag} NO failed\r\n", upstream.Refused, ""},
		{"no_object", challenge(`["status"]`) + "{tag} NO failed\r\n", upstream.Refused, ""},
		{"no_base64", "+ &&&\r\n{tag} NO failed\r\n", upstream.Refused, ""},
		{"nothing", "+\r\n{tag} NO failed\r\n", upstream.Refused, ""},
		{"two_challenges", challenge(`{"status":"401"}`) + challenge(`{"status":"401"}`) + "{tag} NO failed\r\n", upstream.Unavailable, "goes on asking"},
		{"ok_behind_it", challenge(`{"status":"401"}`) + "{tag} OK welcome\r\n", upstream.Unavailable, "did not ask for"},
		{"huge", "+ " + strings.Repeat("QUFB", 1<<18) + "\r\n{tag} NO failed\r\n", upstream.Unavailable, "a line of over 4096 octets"},
		{"deep", challenge(strings.Repeat("[", 2000)) + "{tag} NO failed\r\n", upstream.Refused, ""},
		{"bye", challenge(`{"status":"401"}`) + "* BYE go away\r\n", upstream.Unavailable, "go away"},
	} {
		for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
			t.Run(tt.name+"/"+mechanism, func(t *testing.T) {
				srv := imaptest.New(t, bearing(initialResponse, mechanism), imaptest.TCP())
				srv.SetPassword(imaptest.DefaultUser, token)
				srv.Before("AUTHENTICATE", 1, imaptest.Raw(tt.reply))
				err := login(t, newStore(t, srv, imap.Options{}), aliceBears(token))
				wantKind(t, err, tt.want)
				if err != nil && (!strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), token[:8])) {
					t.Errorf("the cause is %q, want %q in it and no token", err, tt.says)
				}
			})
		}
	}
	for name, action := range map[string]imaptest.Action{"fin": imaptest.End(imaptest.FIN), "rst": imaptest.End(imaptest.RST), "garbage": imaptest.Raw("hello\r\n")} {
		srv := imaptest.New(t, bearing(initialResponse, "XOAUTH2"))
		srv.Before("AUTHENTICATE", 0, action)
		if err := login(t, newStore(t, srv, imap.Options{}), aliceBears(token)); upstream.KindOf(err) != upstream.Unavailable || err == nil {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
	}
}

// OK before the server has the token knows nobody.
func TestOKBeforeTheTokenIsNoLogin(t *testing.T) {
	srv := imaptest.New(t, bearing(nil, "XOAUTH2"))
	srv.Before("AUTHENTICATE", 0, imaptest.Raw("{tag} OK welcome\r\n"))
	wantKind(t, login(t, newStore(t, srv, imap.Options{}), aliceBears("token")), upstream.Unavailable)
}

func TestATokenIsNeverGivenAsAPassword(t *testing.T) {
	for _, p := range []imaptest.Profile{imaptest.Minimal(), imaptest.Courier(), bearing(initialResponse, "PLAIN", "LOGIN")} {
		srv := imaptest.New(t, p)
		wantKind(t, login(t, newStore(t, srv, imap.Options{}), aliceBears(imaptest.DefaultPassword)), upstream.Internal)
		if n := len(srv.Journal().Secrets()); n != 0 {
			t.Errorf("%s: the token was sent %d times", p.Name, n)
		}
	}
}

func TestWhatIsNoTokenIsNotSent(t *testing.T) {
	for _, token := range []string{"", "a b", "a\x01auth=Bearer b", "a\r\nb", "\x00", "t\u00f6ken", strings.Repeat("x", 70_000)} {
		srv := imaptest.New(t, bearing(initialResponse, "XOAUTH2"))
		wantKind(t, login(t, newStore(t, srv, imap.Options{}), aliceBears(token)), upstream.Refused)
		if n := srv.Journal().Connections(); n != 0 {
			t.Errorf("%.10q: %d connections were made", token, n)
		}
	}
}

// What popgate shares with a client is no secret of the mail server.
func TestASharedSecretIsNotShownToTheServer(t *testing.T) {
	for _, secret := range []string{"", imaptest.DefaultPassword} {
		srv := imaptest.New(t, imaptest.Full())
		c := upstream.Credentials{User: imaptest.DefaultUser, Secret: upstream.NewSecret(secret), Proof: upstream.Shared}
		wantKind(t, login(t, newStore(t, srv, imap.Options{}), c), upstream.Refused)
		if n := srv.Journal().Connections(); n != 0 {
			t.Errorf("%d connections were made", n)
		}
	}
}

// renewer gives the tokens of a list, one after the other.
type renewer struct {
	t      *testing.T
	tokens []string
	err    error
	asked  []string // what was refused
}

func (r *renewer) Renew(_ context.Context, refused upstream.Secret) (upstream.Secret, error) {
	r.asked = append(r.asked, refused.Reveal())
	if r.err != nil {
		return upstream.Secret{}, r.err
	}
	if len(r.tokens) == 0 {
		r.t.Fatal("the renewer is asked once too often")
	}
	next := r.tokens[0]
	r.tokens = r.tokens[1:]
	return upstream.NewSecret(next), nil
}

func TestARefusedTokenIsRenewedOnce(t *testing.T) {
	down := &upstream.Error{Kind: upstream.Unavailable, Op: "renew", Err: errors.New("the issuer is down")}
	for _, tt := range []struct {
		name  string
		now   string // the token that the server takes
		renew renewer
		want  string // the kind of the error
		tries int    // at the server
	}{
		{"still_good", "old", renewer{}, "", 1},
		{"renewed", "new", renewer{tokens: []string{"new"}}, "", 2},
		{"refused_again", "other", renewer{tokens: []string{"new"}}, "internal", 2},
		{"issuer_down", "new", renewer{err: down}, "unavailable", 1},
		{"garbage", "new", renewer{tokens: []string{"n e w"}}, "internal", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, bearing(initialResponse, "XOAUTH2"))
			srv.SetPassword(imaptest.DefaultUser, tt.now)
			tt.renew.t = t
			c := aliceBears("old")
			c.Renewer = &tt.renew
			err := login(t, newStore(t, srv, imap.Options{}), c)
			got := ""
			if err != nil {
				got = upstream.KindOf(err).String()
			}
			if got != tt.want {
				t.Errorf("%q (%v), want %q", got, err, tt.want)
			}
			if n := len(srv.Journal().Commands("AUTHENTICATE")); n != tt.tries {
				t.Errorf("%d tries at the server, want %d", n, tt.tries)
			}
			if n := len(tt.renew.asked); n > 1 || n == 1 && tt.renew.asked[0] != "old" {
				t.Errorf("renewed for %q", tt.renew.asked)
			}
		})
	}
}

// A server that is down is no reason to renew, nor is one of the client's own.
func TestOnlyARefusalIsRenewed(t *testing.T) {
	for _, reply := range []string{"{tag} NO [UNAVAILABLE] x\r\n", "{tag} BAD x\r\n", "* BYE x\r\n", "{tag} NO [CONTACTADMIN] x\r\n"} {
		srv := imaptest.New(t, bearing(initialResponse, "XOAUTH2"))
		srv.Before("AUTHENTICATE", 0, imaptest.Raw(reply))
		c, r := aliceBears("old"), &renewer{t: t}
		c.Renewer = r
		if err := login(t, newStore(t, srv, imap.Options{}), c); err == nil || len(r.asked) > 0 {
			t.Errorf("%q: %v, renewed for %q", reply, err, r.asked)
		}
	}
}

func TestATokenThatRunsOutInMidSessionIsRenewed(t *testing.T) {
	srv := imaptest.New(t, bearing(initialResponse, "OAUTHBEARER"))
	fill(srv, 3)
	srv.SetPassword(imaptest.DefaultUser, "first")
	r := &renewer{t: t, tokens: []string{"second", "third"}}
	c := aliceBears("first")
	c.Renewer = r
	a, err := newStore(t, srv, imap.Options{}).Login(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	d, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t, a, d}
	for i, token := range []string{"second", "third"} {
		srv.SetPassword(imaptest.DefaultUser, token)
		srv.Disconnect(imaptest.FIN)
		if got, err := s.retrieve(i, upstream.Extent{}); err != nil || got != message(i+1) {
			t.Errorf("after the loss: %q, %v", got, err)
		}
	}
	srv.Disconnect(imaptest.FIN)
	if rec, err := s.Update(t.Context(), upstream.Changes{Remove: []int{1}}); err != nil || rec.Removed != 1 {
		t.Errorf("Update() = %+v, %v", rec, err)
	}
	if got := strings.Join(r.asked, " "); got != "first second" {
		t.Errorf("renewed for %q, want first and second", got)
	}
	if got := uids(srv.INBOX()); got != "1 3" {
		t.Errorf("%s are left, want 1 3", got)
	}
}
