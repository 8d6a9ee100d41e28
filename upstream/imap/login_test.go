package imap_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// login logs in and out.
func login(t *testing.T, s *imap.Store, c upstream.Credentials) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a, err := s.Login(ctx, c)
	if err == nil {
		a.Close()
	}
	return err
}

func TestLoginUsesWhatTheServerOffers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		profile imaptest.Profile
		verb    string
	}{
		{"plain_with_initial_response", imaptest.Full(), "AUTHENTICATE"},
		{"plain_without_initial_response", imaptest.Full().Without("SASL-IR"), "AUTHENTICATE"},
		{"login", imaptest.Courier(), "LOGIN"},
		{"minimal", imaptest.Minimal(), "LOGIN"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			store := newStore(t, srv, imap.Options{})
			if err := login(t, store, alice); err != nil {
				t.Fatal(err)
			}
			if n := len(srv.Journal().Commands(tt.verb)); n != 1 {
				t.Errorf("%d %s commands, want 1", n, tt.verb)
			}
			wrong := alice
			wrong.Secret = upstream.NewSecret("wrong")
			wantKind(t, login(t, store, wrong), upstream.Refused)
		})
	}
}

func TestAnyPasswordArrivesAsItself(t *testing.T) {
	var secrets []string
	for c := 1; c < 256; c++ { // NUL, CR and LF never get here: the POP3 engine refuses them
		if c != '\r' && c != '\n' {
			secrets = append(secrets, "a"+string([]byte{byte(c)})+"b", string([]byte{byte(c)}))
		}
	}
	secrets = append(secrets, "{5}", "{5+}", `"`, `\`, `a" "b`, "pass word", " ", strings.Repeat("x", 9000), "*", "\u00fc")
	for _, p := range []imaptest.Profile{imaptest.Full(), imaptest.Full().Without("SASL-IR"), imaptest.Minimal()} {
		srv := imaptest.New(t, p, imaptest.User(`b"o\b {3}`, "x"))
		store := newStore(t, srv, imap.Options{})
		for _, secret := range secrets {
			if len(secret) > 5000 && len(p.Auth) > 0 {
				continue // over the server's line limit
			}
			srv.SetPassword(`b"o\b {3}`, secret)
			if err := login(t, store, upstream.Credentials{User: `b"o\b {3}`, Secret: upstream.NewSecret(secret)}); err != nil {
				t.Errorf("%s: password %.20q: %v", p.Name, secret, err)
			}
		}
	}
}

func TestOctetsOfALiteralAreSentOnlyWhenAskedFor(t *testing.T) {
	srv := imaptest.New(t, imaptest.Minimal())
	srv.Before(imaptest.CONTINUE, 0, imaptest.BAD("no literals here"))
	c := alice
	c.Secret = upstream.NewSecret(`quote " canary`)
	wantKind(t, login(t, newStore(t, srv, imap.Options{}), c), upstream.Unavailable)
	if j := srv.Journal().String(); strings.Contains(j, "canary") {
		t.Errorf("the password was sent all the same: %s", j)
	}
}

