package proof_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/wrap"
)

// throttleConn is a connection whose client is elsewhere.
type throttleConn struct {
	net.Conn
	client net.Addr
}

func (c throttleConn) RemoteAddr() net.Addr { return c.client }

// throttleFrom connects a client with this address.
func throttleFrom(h *harness, ip string) *popClient {
	return h.connect(func(c net.Conn) net.Conn {
		return throttleConn{c, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1024}}
	}, nil)
}

// TestFewGuessesReachTheUpstream lets one address guess passwords of many users for
// ten minutes, over a hundred connections at a time, and other clients log in
// beside it.
func TestFewGuessesReachTheUpstream(t *testing.T) {
	const guesses, span, most = 10_000, 10 * time.Minute, 60
	const guesser, known = "198.51.100.7", "known"
	for _, profile := range []imaptest.Profile{imaptest.Full(), imaptest.Minimal()} {
		t.Run(profile.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, harnessOptions{
					Profile: profile, Engine: pop3.Options{AllowClearText: true}, Server: []imaptest.Option{imaptest.User(known, "pw")},
					Outermost: func(s upstream.Store) upstream.Store { return wrap.Throttle(s, wrap.ThrottleOptions{}) },
				})
				var slowest time.Duration
				visits := 0
				visit := func(ip, user, password string) {
					began := time.Now()
					c := throttleFrom(h, ip)
					if r := c.login(user, password); !r.ok {
						t.Errorf("%s from %s: %s", user, ip, r.line)
					}
					slowest = max(slowest, time.Since(began))
					visits++
					c.do("QUIT")
					c.conn.Close()
				}
				visit(guesser, known, "pw") // who has logged in from there before
				since := h.imap.Journal().Len()

				began := time.Now()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range 100 {
					wg.Go(func() {
						for time.Since(began) < span {
							c := throttleFrom(h, guesser)
							for range 3 { // then the session ends
								i := next.Add(1)
								if r := c.login(fmt.Sprint("user", i%500), fmt.Sprint("guess", i)); r.ok || !strings.HasPrefix(r.line, "-ERR [AUTH]") {
									t.Errorf("a guess was answered %q, %v", r.line, r.err)
								}
							}
							c.conn.Close()
						}
					})
				}
				for i := range 20 {
					time.Sleep(25 * time.Second)
					visit(fmt.Sprintf("192.0.2.%d", i+1), imaptest.DefaultUser, imaptest.DefaultPassword)
					visit(guesser, known, "pw")
				}
				wg.Wait()
				if n := next.Load(); n < guesses {
					t.Errorf("%d guesses, want %d", n, guesses)
				}
				h.wait()
				reached := 0
				for _, e := range h.imap.Journal().Since(since) {
					if e.Kind == imaptest.Received && (e.Command.Verb == "AUTHENTICATE" || e.Command.Verb == "LOGIN") && strings.HasPrefix(e.Secret, "guess") {
						reached++
					}
				}
				if reached == 0 || reached > most {
					t.Errorf("%d of %d guesses reached the server, want at most %d", reached, next.Load(), most)
				}
				proof.Report(t, "M17", slowest < 2*time.Second, "%s: %d guesses from one address in 10 min: %d reached the server; %d logins beside them from other addresses, and from that one by who had logged in before: 0 refused, %v at most (simulated)",
					profile.Name, next.Load(), reached, visits, slowest)
			})
		})
	}
}

// throttleSlow is a store that takes its time to refuse, and more for a wrong
// password than for a user it does not have.
type throttleSlow struct {
	upstream.Store
	mu sync.Mutex
	r  *rand.Rand
}

func (s *throttleSlow) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	s.mu.Lock()
	took := time.Duration(s.r.IntN(20)) * time.Millisecond
	if !strings.HasPrefix(c.User, "nobody") {
		took = 100*time.Millisecond + 15*took // a slow hash
	}
	s.mu.Unlock()
	timer := time.NewTimer(took)
	defer timer.Stop()
	<-timer.C
	return s.Store.Login(ctx, c)
}

// The classes of refusals that must look alike.
const (
	throttleUnknown = iota
	throttleWrong
	throttleLimited
	throttleClasses
)

