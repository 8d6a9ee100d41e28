package imap_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

// A reuseBench is a store that lets connections wait for a minute, and what its
// trace has told. It lives inside of a bubble.
type reuseBench struct {
	*testing.T
	srv    *imaptest.Server
	store  *imap.Store
	live   atomic.Int32
	reused atomic.Int32
}

const reuseAge = time.Minute

// reuse runs f in a bubble, over a server with three messages.
func reuse(t *testing.T, o imap.Options, f func(b *reuseBench), server ...imaptest.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &reuseBench{T: t, srv: imaptest.New(t, imaptest.Full(), server...)}
		fill(b.srv, 3)
		o.Reuse = reuseAge
		o.Trace = imap.Trace{
			Connection: func(delta int) { b.live.Add(int32(delta)) },
			Reused:     func() { b.reused.Add(1) },
		}
		b.store = newStore(t, b.srv, o)
		f(b)
		synctest.Wait()
		b.store.Close()
		if n := b.live.Load(); n != 0 && !t.Failed() {
			t.Errorf("%d connections after the store was closed", n)
		}
	})
}

// visit is a session that reads and leaves.
func (b *reuseBench) visit(c upstream.Credentials) error {
	a, err := b.store.Login(b.Context(), c)
	if err != nil {
		return err
	}
	defer a.Close()
	d, err := a.Open(b.Context())
	if err != nil || d.Len() == 0 {
		return err
	}
	_, err = (&session{b, a, d}).retrieve(0, upstream.Extent{})
	return err
}

func (b *reuseBench) mustVisit() {
	b.Helper()
	if err := b.visit(alice); err != nil {
		b.Fatalf("a session: %v", err)
	}
}

// want compares what the server and the trace have seen: connections that live,
// connections there were, logins, and sessions on a connection that had waited.
func (b *reuseBench) want(when string, live, connections, logins, reused int) {
	b.Helper()
	synctest.Wait()
	got := fmt.Sprint(b.live.Load(), b.srv.Journal().Connections(), len(b.srv.Journal().Commands("AUTHENTICATE")), b.reused.Load())
	if want := fmt.Sprint(live, connections, logins, reused); got != want {
		b.Errorf("%s: live, connections, logins, reused are %s, want %s", when, got, want)
	}
}

func credentials(user, password string) upstream.Credentials {
	return upstream.Credentials{User: user, Secret: upstream.NewSecret(password)}
}

func TestAConnectionWaitsForTheNextSession(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		s := open(b, b.store)
		if _, err := s.update(1); err != nil {
			b.Fatal(err)
		}
		s.Close()
		b.srv.INBOX().Append(message(4))
		b.srv.INBOX().Expunge(1)
		n := b.srv.Journal().Len()
		s = open(b, b.store)
		v := b.srv.INBOX().UIDValidity()
		if got, want := s.ids(), fmt.Sprintf("%d.3 %d.4", v, v); got != want {
			b.Errorf("unique-ids %s, want %s", got, want)
		}
		if got, err := s.retrieve(1, upstream.Extent{}); got != message(4) || err != nil {
			b.Errorf("the new message: %q, %v", got, err)
		}
		s.Close()
		if got := verbs(b.srv, n); got != "EXAMINE, UID FETCH, UID FETCH" {
			b.Errorf("the second session sent %s", got)
		}
		b.want("after two sessions", 1, 1, 1, 1)
		b.store.Close()
		b.want("after Close of the store", 0, 1, 1, 1)
		if got := verbs(b.srv, n); got != "EXAMINE, UID FETCH, UID FETCH, LOGOUT" {
			b.Errorf("then were sent %s", got)
		}
	})
}

// What others flagged \Deleted stays while a connection waits, changes sessions
// and goes.
func TestWaitingExpungesNothing(t *testing.T) {
	for _, p := range imaptest.Profiles() {
		srv := imaptest.New(t, p)
		fill(srv, 3)
		srv.INBOX().SetFlags(2, `\Deleted`)
		store := newStore(t, srv, imap.Options{Reuse: time.Hour})
		for range 3 {
			s := open(t, store)
			if _, err := s.Update(t.Context(), upstream.Changes{Seen: []int{0}}); err != nil { // under SELECT
				t.Error(err)
			}
			s.Close()
		}
		store.Close()
		if n := srv.Journal().Connections(); n != 1 {
			t.Errorf("%s: %d connections, want 1", p.Name, n)
		}
		if got := uids(srv.INBOX()); got != "1 2 3" {
			t.Errorf("%s: the mailbox has %s", p.Name, got)
		}
		if c := srv.Journal().Commands("CLOSE", "EXPUNGE", "UID EXPUNGE", "UNSELECT"); len(c) != 0 {
			t.Errorf("%s: sent %v", p.Name, c)
		}
	}
}

func TestWithoutReuseASessionEndsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := imaptest.New(t, imaptest.Full())
		store := newStore(t, srv, imap.Options{})
		for range 2 {
			open(t, store).Close()
		}
		synctest.Wait()
		if n, out := srv.Journal().Connections(), len(srv.Journal().Commands("LOGOUT")); n != 2 || out != 2 {
			t.Errorf("%d connections and %d LOGOUT, want 2 and 2", n, out)
		}
	})
}

func TestOnlyTheSameUserAndPasswordGetTheConnection(t *testing.T) {
	for _, tt := range []struct{ name, user, password string }{
		{"wrong_password", imaptest.DefaultUser, "wrong"},
		{"no_password", imaptest.DefaultUser, ""},
		{"beginning_of_the_password", imaptest.DefaultUser, imaptest.DefaultPassword[:9]},
		{"more_than_the_password", imaptest.DefaultUser, imaptest.DefaultPassword + " "},
		{"password_in_other_case", imaptest.DefaultUser, strings.ToUpper(imaptest.DefaultPassword)},
		{"user_in_other_case", strings.ToUpper(imaptest.DefaultUser), imaptest.DefaultPassword},
		{"nobody", "nobody", imaptest.DefaultPassword},
		{"letters_moved_between_them", imaptest.DefaultUser + imaptest.DefaultPassword[:1], imaptest.DefaultPassword[1:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reuse(t, imap.Options{}, func(b *reuseBench) {
				b.mustVisit()
				wantKind(b, b.visit(credentials(tt.user, tt.password)), upstream.Refused)
				b.want("after the refusal", 1, 2, 2, 0)
				b.mustVisit()
				b.want("after the right login", 1, 2, 2, 1)
			})
		})
	}
}

// Some servers have two users whose names differ in the case of letters.
func TestUsersWhoseNamesDifferInCaseKeepTheirMail(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.srv.Mailbox("ALICE", "INBOX").Append("Subject: of ALICE\r\n\r\n")
		for range 2 {
			for user, want := range map[string]string{"alice": message(1), "ALICE": "Subject: of ALICE\r\n\r\n"} {
				a, err := b.store.Login(b.Context(), credentials(user, imaptest.DefaultPassword))
				if err != nil {
					b.Fatal(err)
				}
				d, err := a.Open(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if got, err := (&session{b, a, d}).retrieve(0, upstream.Extent{}); got != want || err != nil {
					b.Errorf("%s reads %q, %v", user, got, err)
				}
				a.Close()
			}
		}
	}, imaptest.User("ALICE", imaptest.DefaultPassword))
}

func TestTheAgeIsCountedFromTheLogin(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.mustVisit()
		time.Sleep(reuseAge - time.Second)
		b.mustVisit()
		b.want("just before the age", 1, 1, 1, 1)
		time.Sleep(time.Second)
		b.want("at the age", 0, 1, 1, 1)
		if n := len(b.srv.Journal().Commands("LOGOUT")); n != 1 {
			b.Errorf("%d LOGOUT, want 1", n)
		}
		b.mustVisit()
		b.want("after the age", 1, 2, 2, 1)
	})
}

func TestASessionLongerThanTheAgeLeavesNoConnection(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		s := open(b, b.store)
		time.Sleep(reuseAge)
		s.Close()
		b.want("after it", 0, 1, 1, 0)
	})
}

func TestAPasswordThatWasChangedIsHonouredForTheAge(t *testing.T) {
	const changed = "looking glass"
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.mustVisit()
		b.srv.SetPassword(imaptest.DefaultUser, changed)
		time.Sleep(reuseAge - time.Second)
		b.mustVisit() // by the old one
		time.Sleep(time.Second)
		wantKind(b, b.visit(alice), upstream.Refused)
		if err := b.visit(credentials(imaptest.DefaultUser, changed)); err != nil {
			b.Errorf("the new password: %v", err)
		}
	})
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.mustVisit()
		b.srv.SetPassword(imaptest.DefaultUser, changed)
		if err := b.visit(credentials(imaptest.DefaultUser, changed)); err != nil {
			b.Errorf("the new password: %v", err)
		}
		b.want("after a session by the new password", 1, 2, 2, 0)
		wantKind(b, b.visit(alice), upstream.Refused)
	})
}