func TestOnlyACredentialFailureIsRefused(t *testing.T) {
	for _, tt := range []struct {
		text string
		want upstream.Kind
	}{
		{"NO Login failed.", upstream.Refused},
		{"NO [AUTHENTICATIONFAILED] Authentication failed.", upstream.Refused},
		{"NO [authenticationfailed] Too many is part of this text", upstream.Refused},
		{"NO [AUTHORIZATIONFAILED] x", upstream.Refused},
		{"NO [EXPIRED] x", upstream.Refused},
		{"NO [ALERT] Application-specific password required", upstream.Refused},
		{"NO LOGIN failed.", upstream.Refused},
		{"NO", upstream.Refused},
		{"NO [UNAVAILABLE] x", upstream.Unavailable},
		{"NO [LIMIT] x", upstream.Unavailable},
		{"NO [INUSE] x", upstream.Busy},
		{"NO [CONTACTADMIN] x", upstream.Internal},
		{"NO [PRIVACYREQUIRED] x", upstream.Internal},
		{"NO [ALERT] Too many simultaneous connections. (Failure)", upstream.Unavailable},
		{"NO Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)", upstream.Unavailable},
		{"NO Temporary authentication failure.", upstream.Unavailable},
		{"NO Server Unavailable. 15", upstream.Unavailable},
		{"BAD User is authenticated but not connected.", upstream.Unavailable},
		{"BAD what", upstream.Unavailable},
	} {
		srv := imaptest.New(t, imaptest.Full())
		srv.Before("AUTHENTICATE", 0, imaptest.Raw("{tag} "+tt.text+"\r\n"))
		err := login(t, newStore(t, srv, imap.Options{}), alice)
		if got := upstream.KindOf(err); err == nil || got != tt.want {
			t.Errorf("%q: %v, want kind %v", tt.text, err, tt.want)
		}
	}
	for name, action := range map[string]imaptest.Action{"bye": imaptest.BYE("too busy"), "fin": imaptest.End(imaptest.FIN), "garbage": imaptest.Raw("hello\r\n")} {
		srv := imaptest.New(t, imaptest.Full())
		srv.Before("AUTHENTICATE", 0, action)
		err := login(t, newStore(t, srv, imap.Options{}), alice)
		if err == nil || upstream.KindOf(err) != upstream.Unavailable {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
	}
}

func TestAServerOverItsLimitIsNoWrongPassword(t *testing.T) {
	for _, reply := range []imaptest.LimitReply{imaptest.LimitBYE, imaptest.LimitNO, imaptest.LimitUnavailable} {
		p := imaptest.Full()
		p.MaxConnections, p.LimitReply = 1, reply
		srv := imaptest.New(t, p)
		store := newStore(t, srv, imap.Options{})
		open(t, store)
		wantKind(t, login(t, store, alice), upstream.Unavailable)
	}
}

func TestSecurity(t *testing.T) {
	ca := imaptest.NewCA(t)
	tlsConfig := &tls.Config{RootCAs: ca.Pool()}
	offers := []imaptest.Option{imaptest.StartTLS(ca)}
	for _, tt := range []struct {
		name     string
		host     string
		security imap.Security
		server   []imaptest.Option
		tls      *tls.Config
		want     string // "clear", "tls" or the kind of the error
	}{
		{"auto_on_loopback_is_clear", "127.0.0.1", imap.Auto, nil, nil, "clear"},
		{"auto_on_loopback_is_clear_even_with_starttls", "127.8.9.1", imap.Auto, offers, nil, "clear"},
		{"auto_on_loopback_6", "::1", imap.Auto, offers, nil, "clear"},
		{"auto_elsewhere_is_starttls", "192.0.2.1", imap.Auto, offers, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}, "tls"},
		{"auto_elsewhere_without_starttls", "192.0.2.1", imap.Auto, nil, tlsConfig, "internal"},
		{"auto_elsewhere_unverified", "192.0.2.1", imap.Auto, offers, nil, "unavailable"},
		{"starttls_on_loopback", "127.0.0.1", imap.StartTLS, offers, tlsConfig, "tls"},
		{"starttls_on_loopback_without", "127.0.0.1", imap.StartTLS, nil, tlsConfig, "internal"},
		{"implicit", "localhost", imap.ImplicitTLS, []imaptest.Option{imaptest.ImplicitTLS(ca)}, tlsConfig, "tls"},
		{"implicit_unverified", "localhost", imap.ImplicitTLS, []imaptest.Option{imaptest.ImplicitTLS(ca)}, nil, "unavailable"},
		{"implicit_other_name", "other.example.org", imap.ImplicitTLS, []imaptest.Option{imaptest.ImplicitTLS(ca)}, tlsConfig, "unavailable"},
		{"implicit_to_clear", "localhost", imap.ImplicitTLS, nil, tlsConfig, "unavailable"},
	} {
		for name, c := range map[string]upstream.Credentials{"password": alice, "token": aliceBears(imaptest.DefaultPassword)} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				srv := imaptest.New(t, imaptest.Full(), append(tt.server, imaptest.TCP())...)
				store := newStore(t, srv, imap.Options{Host: tt.host, Security: tt.security, TLS: tt.tls, DialTime: 3 * time.Second,
					Lookup: func(context.Context, string) ([]netip.Addr, error) {
						return []netip.Addr{netip.MustParseAddr("192.0.2.7")}, nil
					}})
				err := login(t, store, c)
				got := "clear"
				if len(srv.Journal().Commands("STARTTLS")) > 0 || tt.security == imap.ImplicitTLS {
					got = "tls"
				}
				if err != nil {
					got = upstream.KindOf(err).String()
					if s := srv.Journal().Secrets(); len(s) > 0 {
						t.Errorf("credentials were sent: %d", len(s))
					}
				}
				if got != tt.want {
					t.Errorf("%s (%v), want %s", got, err, tt.want)
				}
			})
		}
	}
}

