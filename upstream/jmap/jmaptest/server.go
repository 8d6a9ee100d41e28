package jmaptest

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/popgate/popgate/upstream/jmap/jmapmem"
)

// The one user.
const (
	User     = "alice"
	Password = "wonderland"
	Token    = "token-of-alice"
	Account  = "alice@example.test" // the id of the account, odd as Cyrus has it
)

// The mailboxes, by id: those with the roles inbox and trash, and one without.
const (
	Inbox   = jmapmem.Inbox
	Trash   = jmapmem.Trash
	Archive = jmapmem.Archive
)

// A Mailbox of the account.
type Mailbox = jmapmem.Mailbox

// An Email of the account.
type Email = jmapmem.Email

// Options says how a server behaves. The zero value is a plain one over net.Pipe.
type Options struct {
	TCP      bool        // listens on a loopback address
	TLS      *tls.Config // speaks TLS
	Absolute bool        // tells absolute addresses in the session resource
	NoJump   bool        // /.well-known/jmap is the session resource itself, no redirect to it
	Ranges   bool        // honours Range in downloads
	Chunked  bool        // answers without Content-Length
	QueryMax int         // ids in an answer to Email/query at most; 0: as many as are asked for

	// The limits that the session resource tells; 0 takes a value of its own.
	MaxGet, MaxSet, MaxCalls, MaxRequest, MaxConcurrent int

	// ID makes the id of message n, from 1; nil for the form of Cyrus.
	ID func(n int) string
	// Session changes the session resource before it goes out.
	Session func(map[string]any)
	// GoneIsDestroyed reports the destruction of what is not there as done, as
	// Cyrus does.
	GoneIsDestroyed bool
}

// Server is a JMAP server. Its methods are safe for concurrent use.
type Server struct {
	*jmapmem.Account
	URL string // http://HOST:PORT; over net.Pipe the host exists in Dial alone

	o       Options
	http    *http.Server
	ln      net.Listener
	tcp     string
	stopped chan struct{}
	served  chan struct{}

	hooking sync.Mutex // while hooks look at a request

	mu       sync.Mutex
	down     bool
	conns    map[net.Conn]struct{}
	dialed   []string
	hooks    []Hook
	calls    []CallHook
	rewrites []func(method string, reply map[string]any)
	requests int
	journal  []Entry
}

// New starts a server that has the mailboxes Inbox, Trash and Archive and no
// messages. It ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{
		o: o, stopped: make(chan struct{}), served: make(chan struct{}),
		conns: map[net.Conn]struct{}{},
	}
	scheme := "http://"
	if o.TLS != nil {
		scheme = "https://"
	}
	if o.TCP {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("jmaptest: %v", err)
		}
		s.ln, s.tcp = ln, ln.Addr().String()
		s.URL = scheme + s.tcp
	} else {
		s.ln = &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		s.URL = scheme + "127.0.0.1:8080"
	}
	base := ""
	if o.Absolute {
		base = s.URL
	}
	s.Account = jmapmem.New(jmapmem.Options{
		User: User, Password: Password, ID: Account, Absolute: base, NoJump: o.NoJump, Ranges: o.Ranges, QueryMax: o.QueryMax,
		MaxGet: o.MaxGet, MaxSet: o.MaxSet, MaxCalls: o.MaxCalls, MaxRequest: o.MaxRequest, MaxConcurrent: o.MaxConcurrent,
		EmailID: o.ID, Session: o.Session, GoneIsDestroyed: o.GoneIsDestroyed,
		Before: s.replyFor, After: s.rewrite, Changed: s.note,
	})
	s.SetToken(Token)
	ln := s.ln
	if o.TLS != nil {
		ln = tls.NewListener(ln, o.TLS)
	}
	s.http = &http.Server{Handler: http.HandlerFunc(s.handle), ConnState: s.track, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(s.served)
		s.http.Serve(ln)
	}()
	t.Cleanup(s.close)
	return s
}

func (s *Server) close() {
	close(s.stopped)
	s.http.Close()
	s.dropAll()
	<-s.served
}

// track remembers connections: those that a handler took over are unknown to
// net/http.
func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = struct{}{}
		if s.down {
			c.Close()
		}
	case http.StateClosed:
		delete(s.conns, c)
	}
}

func (s *Server) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Down makes the server unreachable, and ends its connections.
func (s *Server) Down() {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	s.dropAll()
}

// Up makes it reachable again.
func (s *Server) Up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
}

// Dial opens a connection to the server, whatever address says.
func (s *Server) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.mu.Lock()
	s.dialed = append(s.dialed, address)
	down := s.down
	s.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	if s.tcp != "" {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.tcp)
	}
	client, server := net.Pipe()
	p := s.ln.(*pipes)
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Dialed lists the addresses that Dial was asked for.
func (s *Server) Dialed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.dialed...)
}

// pipes is a listener for net.Pipe.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