func TestSessionsOfOneAccountDoNotShareAConnection(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.mustVisit()
		one, two := open(b, b.store), open(b, b.store)
		b.want("with two sessions", 2, 2, 2, 1)
		for _, s := range []*session{one, two} {
			if got, err := s.retrieve(2, upstream.Extent{}); got != message(3) || err != nil {
				b.Errorf("%q, %v", got, err)
			}
		}
		two.Close()
		b.want("after the one that logged in last", 2, 2, 2, 1)
		one.Close()
		b.want("after both", 1, 2, 2, 1)
		time.Sleep(reuseAge - time.Second)
		b.mustVisit()
		b.want("later", 1, 2, 2, 2)
	})
}

func TestConcurrentSessionsOnFewConnections(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		done := make(chan error)
		for range 8 {
			go func() {
				for range 20 {
					if err := b.visit(alice); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range 8 {
			if err := <-done; err != nil {
				b.Error(err)
			}
		}
		synctest.Wait()
		if n := b.live.Load(); n != 1 {
			b.Errorf("%d connections in the end, want 1", n)
		}
		if logins, reused := len(b.srv.Journal().Commands("AUTHENTICATE")), int(b.reused.Load()); logins+reused != 160 {
			b.Errorf("%d logins and %d reused connections for 160 sessions", logins, reused)
		}
	})
}

func TestAWaitingConnectionThatTheServerClosesIsForgotten(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.mustVisit()
		b.srv.Disconnect(imaptest.FIN)
		b.want("after the server's restart", 0, 1, 1, 0)
		b.mustVisit()
		b.want("after the next session", 1, 2, 2, 0)
	})
	p := imaptest.Full()
	p.Autologout = 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var live atomic.Int32
		srv := imaptest.New(t, p)
		store := newStore(t, srv, imap.Options{Reuse: reuseAge, Trace: imap.Trace{Connection: func(d int) { live.Add(int32(d)) }}})
		open(t, store).Close()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if n := live.Load(); n != 0 {
			t.Errorf("%d connections after the server's BYE", n)
		}
	})
}

func TestAWaitingConnectionThatIsLostIsReplacedOnce(t *testing.T) {
	for name, how := range map[string]imaptest.Action{
		"fin":   imaptest.End(imaptest.FIN),
		"bye":   imaptest.BYE("idle for too long"),
		"stall": imaptest.End(imaptest.Stall),
		"lie":   imaptest.Raw("{tag} OK no mailbox\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			reuse(t, imap.Options{}, func(b *reuseBench) {
				b.mustVisit()
				b.srv.Before("EXAMINE", 2, how)
				start := time.Now()
				b.mustVisit()
				if d := time.Since(start); d > 10*time.Second {
					b.Errorf("it took %v", d)
				}
				b.want("after the loss", 1, 2, 2, 0)
				b.mustVisit()
				b.want("later", 1, 2, 2, 1)
			})
			reuse(t, imap.Options{}, func(b *reuseBench) {
				b.mustVisit()
				b.srv.Before("EXAMINE", 2, how)
				b.srv.Before("EXAMINE", 3, how)
				wantKind(b, b.visit(alice), upstream.Unavailable)
				b.want("after two losses", 0, 2, 2, 0)
			})
		})
	}
}

func TestARefusalOnAWaitingConnectionIsAnAnswer(t *testing.T) {
	for reply, want := range map[string]upstream.Kind{"[INUSE] locked": upstream.Busy, "[NOPERM] no": upstream.Internal, "no": upstream.Unavailable} {
		reuse(t, imap.Options{}, func(b *reuseBench) {
			b.mustVisit()
			b.srv.Before("EXAMINE", 2, imaptest.NO(reply))
			wantKind(b, b.visit(alice), want)
			b.want("after the refusal", 0, 1, 1, 1)
		})
	}
}