// throttleTimes refuses count logins of each class, interleaved, and returns the
// times of the refusals in ascending order and every reply that was given.
func throttleTimes(t *testing.T, count int, delay time.Duration) (times [throttleClasses][]time.Duration, replies map[string]int) {
	replies = map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		const guesser = "198.51.100.7"
		limited := 0
		server := []imaptest.Option{}
		for i := range count {
			server = append(server, imaptest.User(fmt.Sprint("user", i), "pw"))
		}
		h := newHarness(t, harnessOptions{
			Profile: imaptest.Full(), Engine: pop3.Options{AllowClearText: true}, Server: server,
			Outermost: func(s upstream.Store) upstream.Store {
				return wrap.Throttle(&throttleSlow{Store: s, r: rand.New(rand.NewPCG(18, 18))}, wrap.ThrottleOptions{
					Delay: delay, Regain: 24 * time.Hour, Trace: wrap.ThrottleTrace{Throttled: func(wrap.Bound) { limited++ }},
				})
			},
		})
		refused := func(ip, user string) time.Duration {
			c := throttleFrom(h, ip)
			c.do("USER " + user)
			began := time.Now()
			r := c.do("PASS wrong")
			took := time.Since(began)
			replies[r.line]++
			c.do("QUIT")
			c.conn.Close()
			return took
		}
		for i := range 20 {
			refused(guesser, fmt.Sprint("user", i))
		}
		for i := range count {
			elsewhere := func(n int) string { return fmt.Sprintf("%d.%d.0.1", 1+i/250+n*100, i%250) }
			for class, login := range [throttleClasses]func() time.Duration{
				throttleUnknown: func() time.Duration { return refused(elsewhere(0), fmt.Sprint("nobody", i)) },
				throttleWrong:   func() time.Duration { return refused(elsewhere(1), fmt.Sprint("user", i)) },
				throttleLimited: func() time.Duration { return refused(guesser, fmt.Sprint("user", i)) },
			} {
				times[class] = append(times[class], login())
			}
		}
		h.wait()
		if limited != count {
			t.Errorf("%d logins were limited, want %d", limited, count)
		}
	})
	for i := range times {
		slices.Sort(times[i])
	}
	return times, replies
}

// throttleApart compares two classes: the difference of the medians, and the
// chance that a refusal of the one takes longer than one of the other, where a half
// says that nothing can be told.
func throttleApart(a, b []time.Duration) (median time.Duration, auc float64) {
	longer := 0.0
	for _, x := range a {
		below, _ := slices.BinarySearch(b, x)
		upTo, _ := slices.BinarySearch(b, x+1)
		longer += float64(below) + float64(upTo-below)/2
	}
	return (a[len(a)/2] - b[len(b)/2]).Abs(), longer / float64(len(a)*len(b))
}

// TestRefusalsDoNotTellWhy measures the time of refusals as a guesser would, with a
// clock that is exact.
func TestRefusalsDoNotTellWhy(t *testing.T) {
	count := proof.Pick(200, 1000, 1000)
	worst := func(times [throttleClasses][]time.Duration) (median time.Duration, low, high float64) {
		low, high = 1, 0
		for a := range times {
			for b := range a {
				m, auc := throttleApart(times[a], times[b])
				median, low, high = max(median, m), min(low, auc), max(high, auc)
			}
		}
		return median, low, high
	}
	times, replies := throttleTimes(t, count, 0)
	median, low, high := worst(times)
	if median >= 5*time.Millisecond || low < 0.47 || high > 0.53 {
		t.Errorf("the time tells the classes apart: medians differ by %v, AUC %.2f to %.2f", median, low, high)
	}
	if len(replies) != 1 {
		t.Errorf("the words tell the classes apart: %v", replies)
	}
	// The measure itself, on a gateway that does not hold refusals back.
	bare, _ := throttleTimes(t, 100, -1)
	bareMedian, bareLow, bareHigh := worst(bare)
	if bareMedian < 5*time.Millisecond || bareLow > 0.47 && bareHigh < 0.53 {
		t.Errorf("no difference without delay either: nothing was measured (medians %v, AUC %.2f to %.2f)", bareMedian, bareLow, bareHigh)
	}
	proof.Report(t, "M18", true, "%d refusals each of an unknown user, a wrong password and a limited login, interleaved: %d reply, medians differ by %v, AUC %.2f to %.2f (simulated; without delay %v, %.2f to %.2f)",
		count, len(replies), median, low, high, bareMedian, bareLow, bareHigh)
}
