package wrap_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/wrap"
)

// A gate is a store that answers logins and no more, and counts them. The right
// password is "right" for every user but those whose name begins with "nobody".
type gate struct {
	took func(upstream.Credentials) time.Duration // nil: no time
	fail upstream.Kind                            // what every login ends in, if not Internal

	mu    sync.Mutex
	asked int
}

func (g *gate) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	g.mu.Lock()
	g.asked++
	fail := g.fail
	g.mu.Unlock()
	if g.took != nil {
		timer := time.NewTimer(g.took(c))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, &upstream.Error{Kind: upstream.Unavailable, Op: "login", Err: ctx.Err()}
		}
	}
	switch {
	case fail != upstream.Internal:
		return nil, &upstream.Error{Kind: fail, Op: "login"}
	case c.Secret.Reveal() == "panic":
		panic("a fault in the store")
	case c.Secret.Reveal() != "right" || strings.HasPrefix(c.User, "nobody"):
		return nil, &upstream.Error{Kind: upstream.Refused, Op: "login"}
	}
	return closable{}, nil
}

// count returns how many logins came since the last call.
func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.asked
	g.asked = 0
	return n
}

// closable is an account that can only be closed.
type closable struct{ upstream.Account }

func (closable) Close() error { return nil }

// from makes credentials.
func from(ip, user, secret string) upstream.Credentials {
	return upstream.Credentials{User: user, Secret: upstream.NewSecret(secret), Client: netip.AddrPortFrom(netip.MustParseAddr(ip), 1024)}
}

// try logs in, and out again. It returns the kind of error in words, or "ok".
func try(t *testing.T, s upstream.Store, c upstream.Credentials) string {
	t.Helper()
	a, err := s.Login(context.WithoutCancel(t.Context()), c)
	if err != nil {
		return upstream.KindOf(err).String()
	}
	a.Close()
	return "ok"
}

func wantTry(t *testing.T, s upstream.Store, c upstream.Credentials, want string) {
	t.Helper()
	if got := try(t, s, c); got != want {
		t.Errorf("%s from %s: %s, want %s", c.User, c.Client.Addr(), got, want)
	}
}

// guess tries n wrong passwords one after the other; credentials tells the i-th.
func guess(t *testing.T, s upstream.Store, n int, credentials func(i int) upstream.Credentials) {
	t.Helper()
	for i := range n {
		wantTry(t, s, credentials(i), "refused")
	}
}

// quick is a throttle that does not hold refusals back.
func quick(g *gate) upstream.Store { return wrap.Throttle(g, wrap.ThrottleOptions{Delay: -1}) }

const guesser = "198.51.100.7"

// Of 10,000 wrong passwords from one address at most 60 reach the store within
// ten minutes, however they come, while another address logs in at once.
func TestThrottleLetsFewGuessesThrough(t *testing.T) {
	for _, workers := range []int{1, 100} {
		t.Run(fmt.Sprint(workers, "_at_a_time"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const total, span = 10_000, 10 * time.Minute
				g := &gate{took: func(upstream.Credentials) time.Duration { return 10 * time.Millisecond }}
				s := wrap.Throttle(g, wrap.ThrottleOptions{Delay: 5 * time.Millisecond})
				began := time.Now()
				var wg sync.WaitGroup
				for w := range workers {
					wg.Go(func() {
						for i := range total / workers {
							time.Sleep(time.Until(began.Add(time.Duration(i) * span / time.Duration(total/workers))))
							wantTry(t, s, from(guesser, fmt.Sprint("user", i), fmt.Sprint("guess", w, i)), "refused")
						}
					})
				}
				time.Sleep(span / 2)
				synctest.Wait()
				now := time.Now()
				wantTry(t, s, from("198.51.100.8", "owner", "right"), "ok")
				if took := time.Since(now); took != 10*time.Millisecond {
					t.Errorf("the login from another address took %v", took)
				}
				wg.Wait()
				if n := g.count() - 1; n > 60 || n < 40 {
					t.Errorf("%d of %d guesses reached the store, want 40 to 60", n, total)
				}
			})
		})
	}
}

