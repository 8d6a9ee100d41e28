package imap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

// forAlice are the master user's credentials for the maildrop of alice.
var forAlice = upstream.Credentials{User: "master", Secret: upstream.NewSecret("key"), Authorize: imaptest.DefaultUser}

func withMaster(t *testing.T, p imaptest.Profile, opts ...imaptest.Option) *imaptest.Server {
	return imaptest.New(t, p, append(opts, imaptest.Master("master", "key"), imaptest.User("bob", "builder"))...)
}

func account(t *testing.T, s *imap.Store, c upstream.Credentials) upstream.Account {
	t.Helper()
	a, err := s.Login(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestAMasterUserOpensTheMaildropOfAnother(t *testing.T) {
	plain := imaptest.Minimal()
	plain.Auth = []string{"PLAIN"}
	for _, tt := range []struct {
		name      string
		profile   imaptest.Profile
		separator string
		creds     upstream.Credentials
		want      string // how it was proved, or the kind of the error
	}{
		{"plain", imaptest.Full(), "", forAlice, "PLAIN"},
		{"plain_without_initial_response", plain, "", forAlice, "PLAIN"},
		{"separator_in_plain", imaptest.Full(), "*", forAlice, "PLAIN"},
		{"separator_in_login", imaptest.Courier(), "*", forAlice, "LOGIN"},
		{"login_has_no_place_for_two", imaptest.Courier(), "", forAlice, "internal"},
		{"xoauth2", bearing(initialResponse, "XOAUTH2"), "", upstream.Credentials{User: "master", Secret: forAlice.Secret, Authorize: "alice", Proof: upstream.Bearer}, "XOAUTH2"},
		{"oauthbearer", bearing(nil, "OAUTHBEARER"), "*", upstream.Credentials{User: "master", Secret: forAlice.Secret, Authorize: "alice", Proof: upstream.Bearer}, "OAUTHBEARER"},
		{"wrong_password", imaptest.Full(), "", upstream.Credentials{User: "master", Secret: upstream.NewSecret("no"), Authorize: "alice"}, "refused"},
		{"no_such_user", imaptest.Full(), "", upstream.Credentials{User: "master", Secret: forAlice.Secret, Authorize: "nobody"}, "refused"},
		{"no_master", imaptest.Full(), "", upstream.Credentials{User: "bob", Secret: upstream.NewSecret("builder"), Authorize: "alice"}, "refused"},
		{"no_master_by_separator", imaptest.Full(), "*", upstream.Credentials{User: "bob", Secret: upstream.NewSecret("builder"), Authorize: "alice"}, "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := withMaster(t, tt.profile)
			fill(srv, 2)
			store := newStore(t, srv, imap.Options{MasterSeparator: tt.separator})
			a, err := store.Login(t.Context(), tt.creds)
			if err != nil {
				if got := upstream.KindOf(err).String(); got != tt.want {
					t.Errorf("%s (%v), want %s", got, err, tt.want)
				}
				return
			}
			defer a.Close()
			if got := strings.Join(mechanisms(srv), " "); got != tt.want {
				t.Errorf("proved by %q, want %q", got, tt.want)
			}
			if d, err := a.Open(t.Context()); err != nil || d.Len() != 2 {
				t.Errorf("Open() = %v, %v", d, err)
			}
		})
	}
}

// The conformance suite, by other ways of proving who it is.
func TestAStoreIsAStoreWhoeverProvesIt(t *testing.T) {
	for name, c := range map[string]upstream.Credentials{"token": aliceBears(imaptest.DefaultPassword), "master": forAlice} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstreamtest.Run(t, func(t *testing.T) upstreamtest.Harness {
				h := benchHarness(imaptest.Full(), imap.Options{Reuse: time.Hour})(t)
				h.Credentials = c
				return h
			})
		})
	}
}

// The name behind the separator proves it, the one before it is the maildrop: a
// user cannot move the border.
func TestNoNameMovesTheMasterSeparator(t *testing.T) {
	srv := withMaster(t, imaptest.Full())
	store := newStore(t, srv, imap.Options{MasterSeparator: "*"})
	for _, name := range []string{"alice*bob", "*", "alice*", "alice\x00bob"} {
		c := forAlice
		c.Authorize = name
		wantKind(t, login(t, store, c), upstream.Refused)
	}
	if n := srv.Journal().Connections(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// The lock is of the maildrop, by whichever way it is reached.
func TestTwoWaysToOneMaildropHaveOneKey(t *testing.T) {
	own := upstream.Credentials{User: "Alice", Secret: upstream.NewSecret("x")}
	for _, separator := range []string{"", "*"} {
		srv := withMaster(t, imaptest.Full(), imaptest.User("Alice", "x"))
		store := newStore(t, srv, imap.Options{MasterSeparator: separator})
		want := account(t, store, alice).Key()
		byHand := upstream.Credentials{User: "alice*master", Secret: forAlice.Secret}
		inbox := alice
		inbox.Mailbox = "Inbox"
		ways := []upstream.Credentials{own, forAlice, inbox}
		if separator != "" {
			ways = append(ways, byHand)
		}
		for _, c := range ways {
			if got := account(t, store, c).Key(); got != want {
				t.Errorf("%q and %q for one maildrop", got, want)
			}
		}
		for _, c := range []upstream.Credentials{
			{User: "bob", Secret: upstream.NewSecret("builder")},
			{User: "master", Secret: forAlice.Secret, Authorize: "bob"},
			{User: "alice", Secret: alice.Secret, Mailbox: "Sent"},
		} {
			if got := account(t, store, c).Key(); got == want {
				t.Errorf("%q for two maildrops", got)
			}
		}
	}
}

// Names cannot be made to run into each other.
func TestKeysOfDifferentMaildropsDiffer(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full(), imaptest.User("b;c", "x"), imaptest.User("c", "x"))
	store := newStore(t, srv, imap.Options{})
	seen := map[string]upstream.Credentials{}
	for _, c := range []upstream.Credentials{
		{User: "c", Mailbox: "a;b"}, {User: "b;c", Mailbox: "a"}, {User: "c", Mailbox: "a%3Bb"}, {User: "c", Mailbox: "A"}, {User: "c", Mailbox: "a"},
	} {
		c.Secret = upstream.NewSecret("x")
		key := account(t, store, c).Key()
		if other, ok := seen[key]; ok {
			t.Errorf("%v and %v have the key %q", c, other, key)
		}
		seen[key] = c
	}
}

// A connection that waits is its prover's alone.
func TestAWaitingConnectionIsNotGivenToAnotherProver(t *testing.T) {
	srv := withMaster(t, imaptest.Full())
	srv.SetPassword(imaptest.DefaultUser, "key") // even with one secret
	store := newStore(t, srv, imap.Options{Reuse: time.Hour})
	own := upstream.Credentials{User: "alice", Secret: upstream.NewSecret("key")}
	bearer := own
	bearer.Proof = upstream.Bearer
	byHand := forAlice
	byHand.Authorize, byHand.User = "", "alice*master"
	visit := func(c upstream.Credentials) int {
		t.Helper()
		before := len(srv.Journal().Commands("AUTHENTICATE"))
		a, err := store.Login(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if _, err := a.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(srv.Journal().Commands("AUTHENTICATE")) - before
	}
	for i, c := range []upstream.Credentials{own, bearer, forAlice, byHand, own} {
		if n := visit(c); n != 1 {
			t.Errorf("%d: %d logins at the server, want 1", i, n)
		}
		if n := visit(c); n != 0 {
			t.Errorf("%d: %d logins at the server for the same again, want 0", i, n)
		}
	}
}
