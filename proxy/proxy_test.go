package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/proxy"
)

func TestServesEveryListener(t *testing.T) {
	cert, pool := certificate(t)
	states := make(chan tls.ConnectionState, 1)
	var ev events
	s := start(t, proxy.Options{Trace: ev.trace()},
		proxy.Listener{Name: "plain", Addr: "127.0.0.1:0", Handler: echo},
		proxy.Listener{Name: "tls", Addr: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Handler: func(ctx context.Context, c net.Conn) {
			states <- c.(*tls.Conn).ConnectionState()
			echo(ctx, c)
		}})
	if n := len(s.Addrs()); n != 2 {
		t.Fatalf("%d addresses", n)
	}
	for i, dial := range []func(string) (net.Conn, error){
		func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) },
		func(addr string) (net.Conn, error) { return tls.Dial("tcp", addr, &tls.Config{RootCAs: pool}) },
	} {
		c, err := dial(s.Addrs()[i].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		wantRead(t, c, "hi\n")
		io.WriteString(c, "there\n")
		wantRead(t, c, "there\n")
	}
	if st := <-states; !st.HandshakeComplete {
		t.Error("the handler got the connection before the handshake was done")
	}
	if ev.get("accepted") != 2 || ev.get("open") != 2 || ev.get("secured tls TLS 1.3") != 1 {
		t.Errorf("traced: %v", ev.counts)
	}
}

func TestNewRefusesBadSettings(t *testing.T) {
	ok := proxy.Listener{Addr: "127.0.0.1:0", Handler: echo}
	for _, tt := range []struct {
		name      string
		options   proxy.Options
		listeners []proxy.Listener
		want      string
	}{
		{"no_listener", proxy.Options{}, nil, "no listener"},
		{"no_handler", proxy.Options{}, []proxy.Listener{{Addr: "127.0.0.1:0"}}, "no handler"},
		{"no_port", proxy.Options{}, []proxy.Listener{{Addr: "127.0.0.1", Handler: echo}}, "missing port"},
		{"two_of_one_name", proxy.Options{}, []proxy.Listener{ok, ok}, "used twice"},
		{"no_certificate", proxy.Options{}, []proxy.Listener{{Addr: "127.0.0.1:0", Handler: echo, TLS: &tls.Config{}}}, "without a certificate"},
		{"no_network", proxy.Options{}, []proxy.Listener{{Addr: "127.0.0.1:0", Handler: echo, Proxies: networks("10.0.0.0/8", "::ffff:10.0.0.0/104")}}, "no network"},
		{"negative_time", proxy.Options{HandshakeTime: -1}, []proxy.Listener{ok}, "negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := proxy.New(tt.options, tt.listeners...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestListenBindsAllOrNone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	s, err := proxy.New(proxy.Options{}, proxy.Listener{Addr: addr, Handler: echo}, proxy.Listener{Name: "second", Addr: taken.Addr().String(), Handler: echo})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), `listener "second"`) {
		t.Errorf("Listen: %v, want an error that names the second listener", err)
	}
	if s.Addrs() != nil {
		t.Errorf("bound: %v", s.Addrs())
	}
	if err := s.Serve(t.Context()); err == nil {
		t.Error("Serve without Listen succeeded")
	}
	again, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the first address is still bound: %v", err)
	}
	again.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestHandshakeHasADeadline(t *testing.T) {
	cert, _ := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		var ev events
		start(t, proxy.Options{Trace: ev.trace()}, proxy.Listener{Name: "x", Listen: l.listen, Handler: echo, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
		silent, drip := l.dial("192.0.2.1"), l.dial("192.0.2.2")
		began := time.Now()
		go func() { // one octet of a record a second
			for {
				if _, err := drip.Write([]byte{22}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		for _, c := range []net.Conn{silent, drip} {
			io.Copy(io.Discard, c)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("closed after %v, want 30s", took)
			}
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("the silent client was closed after %v, want 30s", took)
		}
		synctest.Wait()
		if ev.get("handshake failed") != 2 || ev.get("open") != 0 {
			t.Errorf("traced: %v", ev.counts)
		}
	})
}

func TestHandshakesTakeTurns(t *testing.T) {
	cert, pool := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		var ev events
		start(t, proxy.Options{MaxHandshakes: 1, HandshakeTime: 10 * time.Second, Trace: ev.trace()},
			proxy.Listener{Name: "x", Listen: l.listen, Handler: echo, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
		stalled := l.dial("192.0.2.1")
		synctest.Wait()
		time.Sleep(4 * time.Second)
		patient := tls.Client(l.dial("192.0.2.2"), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
		done := make(chan error)
		go func() { done <- patient.Handshake() }()
		io.Copy(io.Discard, stalled)
		if err := <-done; err != nil {
			t.Errorf("the one that waited for its turn: %v", err)
		}
		wantRead(t, patient, "hi\n")

		first, second := l.dial("192.0.2.3"), net.Conn(nil)
		synctest.Wait()
		second = l.dial("192.0.2.4")
		io.Copy(io.Discard, first)
		io.Copy(io.Discard, second)
		synctest.Wait()
		if n := ev.get("rejected handshakes") + ev.get("handshake failed"); n != 3 {
			t.Errorf("traced: %v", ev.counts)
		}
		patient.NetConn().Close()
		synctest.Wait()
		if ev.get("open") != 0 {
			t.Errorf("traced: %v", ev.counts)
		}
	})
}

func TestAPanicEndsItsOwnConnection(t *testing.T) {
	var ev events
	var lg logs
	s := start(t, proxy.Options{Trace: ev.trace(), Logger: lg.logger()}, proxy.Listener{Addr: "127.0.0.1:0", Handler: func(ctx context.Context, c net.Conn) {
		p := make([]byte, 1)
		c.Read(p)
		if p[0] == '!' {
			panic("the handler fails")
		}
		echo(ctx, c)
	}})
	good, bad := dial(t, s), dial(t, s)
	io.WriteString(bad, "!")
	wantAll(t, bad, "")
	io.WriteString(good, ".")
	wantRead(t, good, "hi\n")
	if ev.get("panicked") != 1 {
		t.Errorf("traced: %v", ev.counts)
	}
	if lines := lg.lines(); len(lines) != 1 || !strings.Contains(lines[0], "the handler fails") || !strings.Contains(lines[0], "proxy_test.go") {
		t.Errorf("logged: %q", lines)
	}
}

func TestShutdownLetsHandlersEnd(t *testing.T) {
	s := start(t, proxy.Options{}, proxy.Listener{Addr: "127.0.0.1:0", Handler: echo})
	c := dial(t, s)
	wantRead(t, c, "hi\n")
	done := make(chan error)
	go func() { done <- s.Shutdown(context.WithoutCancel(t.Context())) }()
	wantRefused(t, s)
	io.WriteString(c, "still here\n")
	wantRead(t, c, "still here\n")
	c.Close()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown again: %v", err)
	}
}

// wantRefused waits until nothing listens any more.
func wantRefused(t *testing.T, s *proxy.Server) {
	t.Helper()
	for range 100_000 {
		c, err := net.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			return
		}
		c.Close()
	}
	t.Error("connections are still accepted")
}

func TestShutdownCutsOffWhenTheTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		causes := make(chan error, 1)
		s := start(t, proxy.Options{}, proxy.Listener{Name: "x", Listen: l.listen, Handler: func(ctx context.Context, c net.Conn) {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			time.Sleep(5 * time.Second) // work that must come to its end
		}})
		c := l.dial("192.0.2.1")
		defer c.Close()
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errTest)
		defer cancel()
		if err := s.Shutdown(ctx); err != errTest {
			t.Errorf("Shutdown: %v, want the cause of its context", err)
		}
		if took := time.Since(began); took != 35*time.Second {
			t.Errorf("Shutdown took %v, want the 30s of its context and the 5s of the handler", took)
		}
		if err := <-causes; err != proxy.ErrDrained {
			t.Errorf("the handler's context ended with %v", err)
		}
	})
}