func TestThrottleBounds(t *testing.T) {
	for _, tt := range []struct {
		by   wrap.Bound
		name string
		from func(i int) upstream.Credentials // the i-th guess
		next upstream.Credentials             // under the same bound
		free upstream.Credentials             // just outside of it
		want int                              // guesses that reach the store
	}{
		{wrap.ByAddress, "ipv4",
			func(i int) upstream.Credentials { return from(guesser, fmt.Sprint("u", i), "x") },
			from(guesser, "other", "right"), from("198.51.100.8", "other", "right"), 20},
		{wrap.ByAddress, "ipv4_in_ipv6",
			func(i int) upstream.Credentials { return from("::ffff:"+guesser, fmt.Sprint("u", i), "x") },
			from(guesser, "other", "right"), from("::ffff:198.51.100.8", "other", "right"), 20},
		{wrap.ByAddress, "ipv6_64",
			func(i int) upstream.Credentials {
				return from(fmt.Sprintf("2001:db8::%x", i+1), fmt.Sprint("u", i), "x")
			},
			from("2001:db8::ffff:1", "other", "right"), from("2001:db8:0:1::1", "other", "right"), 20},
		{wrap.ByNetwork, "ipv4_24",
			func(i int) upstream.Credentials {
				return from(fmt.Sprintf("198.51.100.%d", i%200), fmt.Sprint("u", i), "x")
			},
			from("198.51.100.222", "other", "right"), from("198.51.101.1", "other", "right"), 80},
		{wrap.ByNetwork, "ipv6_48",
			func(i int) upstream.Credentials {
				return from(fmt.Sprintf("2001:db8:0:%x::1", i+1), fmt.Sprint("u", i), "x")
			},
			from("2001:db8:0:ffff::1", "other", "right"), from("2001:db8:1::1", "other", "right"), 80},
		{wrap.ByBlock, "ipv4_16",
			func(i int) upstream.Credentials {
				return from(fmt.Sprintf("198.51.%d.%d", i%200, i/200), fmt.Sprint("u", i), "x")
			},
			from("198.51.222.1", "other", "right"), from("198.52.1.1", "other", "right"), 320},
		{wrap.ByBlock, "ipv6_32",
			func(i int) upstream.Credentials {
				return from(fmt.Sprintf("2001:db8:%x::1", i+1), fmt.Sprint("u", i), "x")
			},
			from("2001:db8:ffff::1", "other", "right"), from("2001:db9::1", "other", "right"), 320},
		{wrap.ByAccount, "in_any_case_of_letters",
			func(i int) upstream.Credentials {
				return from(fmt.Sprintf("%d.1.1.1", i%100+1), []string{"alice", "ALICE"}[i%2], "x")
			},
			from("203.0.113.1", "Alice", "right"), from("203.0.113.1", "bob", "right"), 20},
	} {
		t.Run(string(tt.by)+"_"+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{}
				limited := map[wrap.Bound]int{}
				s := wrap.Throttle(g, wrap.ThrottleOptions{Delay: -1, Trace: wrap.ThrottleTrace{Throttled: func(by wrap.Bound) { limited[by]++ }}})
				const total = 400
				guess(t, s, total, tt.from)
				if n := g.count(); n != tt.want || limited[tt.by] != total-n {
					t.Errorf("%d guesses reached the store, want %d; limited: %v", n, tt.want, limited)
				}
				wantTry(t, s, tt.next, "refused")
				wantTry(t, s, tt.free, "ok")
				if n := g.count(); n != 1 {
					t.Errorf("the store was asked %d times, want 1", n)
				}
			})
		})
	}
}

func TestThrottleRegains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		s := quick(g)
		again := func(i int) upstream.Credentials { return from(guesser, fmt.Sprint("u", i), "x") }
		guess(t, s, 100, again)
		g.count()
		for _, tt := range []struct {
			wait time.Duration
			want int
		}{{19 * time.Second, 0}, {time.Second, 1}, {time.Minute, 3}, {24 * time.Hour, 20}} {
			time.Sleep(tt.wait)
			guess(t, s, 100, again)
			if n := g.count(); n != tt.want {
				t.Errorf("after %v more: %d guesses reached the store, want %d", tt.wait, n, tt.want)
			}
		}
	})
}

// A service that is down, full or over its limits says nothing about passwords.
func TestThrottleDoesNotCountOutages(t *testing.T) {
	for _, kind := range upstream.Kinds() {
		if kind == upstream.Refused || kind == upstream.Internal {
			continue
		}
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{fail: kind, took: func(upstream.Credentials) time.Duration { return time.Second }}
				s := wrap.Throttle(g, wrap.ThrottleOptions{})
				for range 500 {
					began := time.Now()
					wantTry(t, s, from(guesser, "alice", "right"), kind.String())
					if took := time.Since(began); took != time.Second {
						t.Fatalf("it was held back: %v", took)
					}
				}
				g.fail = upstream.Internal
				wantTry(t, s, from(guesser, "alice", "right"), "ok")
			})
		})
	}
}