func TestNoCredentialIsSentWhereSTARTTLSGoesWrong(t *testing.T) {
	ca := imaptest.NewCA(t)
	for name, prepare := range map[string]func(*imaptest.Server){
		"refused": func(s *imaptest.Server) { s.Before("STARTTLS", 0, imaptest.NO("not now")) },
		"bad":     func(s *imaptest.Server) { s.Before("STARTTLS", 0, imaptest.BAD("what")) },
		"bye":     func(s *imaptest.Server) { s.Before("STARTTLS", 0, imaptest.BYE("gone")) },
		"response_injection": func(s *imaptest.Server) {
			s.Before("STARTTLS", 0, imaptest.Raw("{tag} OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n"))
		},
		"tagged_injection": func(s *imaptest.Server) { s.Before("STARTTLS", 0, imaptest.Raw("{tag} OK go\r\nA2 OK in\r\n")) },
		"a_lie":            func(s *imaptest.Server) { s.Before("STARTTLS", 0, imaptest.OK("go")) },
		"preauth":          func(s *imaptest.Server) { s.Before("GREETING", 0, imaptest.Raw("* PREAUTH welcome\r\n")) },
		"bye_greeting":     func(s *imaptest.Server) { s.Before("GREETING", 0, imaptest.Raw("* BYE busy\r\n")) },
		"pop3_greeting":    func(s *imaptest.Server) { s.Before("GREETING", 0, imaptest.Raw("+OK POP3 here\r\n")) },
		"early_tagged_reply": func(s *imaptest.Server) {
			s.Before("GREETING", 0, imaptest.Raw("* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\nA1 OK go\r\n"))
		},
		"stripped_capability": func(s *imaptest.Server) {
			s.Before("GREETING", 0, imaptest.Raw("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n"))
		},
		"referral": func(s *imaptest.Server) { s.Before("STARTTLS", 0, imaptest.NO("[REFERRAL imap://127.0.0.2/] there")) },
	} {
		for proof, c := range map[string]upstream.Credentials{"password": alice, "token": aliceBears(imaptest.DefaultPassword)} {
			t.Run(name+"/"+proof, func(t *testing.T) {
				srv := imaptest.New(t, imaptest.Full(), imaptest.StartTLS(ca))
				prepare(srv)
				store := newStore(t, srv, imap.Options{Security: imap.StartTLS, TLS: &tls.Config{RootCAs: ca.Pool()}, DialTime: 500 * time.Millisecond})
				if err := login(t, store, c); err == nil {
					t.Error("Login succeeded")
				}
				if n := len(srv.Journal().Secrets()); n != 0 {
					t.Errorf("credentials were sent %d times", n)
				}
				for _, a := range srv.Dialed() {
					if a != "127.0.0.1:143" {
						t.Errorf("dialed %s", a)
					}
				}
			})
		}
	}
}

// The library loops for ever over a list among capabilities.
func TestCapabilitiesThatAreNoneDoNoHarm(t *testing.T) {
	for _, raw := range []string{"* CAPABILITY IMAP4rev1 UIDPLUS MOVE ( (AUTH=X) {3} \"x\" \\ * %\r\n{tag} OK done\r\n", "{tag} OK [CAPABILITY IMAP4rev1 (MOVE] done\r\n"} {
		p := imaptest.Minimal()
		srv := imaptest.New(t, p)
		fill(srv, 1)
		srv.Before("CAPABILITY", 0, imaptest.Raw(raw))
		srv.After("EXAMINE", 0, imaptest.Raw("{tag} OK [CAPABILITY IMAP4rev1 (x)] done\r\n"))
		srv.After("SELECT", 0, imaptest.Raw("{tag} OK [CAPABILITY (] done\r\n"))
		if s := open(t, newStore(t, srv, imap.Options{})); s.Len() != 1 {
			t.Errorf("%q: %d messages, want 1", raw, s.Len())
		}
	}
}

func TestPREAUTHIsNobodysMailbox(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	srv.Before("GREETING", 0, imaptest.Raw("* PREAUTH [CAPABILITY IMAP4rev1] welcome\r\n"))
	wantKind(t, login(t, newStore(t, srv, imap.Options{}), alice), upstream.Unavailable)
}