// Whoever has been accepted is served, in the middle of its handshake too.
func TestShutdownLetsHandshakesEnd(t *testing.T) {
	cert, roots := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s := start(t, proxy.Options{}, proxy.Listener{Name: "x", Listen: l.listen, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Handler: echo})
		raw := l.dial("192.0.2.1")
		synctest.Wait()
		done := make(chan error)
		go func() { done <- s.Shutdown(context.WithoutCancel(t.Context())) }()
		synctest.Wait()
		c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
		wantRead(t, c, "hi\n")
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestShutdownEndsHandshakesWhenTheTimeIsOver(t *testing.T) {
	cert, _ := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		var ev events
		s := start(t, proxy.Options{MaxHandshakes: 1, Trace: ev.trace()}, proxy.Listener{Name: "x", Listen: l.listen, TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
			Handler: func(context.Context, net.Conn) { t.Error("a session began after Shutdown") }})
		for _, from := range []string{"192.0.2.1", "192.0.2.2"} {
			c := l.dial(from)
			defer c.Close()
		}
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errTest)
		defer cancel()
		if err := s.Shutdown(ctx); err != errTest || time.Since(began) != time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(began))
		}
		if ev.get("open") != 0 || ev.get("handshake failed") != 0 {
			t.Errorf("traced: %v", ev.counts)
		}
	})
}

func TestServeEndsWithItsContextAndHandlersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s, err := proxy.New(proxy.Options{}, proxy.Listener{Name: "x", Listen: l.listen, Handler: echo})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- s.Serve(ctx) }()
		c := l.dial("192.0.2.1")
		wantRead(t, c, "hi\n")
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		io.WriteString(c, "still here\n")
		wantRead(t, c, "still here\n")
		c.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := s.Serve(t.Context()); err == nil {
			t.Error("a second Serve succeeded")
		}
	})
}