// Hanging up makes no guess free. Where the store fails it is why clients hang up.
func TestThrottleCountsAbandonedLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{took: func(upstream.Credentials) time.Duration { return time.Second }}
		s := wrap.Throttle(g, wrap.ThrottleOptions{})
		abandon := func(ip string, how func(context.Context) (context.Context, context.CancelFunc)) {
			for range 100 {
				ctx, cancel := how(context.Background())
				timer := time.AfterFunc(500*time.Millisecond, cancel)
				if _, err := s.Login(ctx, from(ip, "alice", "x")); err == nil {
					t.Error("a wrong password is right")
				}
				timer.Stop()
				cancel()
			}
		}
		abandon("192.0.2.1", context.WithCancel)
		if n := g.count(); n < 20 || n > 25 {
			t.Errorf("%d abandoned guesses reached the store, want 20 and what was regained", n)
		}
		time.Sleep(time.Hour)
		abandon("192.0.2.2", func(ctx context.Context) (context.Context, context.CancelFunc) { // our own patience
			return context.WithTimeout(ctx, 400*time.Millisecond)
		})
		if n := g.count(); n != 100 {
			t.Errorf("logins that took too long were counted: %d of 100 reached the store", n)
		}
		abandon("192.0.2.3", context.WithCancel)
		if n := g.count(); n != 100 {
			t.Errorf("clients that left a dead service were counted: %d of 100 logins reached the store", n)
		}
	})
}

// Who has logged in before is not shut out by anybody else, has a limit of his
// own, and has bought nothing for guesses at others.
func TestThrottleKnowsWhoHasLoggedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		s := quick(g)
		const home = guesser
		wantTry(t, s, from(home, "alice", "right"), "ok")
		guess(t, s, 100, func(i int) upstream.Credentials { return from(home, fmt.Sprint("u", i), "x") })
		guess(t, s, 100, func(i int) upstream.Credentials { return from(fmt.Sprintf("%d.1.1.1", i+1), "alice", "x") })
		if n := g.count(); n != 1+20+20 {
			t.Fatalf("%d logins reached the store, want 41", n)
		}
		wantTry(t, s, from("203.0.113.9", "alice", "right"), "refused") // not from there
		wantTry(t, s, from(home, "bob", "right"), "refused")            // not he
		for range 100 {
			wantTry(t, s, from(home, "Alice", "right"), "ok")
		}
		g.count()
		guess(t, s, 100, func(i int) upstream.Credentials { return from(home, fmt.Sprint("v", i), "x") })
		if n := g.count(); n != 0 {
			t.Errorf("successes of one account bought %d guesses at others", n)
		}
		guess(t, s, 100, func(int) upstream.Credentials { return from(home, "alice", "x") })
		if n := g.count(); n != 20 {
			t.Errorf("%d guesses at a known account reached the store, want 20", n)
		}
		wantTry(t, s, from(home, "alice", "right"), "refused")
		time.Sleep(31 * 24 * time.Hour)
		wantTry(t, s, from(home, "alice", "right"), "ok")
	})
}

// The first success of one account gives back nothing of what others used up.
func TestThrottleSuccessBuysNoGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		s := quick(g)
		for i := range 50 {
			guess(t, s, 10, func(j int) upstream.Credentials { return from(guesser, fmt.Sprint("u", i, j), "x") })
			try(t, s, from(guesser, fmt.Sprint("mine", i), "right"))
		}
		if n := g.count(); n != 20+1 {
			t.Errorf("%d logins reached the store, want 20 guesses and the success between them", n)
		}
	})
}

// Clients of an exempt network do not shut each other out; each account is limited
// for each of them.
func TestThrottleExempts(t *testing.T) {
	for _, tt := range []struct {
		name, ip string
		options  wrap.ThrottleOptions
		exempt   bool
	}{
		{"loopback", "127.0.0.5", wrap.ThrottleOptions{}, true},
		{"loopback_of_ipv6", "::1", wrap.ThrottleOptions{}, true},
		{"loopback_if_it_counts", "127.0.0.5", wrap.ThrottleOptions{CountLoopback: true}, false},
		{"a_listed_network", "10.1.2.3", wrap.ThrottleOptions{Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, true},
		{"beside_a_listed_network", "11.1.2.3", wrap.ThrottleOptions{Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{}
				tt.options.Delay = -1
				s := wrap.Throttle(g, tt.options)
				guess(t, s, 100, func(i int) upstream.Credentials { return from(tt.ip, fmt.Sprint("u", i), "x") })
				want := 20
				if tt.exempt {
					want = 100
				}
				if n := g.count(); n != want {
					t.Errorf("%d guesses at 100 accounts reached the store, want %d", n, want)
				}
				guess(t, s, 100, func(i int) upstream.Credentials { return from(tt.ip, "alice", "x") })
				if n := g.count(); n > 20 {
					t.Errorf("%d guesses at one account reached the store, want 20 at most", n)
				}
			})
		})
	}
}

