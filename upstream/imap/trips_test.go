package imap_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// verbs are the commands that a server has got since the journal was n long.
func verbs(srv *imaptest.Server, n int) string {
	var out []string
	for _, e := range srv.Journal().Since(n) {
		if e.Kind == imaptest.Received {
			out = append(out, e.Command.Verb)
		}
	}
	return strings.Join(out, ", ")
}

// Each command is a round trip, but for the last one.
func TestALoginTakesFewRoundTrips(t *testing.T) {
	ca := imaptest.NewCA(t)
	for _, tt := range []struct {
		name     string
		profile  imaptest.Profile
		startTLS bool
		want     string
	}{
		{"told_in_greeting_and_login", imaptest.Full(), false, "AUTHENTICATE, EXAMINE, UID FETCH, LOGOUT"},
		// What was told in clear text is not to be believed (RFC 3501 section 6.2.1).
		{"told_before_starttls", imaptest.Full(), true, "STARTTLS, CAPABILITY, AUTHENTICATE, EXAMINE, UID FETCH, LOGOUT"},
		{"told_in_the_greeting_alone", imaptest.Courier(), false, "LOGIN, CAPABILITY, SELECT, UID FETCH, LOGOUT"},
		{"told_nowhere", imaptest.Minimal(), false, "CAPABILITY, LOGIN, CAPABILITY, SELECT, UID FETCH, UID SEARCH, LOGOUT"},
		{"told_nowhere_before_starttls", imaptest.Minimal(), true, "CAPABILITY, STARTTLS, CAPABILITY, LOGIN, CAPABILITY, SELECT, UID FETCH, UID SEARCH, LOGOUT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, server := imap.Options{}, []imaptest.Option{imaptest.TCP()}
			if tt.startTLS {
				o.Security, o.TLS = imap.StartTLS, ca.ClientConfig()
				server = append(server, imaptest.StartTLS(ca))
			}
			srv := imaptest.New(t, tt.profile, server...)
			fill(srv, 3)
			s := open(t, newStore(t, srv, o))
			s.Close()
			if _, err := srv.Journal().Await(t.Context(), func(e imaptest.Entry) bool { return e.Kind == imaptest.Ended }); err != nil {
				t.Error(err)
			}
			if got := verbs(srv, 0); got != tt.want {
				t.Errorf("sent %s, want %s", got, tt.want)
			}
		})
	}
}

func TestCapabilitiesToldBesideTheLoginAreNotAskedFor(t *testing.T) {
	for _, told := range []string{
		"{tag} OK [CAPABILITY IMAP4rev1 UIDPLUS MOVE] in\r\n",
		"* CAPABILITY IMAP4rev1 UIDPLUS MOVE\r\n{tag} OK in\r\n",
	} {
		srv := imaptest.New(t, imaptest.Full())
		srv.After("AUTHENTICATE", 0, imaptest.Raw(told))
		open(t, newStore(t, srv, imap.Options{}))
		if n := len(srv.Journal().Commands("CAPABILITY")); n != 0 {
			t.Errorf("%q was asked for %d times", told, n)
		}
	}
}

func TestLeavingWaitsForNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := imaptest.New(t, imaptest.Full())
		srv.Before("LOGOUT", 0, imaptest.End(imaptest.Stall))
		s := open(t, newStore(t, srv, imap.Options{}))
		start := time.Now()
		s.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
	})
}

// resumptions dials and tells of each connection whether its TLS session was
// resumed.
type resumptions struct {
	mu   sync.Mutex
	list []bool
}

func (r *resumptions) watch(c *tls.Config) *tls.Config {
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = append(r.list, cs.DidResume)
		return nil
	}
	return c
}

func (r *resumptions) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return fmt.Sprint(list)
}

func TestTLSSessionsAreResumed(t *testing.T) {
	ca := imaptest.NewCA(t)
	for _, how := range []struct {
		name     string
		security imap.Security
		server   imaptest.Option
	}{{"implicit", imap.ImplicitTLS, imaptest.ImplicitTLS(ca)}, {"starttls", imap.StartTLS, imaptest.StartTLS(ca)}} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(how.name+"/"+tls.VersionName(version), func(t *testing.T) {
				srv := imaptest.New(t, imaptest.Full(), how.server, imaptest.TCP())
				var seen resumptions
				config := seen.watch(ca.ClientConfig())
				config.MaxVersion = version
				store := newStore(t, srv, imap.Options{Security: how.security, TLS: config})
				for range 3 {
					if err := login(t, store, alice); err != nil {
						t.Fatal(err)
					}
				}
				if got := seen.take(); got != "[false true true]" {
					t.Errorf("one after the other: resumed %s", got)
				}
				// Each waits for the others before it goes on.
				var all sync.WaitGroup
				all.Add(4)
				srv.Before("AUTHENTICATE", 0, imaptest.Do(func(imaptest.Command) { all.Done(); all.Wait() }))
				var logins sync.WaitGroup
				for range 4 {
					logins.Go(func() {
						if err := login(t, store, alice); err != nil {
							t.Error(err)
						}
					})
				}
				logins.Wait()
				if got := seen.take(); got != "[true true true true]" {
					t.Errorf("at the same time: resumed %s", got)
				}
			})
		}
	}
}

// Two stores may trust other roots or show other certificates, though their
// configurations began as one.
func TestNoTLSSessionGoesFromOneStoreToAnother(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.New(t, imaptest.Full(), imaptest.ImplicitTLS(ca), imaptest.TCP())
	var seen resumptions
	config := seen.watch(ca.ClientConfig())
	config.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	for range 2 {
		store := newStore(t, srv, imap.Options{Security: imap.ImplicitTLS, TLS: config})
		for range 2 {
			if err := login(t, store, alice); err != nil {
				t.Fatal(err)
			}
		}
		if got := seen.take(); got != "[false true]" {
			t.Errorf("resumed %s", got)
		}
	}
	config.RootCAs = imaptest.NewCA(t).Pool()
	wantKind(t, login(t, newStore(t, srv, imap.Options{Security: imap.ImplicitTLS, TLS: config}), alice), upstream.Unavailable)
}
