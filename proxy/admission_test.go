package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/proxy"
)

const busy = "-BUSY\r\n"

// admitted tells what becomes of a connection: it is greeted, or told that it is
// refused.
func admitted(t *testing.T, c net.Conn) bool {
	t.Helper()
	p := make([]byte, len(busy))
	n, err := io.ReadAtLeast(c, p, 3)
	switch got := string(p[:n]); {
	case err == nil && got == "hi\n":
		return true
	case err == nil && got == busy:
		c.Close()
		return false
	default:
		t.Fatalf("the client reads %q, %v", got, err)
		return false
	}
}

func TestAddressLimits(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options proxy.Options
		from    []string
		want    string // + admitted, - refused
		why     proxy.Rejection
	}{
		{"ipv4_by_address", proxy.Options{MaxPerAddress: 2}, []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"}, "++-+", proxy.TooManyFromAddress},
		{"mapped_ipv4_is_ipv4", proxy.Options{MaxPerAddress: 1}, []string{"192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"}, "+-+", proxy.TooManyFromAddress},
		{"ipv6_by_64", proxy.Options{MaxPerAddress: 1}, []string{"2001:db8:0:1::1", "2001:db8:0:1:ffff::9", "2001:db8:0:2::1"}, "+-+", proxy.TooManyFromAddress},
		{"a_zone_is_no_matter", proxy.Options{MaxPerAddress: 1}, []string{"fe80::1%eth0", "fe80::2%eth1"}, "+-", proxy.TooManyFromAddress},
		{"default_of_30", proxy.Options{}, repeat("192.0.2.1", 31), strings.Repeat("+", 30) + "-", proxy.TooManyFromAddress},
		{"no_limit", proxy.Options{MaxPerAddress: -1}, repeat("192.0.2.1", 100), strings.Repeat("+", 100), ""},
		{"loopback_is_not_counted", proxy.Options{MaxPerAddress: 1, RatePerAddress: 1}, []string{"127.0.0.1", "127.0.0.1", "::1", "::1", "::ffff:127.0.0.1"}, "+++++", ""},
		{"loopback_counts_when_set", proxy.Options{MaxPerAddress: 1, CountLoopback: true}, []string{"127.0.0.1", "127.0.0.1", "::1", "::1"}, "+-+-", proxy.TooManyFromAddress},
		{"loopback_counts_in_all", proxy.Options{MaxConns: 2}, []string{"127.0.0.1", "127.0.0.1", "127.0.0.1"}, "++-", proxy.TooMany},
		{"rate", proxy.Options{RatePerAddress: 2}, []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"}, "++-+", proxy.TooFast},
		{"in_all", proxy.Options{MaxConns: 2}, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, "++-", proxy.TooMany},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeListener()
				var ev events
				tt.options.Trace = ev.trace()
				start(t, tt.options, proxy.Listener{Name: "x", Listen: l.listen, Handler: hold, Busy: []byte(busy)})
				got := ""
				for _, from := range tt.from {
					if admitted(t, l.dial(from)) {
						got += "+"
					} else {
						got += "-"
					}
				}
				if got != tt.want {
					t.Errorf("admitted %s, want %s", got, tt.want)
				}
				synctest.Wait()
				if n := strings.Count(tt.want, "-"); ev.get("rejected "+string(tt.why)) != n || ev.get("open") != len(tt.from)-n || ev.get("accepted") != len(tt.from) {
					t.Errorf("traced: %v, want %d times %q", ev.counts, n, tt.why)
				}
			})
		})
	}
}

func repeat(s string, n int) []string { return strings.Fields(strings.Repeat(s+" ", n)) }

func TestPlacesAndRatesComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		start(t, proxy.Options{MaxPerAddress: 1, RatePerAddress: 6}, proxy.Listener{Name: "x", Listen: l.listen, Handler: echo, Busy: []byte(busy)})
		try := func(want bool, when string) net.Conn {
			t.Helper()
			c := l.dial("192.0.2.1")
			if got := admitted(t, c); got != want {
				t.Errorf("%s: admitted is %v", when, got)
			}
			return c
		}
		c := try(true, "the first")
		try(false, "beside it")
		for range 5 {
			c.Close()
			synctest.Wait()
			c = try(true, "after it has gone")
		}
		c.Close()
		synctest.Wait()
		try(false, "the seventh within a minute")
		time.Sleep(10 * time.Second)
		c = try(true, "when a sixth of the minute has gone by")
		c.Close()
		synctest.Wait()
		try(false, "at once again")
		time.Sleep(time.Hour)
		for range 6 {
			c = try(true, "an hour later")
			c.Close()
			synctest.Wait()
		}
		try(false, "no more than a minute's worth is saved up")
	})
}

func TestRatesAreNotSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		start(t, proxy.Options{RatePerAddress: 6}, proxy.Listener{Name: "x", Listen: l.listen, Handler: hold, Busy: []byte(busy)})
		admitted(t, l.dial("192.0.2.1")) // stays, so that the address is remembered
		time.Sleep(time.Hour)
		for i := range 7 {
			if got := admitted(t, l.dial("192.0.2.1")); got != (i < 6) {
				t.Errorf("connection %d of one moment: admitted is %v", i+1, got)
			}
		}
	})
}