// What ends the login that replaces a lost connection is what Login ends in.
func TestALoginInPlaceOfALostConnectionFailsAsLoginDoes(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(*imaptest.Server)
		want    upstream.Kind
	}{
		"password_changed": {func(s *imaptest.Server) { s.SetPassword(imaptest.DefaultUser, "looking glass") }, upstream.Refused},
		"over_a_limit":     {func(s *imaptest.Server) { s.Before("AUTHENTICATE", 0, imaptest.NO("[LIMIT] too many")) }, upstream.Unavailable},
		"in_use":           {func(s *imaptest.Server) { s.Before("AUTHENTICATE", 0, imaptest.NO("[INUSE] by another")) }, upstream.Busy},
		"down":             {func(s *imaptest.Server) { s.Refuse(1) }, upstream.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			reuse(t, imap.Options{}, func(b *reuseBench) {
				b.mustVisit()
				tt.prepare(b.srv)
				b.srv.Before("EXAMINE", 2, imaptest.End(imaptest.FIN))
				wantKind(b, b.visit(alice), tt.want)
				synctest.Wait()
				if n := b.live.Load(); n != 0 {
					b.Errorf("%d connections are left", n)
				}
			})
		})
	}
}

func TestALoginThatIsCancelledTakesNoConnection(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.mustVisit()
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		if _, err := b.store.Login(ctx, alice); err == nil {
			b.Error("Login succeeded")
		}
		b.mustVisit()
		b.want("after the next one", 1, 1, 1, 1)
	})
}

func TestSoManyConnectionsWaitAndNoMore(t *testing.T) {
	reuse(t, imap.Options{ReuseMax: 2}, func(b *reuseBench) {
		for i := range 5 {
			if err := b.visit(credentials(fmt.Sprint("user", i), "x")); err != nil {
				b.Fatal(err)
			}
			b.want(fmt.Sprint("after ", i+1), min(i+1, 2), i+1, i+1, 0)
		}
		for i := range 2 {
			if err := b.visit(credentials(fmt.Sprint("user", i), "x")); err != nil {
				b.Fatal(err)
			}
		}
		b.want("after the first two again", 2, 5, 5, 2)
		time.Sleep(reuseAge)
		b.want("after the age", 0, 5, 5, 2)
		if err := b.visit(credentials("user4", "x")); err != nil {
			b.Fatal(err)
		}
		b.want("later", 1, 6, 6, 2)
	}, userOptions(5)...)
}

func userOptions(n int) (list []imaptest.Option) {
	for i := range n {
		list = append(list, imaptest.User(fmt.Sprint("user", i), "x"), func(s *imaptest.Server) {
			s.Mailbox(fmt.Sprint("user", i), "INBOX").Append(message(1))
		})
	}
	return list
}

func TestCloseOfTheStoreEndsWhatWaits(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.mustVisit()
		s := open(b, b.store) // has the connection
		if err := b.visit(alice); err != nil {
			b.Fatal(err)
		}
		b.want("before", 2, 2, 2, 1)
		b.store.Close()
		b.store.Close()
		b.want("after", 1, 2, 2, 1)
		if got, err := s.retrieve(0, upstream.Extent{}); got != message(1) || err != nil {
			b.Errorf("the open session reads %q, %v", got, err)
		}
		s.Close()
		b.want("after the session", 0, 2, 2, 1)
		b.mustVisit()
		b.want("after another", 0, 3, 3, 1)
	})
}

func TestNeitherWaitingNorWhatItReplacesDelaysTheEnd(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.srv.Before("LOGOUT", 0, imaptest.End(imaptest.Stall))
		one, two := open(b, b.store), open(b, b.store)
		start := time.Now()
		one.Close()
		two.Close()
		if d := time.Since(start); d != 0 {
			b.Errorf("it took %v", d)
		}
	})
}

// Servers repeat what they did not understand.
func TestAConnectionThatWaitedRepeatsNoCredentials(t *testing.T) {
	reuse(t, imap.Options{}, func(b *reuseBench) {
		b.mustVisit()
		b.srv.Before("EXAMINE", 2, imaptest.NO("not with "+imaptest.DefaultPassword))
		if err := b.visit(alice); err == nil || strings.Contains(err.Error(), imaptest.DefaultPassword) {
			b.Errorf("the error is %v", err)
		}
	})
}

// Each test begins with a connection that waits.
func TestStoreThatReusesOverTheFaultBench(t *testing.T) {
	for _, p := range imaptest.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			upstreamtest.Run(t, func(t *testing.T) upstreamtest.Harness {
				h := benchHarness(p, imap.Options{Reuse: time.Hour})(t)
				open(t, h.Store.(*imap.Store)).Close()
				return h
			})
		})
	}
}
