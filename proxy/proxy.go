package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Listener is one address on which clients are served.
type Listener struct {
	Name string // for logs and metrics, unique; empty: Addr
	Addr string // host:port, IPv6 in brackets; an empty host is every address

	// TLS, where it is not nil, is spoken from the first byte.
	TLS *tls.Config

	// Proxies, where there are any, are the networks of the proxies in front. Then
	// each connection comes from one of them and begins with a PROXY header,
	// version 1 or 2, or is closed, and the address in the header is the client's
	// for the limits, the log and the handler. It comes before TLS.
	Proxies []netip.Prefix

	// Clients, where there are any, are the networks of all that are served.
	Clients []netip.Prefix

	// Handler serves one connection, in a goroutine of its own. On a listener with
	// TLS it gets the *tls.Conn after the handshake. The connection is closed when
	// it returns. It ends by itself soon after ctx has ended.
	Handler func(ctx context.Context, c net.Conn)

	// Busy is what a client is told that a limit refuses, line end included; nil:
	// nothing. It is not used with TLS, nor for who may not come at all.
	Busy []byte

	// Listen makes the socket, in place of binding Addr: for sockets that are
	// handed to the process. Nil: bind Addr.
	Listen func(ctx context.Context) (net.Listener, error)
}

// Options are the limits of a [Server], over all of its listeners. The zero
// value has the defaults that are named; a negative number is no limit.
type Options struct {
	MaxConns       int           // connections at one time; 10,000
	MaxPerAddress  int           // connections at one time from an IPv4 address or an IPv6 /64; 30
	RatePerAddress int           // new connections a minute from one; 300
	CountLoopback  bool          // let the limits for addresses hold for loopback peers too
	HandshakeTime  time.Duration // for a TLS handshake, with the wait for its turn; 30 s; no negative
	MaxHandshakes  int           // TLS handshakes at one time, more wait; 256

	// KeepAlive is for accepted TCP connections. The zero value: on, after 60 s
	// idle, every 15 s, 4 probes.
	KeepAlive net.KeepAliveConfig

	Logger *slog.Logger // nil: none
	Trace  Trace
}

// Trace tells what a server does. Nil functions are not called; they are called
// from many goroutines and must not wait. The listener is given by its name.
type Trace struct {
	Accepted        func(listener string)                // by the system, before the limits
	Rejected        func(listener string, why Rejection) // by a limit
	Open            func(listener string, delta int)     // +1: taken; -1: closed
	HandshakeFailed func(listener string)
	Secured         func(listener string, version, cipher uint16) // by a handshake; the ids of crypto/tls
	AcceptFailed    func(listener string)
	Panicked        func(listener string)
}

// Rejection is why a connection was refused. The set is closed.
type Rejection string

// The rejections.
const (
	TooMany            Rejection = "connections" // MaxConns
	TooManyFromAddress Rejection = "address"     // MaxPerAddress
	TooFast            Rejection = "rate"        // RatePerAddress
	TooManyHandshakes  Rejection = "handshakes"  // no turn of MaxHandshakes within HandshakeTime
	NotListed          Rejection = "network"     // neither in Proxies nor in Clients, where they are given
	BadHeader          Rejection = "header"      // no PROXY header from a proxy, or a wrong one, or not in 5 s
)

// Rejections lists every rejection, for metrics that create their labels in
// advance.
func Rejections() []Rejection {
	return []Rejection{TooMany, TooManyFromAddress, TooFast, TooManyHandshakes, NotListed, BadHeader}
}

const noLimit = int(^uint(0) >> 1)

func (o Options) withDefaults() (Options, error) {
	if o.HandshakeTime < 0 {
		return o, errors.New("the time for a handshake is negative")
	}
	limit := func(n *int, def int) {
		if *n = cmp.Or(*n, def); *n < 0 {
			*n = noLimit
		}
	}
	limit(&o.MaxConns, 10_000)
	limit(&o.MaxPerAddress, 30)
	limit(&o.RatePerAddress, 300)
	limit(&o.MaxHandshakes, 256)
	o.HandshakeTime = cmp.Or(o.HandshakeTime, 30*time.Second)
	if o.KeepAlive == (net.KeepAliveConfig{}) {
		o.KeepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// A Server accepts connections on its listeners. Make one with [New]. Its
// methods are safe for concurrent use; Listen and Serve are called once each.
type Server struct {
	options    Options
	listeners  []Listener
	admission  *admission
	handshakes slots
	refusals   slots
	rejections *sparse

	mu           sync.Mutex
	bound        []net.Listener
	served       bool
	stopped      bool
	endAccepting context.CancelFunc
	endHandlers  context.CancelCauseFunc

	loops sync.WaitGroup // accept loops
	conns sync.WaitGroup // connections; grows in accept loops only
}

// New checks the settings. It binds nothing.
func New(o Options, listeners ...Listener) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(listeners) == 0 {
		return nil, errors.New("no listener")
	}
	s := &Server{
		options:    o,
		admission:  newAdmission(o),
		handshakes: newSlots(o.MaxHandshakes),
		refusals:   newSlots(maxRefusals),
		rejections: &sparse{},
	}
	names := map[string]bool{}
	for _, l := range listeners {
		l.Name = cmp.Or(l.Name, l.Addr)
		if err := l.check(); err != nil {
			return nil, fmt.Errorf("listener %q: %w", l.Name, err)
		}
		if names[l.Name] {
			return nil, fmt.Errorf("listener %q: the name is used twice", l.Name)
		}
		names[l.Name] = true
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

func (l Listener) check() error {
	if l.Handler == nil {
		return errors.New("no handler")
	}
	if t := l.TLS; t != nil && len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
		return errors.New("TLS without a certificate")
	}
	for _, n := range slices.Concat(l.Proxies, l.Clients) {
		if !n.IsValid() || n.Addr().Is4In6() {
			return fmt.Errorf("%v is no network", n)
		}
	}
	if l.Listen != nil {
		return nil
	}
	_, _, err := net.SplitHostPort(l.Addr)
	return err
}

// Listen binds every listener, or none.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound != nil {
		return errors.New("listen: called twice")
	}
	if s.stopped {
		return errors.New("listen: the server is shut down")
	}
	config := net.ListenConfig{KeepAlive: -1} // set for each connection, see serve
	var bound []net.Listener
	for _, l := range s.listeners {
		listen := l.Listen
		if listen == nil {
			listen = func(ctx context.Context) (net.Listener, error) { return config.Listen(ctx, "tcp", l.Addr) }
		}
		b, err := listen(ctx)
		if err != nil {
			for _, b := range bound {
				b.Close()
			}
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
		bound = append(bound, b)
	}
	s.bound = bound
	return nil
}

// Addrs returns the bound addresses, in the order of the listeners; none before
// Listen.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []net.Addr
	for _, b := range s.bound {
		list = append(list, b.Addr())
	}
	return list
}