func TestAddressesAreTriedInTurn(t *testing.T) {
	good := imaptest.New(t, imaptest.Full())
	full := imaptest.New(t, imaptest.Full())
	full.Before("GREETING", 0, imaptest.Raw("* BYE too many\r\n"))
	var dialed []string
	store, err := imap.New(imap.Options{Host: "imap.example.org", Security: imap.Auto,
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("::1")}, nil
		},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialed = append(dialed, addr)
			switch addr {
			case "127.0.0.2:143":
				return nil, errors.New("connection refused")
			case "127.0.0.3:143":
				return full.Dial(ctx, network, addr)
			}
			return good.Dial(ctx, network, addr)
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := login(t, store, alice); err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(dialed), "[127.0.0.2:143 127.0.0.3:143 [::1]:143]"; got != want {
		t.Errorf("dialed %s, want %s", got, want)
	}
}

func TestNothingIsPipelinedBehindLOGIN(t *testing.T) {
	srv := imaptest.New(t, imaptest.Courier()) // it loses what is
	fill(srv, 1)
	if s := open(t, newStore(t, srv, imap.Options{})); s.Len() != 1 {
		t.Errorf("%d messages, want 1", s.Len())
	}
}

func TestKeysAreEqualForEqualMaildrops(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full(), imaptest.User("Alice", "x"), imaptest.User("bob", "x"))
	store := newStore(t, srv, imap.Options{})
	key := func(user, password string) string {
		a, err := store.Login(t.Context(), upstream.Credentials{User: user, Secret: upstream.NewSecret(password)})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		return a.Key()
	}
	if a, b := key("alice", imaptest.DefaultPassword), key("Alice", "x"); a != b {
		t.Errorf("%q and %q for one user", a, b)
	}
	if a, b := key("alice", imaptest.DefaultPassword), key("bob", "x"); a == b {
		t.Errorf("%q for two users", a)
	}
}

// Servers repeat a command line that they did not understand, and what they say
// goes into the log.
func TestAnErrorRepeatsNoCredentials(t *testing.T) {
	const secret = "s3cr\"t-\xff-of-alice"
	encoded := base64.StdEncoding.EncodeToString([]byte("\x00" + imaptest.DefaultUser + "\x00" + secret))
	for _, p := range []imaptest.Profile{imaptest.Minimal(), imaptest.Full()} {
		for _, reply := range []string{"{tag} NO what is ", "{tag} BAD LOGIN alice ", "* BYE ", "* NO [ALERT] ", "{tag} NO " + strings.Repeat("x", 190)} {
			for _, told := range []string{secret, secret[:9], encoded} {
				srv := imaptest.New(t, p)
				text := reply + told + "\r\n"
				if strings.HasPrefix(reply, "*") {
					text += "{tag} BAD no\r\n"
				}
				for _, verb := range []string{"LOGIN", "AUTHENTICATE", imaptest.CONTINUE} {
					srv.Before(verb, 0, imaptest.Raw(text))
				}
				_, err := newStore(t, srv, imap.Options{}).Login(t.Context(), upstream.Credentials{User: imaptest.DefaultUser, Secret: upstream.NewSecret(secret)})
				if err == nil || strings.Contains(err.Error(), "s3cr") || strings.Contains(err.Error(), encoded[:8]) {
					t.Errorf("%s: %q gave the error %v", p.Name, text, err)
				}
			}
		}
	}
}

// A server that says OK before it has the password knows nobody.
func TestOKBeforeThePasswordIsNoLogin(t *testing.T) {
	for _, p := range []imaptest.Profile{imaptest.Minimal(), imaptest.Minimal().Named("no_initial_response")} {
		if p.Name == "no_initial_response" {
			p.Auth = []string{"PLAIN"}
		}
		srv := imaptest.New(t, p)
		srv.SetPassword(imaptest.DefaultUser, `a"b`) // a literal in LOGIN
		srv.Before(imaptest.CONTINUE, 0, imaptest.Raw("{tag} OK welcome\r\n"))
		srv.Before("AUTHENTICATE", 0, imaptest.Raw("{tag} OK welcome\r\n"))
		err := login(t, newStore(t, srv, imap.Options{}), upstream.Credentials{User: imaptest.DefaultUser, Secret: upstream.NewSecret(`a"b`)})
		wantKind(t, err, upstream.Unavailable)
	}
}

// Tags cannot be foreseen: a reply with another was prepared, by whomever.
func TestAReplyWithAnotherTagEndsTheLogin(t *testing.T) {
	for _, verb := range []string{"CAPABILITY", "LOGIN"} {
		srv := imaptest.New(t, imaptest.Minimal())
		srv.Before(verb, 1, imaptest.Raw("A1 OK [CAPABILITY IMAP4rev1] done\r\n{tag} OK [CAPABILITY IMAP4rev1] done\r\n"))
		wantKind(t, login(t, newStore(t, srv, imap.Options{}), alice), upstream.Unavailable)
	}
}