// Clients that do not read what they are told hold up nobody, and only so many
// are told at one time.
func TestRefusalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		var lg logs
		start(t, proxy.Options{MaxConns: 1, Logger: lg.logger()}, proxy.Listener{Name: "x", Listen: l.listen, Handler: hold, Busy: []byte(busy)})
		admitted(t, l.dial("192.0.2.1"))
		var deaf []net.Conn
		for range 64 {
			deaf = append(deaf, l.dial("192.0.2.2"))
		}
		synctest.Wait()
		began := time.Now()
		wantAll(t, l.dial("192.0.2.3"), "") // there is nobody left to tell it
		if took := time.Since(began); took != 0 {
			t.Errorf("it was closed after %v", took)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, c := range deaf {
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Fatalf("a client that did not listen for a second reads %d, %v", n, err)
			}
		}
		wantAll(t, l.dial("192.0.2.3"), busy)
		if lines := lg.lines(); len(lines) != 1 || !strings.Contains(lines[0], "limit=connections") {
			t.Errorf("logged: %q, want one line", lines)
		}
	})
}

// On a real socket the line arrives even when the client has sent something that
// nobody reads.
func TestTheRefusedClientReadsTheLine(t *testing.T) {
	s := start(t, proxy.Options{MaxConns: 1}, proxy.Listener{Addr: "127.0.0.1:0", Handler: echo, Busy: []byte(busy)})
	first := dial(t, s)
	wantRead(t, first, "hi\n")
	for range 100 {
		c := dial(t, s)
		io.WriteString(c, "CAPA\r\nUSER x\r\n")
		wantAll(t, c, busy) // and a clean end, no reset
		c.Close()
	}
	first.Close()
}

func TestAcceptErrorsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		var ev events
		var lg logs
		start(t, proxy.Options{Trace: ev.trace(), Logger: lg.logger()}, proxy.Listener{Name: "x", Listen: l.listen, Handler: echo})
		began := time.Now()
		fail := func(errno syscall.Errno) {
			l.next <- &net.OpError{Op: "accept", Net: "tcp", Err: &osSyscallError{errno}}
		}
		want := time.Duration(0)
		for i, wait := range []int{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000} {
			fail([]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}[i%4])
			want += time.Duration(wait) * time.Millisecond
		}
		c := l.dial("192.0.2.1")
		if took := time.Since(began); took != want {
			t.Errorf("11 failures took %v, want %v", took, want)
		}
		wantRead(t, c, "hi\n")
		c.Close()
		began = time.Now()
		fail(syscall.EMFILE)
		c = l.dial("192.0.2.1")
		if took := time.Since(began); took != 5*time.Millisecond {
			t.Errorf("after a success the wait is %v, want 5ms", took)
		}
		c.Close()
		if ev.get("accept failed") != 12 {
			t.Errorf("traced: %v", ev.counts)
		}
		if lines := lg.lines(); len(lines) != 1 || !strings.Contains(lines[0], "too many open files") {
			t.Errorf("logged %d lines in 5 s, want 1: %q", len(lines), lines)
		}
		time.Sleep(10 * time.Second)
		fail(syscall.EMFILE)
		synctest.Wait()
		if lines := lg.lines(); len(lines) != 2 || !strings.Contains(lines[1], "unlogged=11") {
			t.Errorf("logged: %q", lines)
		}
	})
}

type osSyscallError struct{ error }

func (e *osSyscallError) Unwrap() error { return e.error }

func TestOtherAcceptErrorsEndTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := newFakeListener(), newFakeListener()
		s, err := proxy.New(proxy.Options{}, proxy.Listener{Name: "good", Listen: good.listen, Handler: echo}, proxy.Listener{Name: "bad", Listen: bad.listen, Handler: echo})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		served := make(chan error)
		go func() { served <- s.Serve(context.WithoutCancel(t.Context())) }()
		c := good.dial("192.0.2.1")
		wantRead(t, c, "hi\n")
		bad.next <- errTest
		if err := <-served; err == nil || err.Error() != `listener "bad": the test says so` {
			t.Errorf("Serve: %v", err)
		}
		<-good.closed
		io.WriteString(c, "still here\n")
		wantRead(t, c, "still here\n")
		c.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// Many clients, and a shutdown in the middle: what is counted comes to nothing.
func TestEveryConnectionIsReleased(t *testing.T) {
	var ev events
	s := start(t, proxy.Options{CountLoopback: true, MaxConns: 20, MaxPerAddress: 10, RatePerAddress: 200, Trace: ev.trace()},
		proxy.Listener{Addr: "127.0.0.1:0", Handler: echo, Busy: []byte(busy)})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 30 {
				c, err := net.Dial("tcp", s.Addrs()[0].String())
				if err != nil {
					return // shut down
				}
				if j%3 != 0 {
					c.SetDeadline(time.Now().Add(time.Minute))
					fmt.Fprintf(c, "%d %d\n", i, j)
					c.Read(make([]byte, 100))
				}
				c.Close()
			}
			if i == 7 {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				s.Shutdown(ctx)
			}
		})
	}
	wg.Wait()
	if ev.get("open") != 0 {
		t.Errorf("traced: %v", ev.counts)
	}
}
