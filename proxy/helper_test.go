package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeListener hands out pipes and errors; none of it touches the network.
type fakeListener struct {
	next   chan any // net.Conn or error
	closed chan struct{}
	once   sync.Once
}

func newFakeListener() *fakeListener {
	return &fakeListener{next: make(chan any), closed: make(chan struct{})}
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case v := <-l.next:
		if err, ok := v.(error); ok {
			return nil, err
		}
		return v.(net.Conn), nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *fakeListener) Addr() net.Addr { return &net.TCPAddr{} }

type fakeConn struct {
	net.Conn
	remote net.Addr
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.remote }

// dial makes a connection that comes from an address.
func (l *fakeListener) dial(from string) net.Conn {
	client, server := net.Pipe()
	l.next <- &fakeConn{server, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 4711))}
	return client
}

func (l *fakeListener) listen(context.Context) (net.Listener, error) { return l, nil }

// events counts what a Trace tells.
type events struct {
	mu     sync.Mutex
	counts map[string]int
}

func (e *events) add(name string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = map[string]int{}
	}
	e.counts[name] += n
}

func (e *events) get(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[name]
}

func (e *events) trace() proxy.Trace {
	return proxy.Trace{
		Accepted:        func(l string) { e.add("accepted", 1) },
		Rejected:        func(l string, why proxy.Rejection) { e.add("rejected "+string(why), 1) },
		Open:            func(l string, delta int) { e.add("open", delta) },
		HandshakeFailed: func(l string) { e.add("handshake failed", 1) },
		Secured:         func(l string, version, _ uint16) { e.add("secured "+l+" "+tls.VersionName(version), 1) },
		AcceptFailed:    func(l string) { e.add("accept failed", 1) },
		Panicked:        func(l string) { e.add("panicked", 1) },
	}
}

// logs collects lines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for line := range bytes.Lines(l.buf.Bytes()) {
		list = append(list, string(line))
	}
	return list
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// start listens and serves; the test's end shuts the server down and demands that
// Serve succeeded.
func start(t *testing.T, o proxy.Options, listeners ...proxy.Listener) *proxy.Server {
	t.Helper()
	s, err := proxy.New(o, listeners...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func dial(t *testing.T, s *proxy.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { c.Close() })
	return c
}

// wantAll reads c to its end.
func wantAll(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got, err := io.ReadAll(c)
	if string(got) != want || err != nil {
		t.Errorf("the client reads %q, %v; want %q", got, err, want)
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	p := make([]byte, len(want))
	if _, err := io.ReadFull(c, p); err != nil || string(p) != want {
		t.Errorf("the client reads %q, %v; want %q", p, err, want)
	}
}

// echo greets and repeats until the client or ctx ends.
func echo(ctx context.Context, c net.Conn) {
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	fmt.Fprint(c, "hi\n")
	io.Copy(c, c)
}

// hold greets and keeps the connection until ctx ends.
func hold(ctx context.Context, c net.Conn) {
	fmt.Fprint(c, "hi\n")
	<-ctx.Done()
}

// certificate makes a certificate for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), // a bubble of synctest lives in 2000
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

var errTest = errors.New("the test says so")