// Many right passwords at once from one address all get in: logins under way are
// waited for, not refused. Wrong ones get no further for coming at once.
func TestThrottleWaitsForLoginsUnderWay(t *testing.T) {
	for _, tt := range []struct {
		secret, result string
		asked          int
	}{{"right", "ok", 500}, {"wrong", "refused", 20}} {
		t.Run(tt.secret, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{took: func(upstream.Credentials) time.Duration { return time.Second }}
				s := wrap.Throttle(g, wrap.ThrottleOptions{})
				began := time.Now()
				var wg sync.WaitGroup
				for i := range 500 {
					wg.Go(func() { wantTry(t, s, from(guesser, fmt.Sprint("u", i), tt.secret), tt.result) })
				}
				wg.Wait()
				if n := g.count(); n != tt.asked {
					t.Errorf("%d logins reached the store, want %d", n, tt.asked)
				}
				if took := time.Since(began); took > 25*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// A fault of the store, or a client that will not wait, leaves no place taken.
func TestThrottleSettlesWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		s := quick(g)
		for range 100 {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic was lost")
					}
				}()
				try(t, s, from(guesser, "alice", "panic"))
			}()
		}
		wantTry(t, s, from(guesser, "alice", "right"), "ok")

		g.took = func(upstream.Credentials) time.Duration { return time.Minute }
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { wantTry(t, s, from("192.0.2.1", fmt.Sprint("u", i), "right"), "ok") })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Login(ctx, from("192.0.2.1", "late", "right"))
		wantError(t, "a login that waited", err, upstream.Unavailable, "throttle")
		wg.Go(func() { wantTry(t, s, from("192.0.2.1", "later", "right"), "ok") })
		wg.Wait()
	})
}

// The words and the time of a refusal tell nothing: not whether the user exists,
// nor whether the store was asked.
func TestThrottleRefusalsAreAlike(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		unknown, wrong, floor time.Duration
	}{
		{"a_quick_store", time.Millisecond, 300 * time.Millisecond, 3 * time.Second},
		{"a_store_that_is_slow_to_refuse", 3500 * time.Millisecond, 4 * time.Second, 6 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{took: func(c upstream.Credentials) time.Duration {
					if strings.HasPrefix(c.User, "nobody") {
						return tt.unknown
					}
					return tt.wrong
				}}
				s := wrap.Throttle(g, wrap.ThrottleOptions{Regain: time.Hour})
				guess(t, s, 20, func(i int) upstream.Credentials { return from(guesser, fmt.Sprint("nobody", i), "x") })
				for _, c := range []upstream.Credentials{
					from("192.0.2.1", "nobody", "x"), from("192.0.2.1", "alice", "x"), from(guesser, "alice", "x"), from(guesser, "alice", "right"),
				} {
					began := time.Now()
					wantTry(t, s, c, "refused")
					if took := time.Since(began); took != tt.floor {
						t.Errorf("%s from %s was refused after %v, want %v", c.User, c.Client.Addr(), took, tt.floor)
					}
				}
				began := time.Now()
				wantTry(t, s, from("192.0.2.1", "alice", "right"), "ok")
				if took := time.Since(began); took != tt.wrong {
					t.Errorf("a right password took %v, want %v", took, tt.wrong)
				}
			})
		})
	}
}

// A flood of addresses and users, each tried once, does not make the throttle
// forget who is at the limit.
func TestThrottleRemembersGuessersInAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		s := wrap.Throttle(g, wrap.ThrottleOptions{Delay: -1, Entries: 50})
		guess(t, s, 20, func(i int) upstream.Credentials { return from(guesser, fmt.Sprint("u", i), "x") })
		guess(t, s, 20, func(i int) upstream.Credentials { return from(fmt.Sprintf("%d.1.1.1", i+1), "alice", "x") })
		guess(t, s, 10_000, func(i int) upstream.Credentials {
			return from(fmt.Sprintf("%d.%d.1.1", i%200+1, i/200+2), fmt.Sprint("v", i), "x")
		})
		g.count()
		wantTry(t, s, from(guesser, "other", "right"), "refused")
		wantTry(t, s, from("203.0.113.1", "alice", "right"), "refused")
		if n := g.count(); n != 0 {
			t.Errorf("%d logins over the limit reached the store", n)
		}
	})
}

// An account that can be written in many ways is guessed at no more often for it.
func TestThrottleCountsByTheNameOfTheAccount(t *testing.T) {
	g := &gate{}
	s := wrap.Throttle(g, wrap.ThrottleOptions{Delay: -1, Account: func(c upstream.Credentials) string {
		name, _, _ := strings.Cut(c.User, "+")
		return name
	}})
	guess(t, s, 100, func(i int) upstream.Credentials {
		return from(fmt.Sprintf("198.51.%d.7", i), fmt.Sprintf("alice+%d", i), "wrong")
	})
	if n := g.count(); n != 20 {
		t.Errorf("%d of 100 guesses at one account reached the store, want 20", n)
	}
}
