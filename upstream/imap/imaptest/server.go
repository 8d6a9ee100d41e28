package imaptest

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
)

// The account that every server has.
const (
	DefaultUser     = "alice"
	DefaultPassword = "wonderland"
)

// firstUIDValidity is above 2^31, so that a client with signed numbers shows.
const firstUIDValidity = 3857529045

// A Server is an IMAP server in memory. Its methods are safe for concurrent
// use. It ends with the test, and prints its journal if the test failed.
type Server struct {
	profile   Profile
	tls       *tls.Config
	implicit  bool
	tcp       bool
	transport *transport
	journal   *Journal
	rules     rules

	mu       sync.Mutex // guards what follows, and every mailbox
	accounts map[string]*account
	masters  map[string]string // names and passwords
	open     int               // connections with a session
}

type account struct {
	password string
	boxes    map[string]*mailbox
	order    []string // names as they were made
}

// An Option changes how New sets a server up.
type Option func(*Server)

// TCP listens on a loopback address instead of serving net.Pipe.
func TCP() Option { return func(s *Server) { s.tcp = true } }

// StartTLS offers STARTTLS with ca's certificate.
func StartTLS(ca *CA) Option { return func(s *Server) { s.tls = ca.ServerConfig() } }

// ImplicitTLS speaks TLS from the first octet.
func ImplicitTLS(ca *CA) Option {
	return func(s *Server) { s.tls, s.implicit = ca.ServerConfig(), true }
}

// TLSConfig replaces the configuration of the TLS option before it: for servers
// with a bad certificate or an old version.
func TLSConfig(c *tls.Config) Option { return func(s *Server) { s.tls = c } }

// User adds an account with an INBOX. Its password serves as its token too.
func User(name, password string) Option {
	return func(s *Server) { s.addUser(name, password) }
}

// MasterSeparator makes one login name of a user and a master user, in this
// order, as Dovecot has it.
const MasterSeparator = "*"

// Master adds a master user, who has no mailbox: with its password it logs in for
// any other user, by the authorization identity of PLAIN or by MasterSeparator. As
// a token it opens the maildrop of any user too.
func Master(name, password string) Option {
	return func(s *Server) { s.masters[name] = password }
}

// New starts a server with one account, DefaultUser, which has an empty INBOX.
func New(t testing.TB, p Profile, opts ...Option) *Server {
	t.Helper()
	s := &Server{profile: p, journal: &Journal{}, accounts: map[string]*account{}, masters: map[string]string{}}
	s.addUser(DefaultUser, DefaultPassword)
	for _, o := range opts {
		o(s)
	}
	s.transport = newTransport(t, s.tcp, s.serve)
	t.Cleanup(func() {
		s.transport.close()
		if t.Failed() {
			t.Logf("journal of the %s IMAP server:\n%s", p.Name, s.journal)
		}
	})
	return s
}

func (s *Server) addUser(name, password string) {
	s.accounts[name] = &account{password: password, boxes: map[string]*mailbox{}}
	s.addMailbox(name, "INBOX", nil)
}

// addMailbox makes a mailbox; the caller holds mu or is alone.
func (s *Server) addMailbox(user, name string, attrs []string) {
	a := s.accounts[user]
	if a.boxes[name] == nil {
		a.order = append(a.order, name)
	}
	a.boxes[name] = &mailbox{
		user: user, name: name, attrs: attrs, journal: s.journal,
		uidValidity: firstUIDValidity + uint32(len(a.order)-1)*1000, uidNext: 1,
	}
}

// recreate gives a mailbox a new life; the caller holds mu.
func (s *Server) recreate(user, name string) {
	old := s.accounts[user].boxes[name]
	fresh := *old
	fresh.uidValidity, fresh.uidNext, fresh.messages = old.uidValidity+1, 1, nil
	s.accounts[user].boxes[name] = &fresh
	old.messages = nil
	old.modseq++
	fresh.note(0, Mutation{Change: Recreated})
}

// Dial opens a connection to the server, whatever the address: it stands in
// for net.Dialer.DialContext.
func (s *Server) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.transport.dial(ctx, network, addr)
}

// DialWith is Dial with each connection wrapped; n counts them from 1.
func (s *Server) DialWith(wrap func(n int, c net.Conn) net.Conn) DialFunc {
	return s.transport.dialWith(wrap)
}

// Addr is the TCP address, "" over net.Pipe.
func (s *Server) Addr() string { return s.transport.addr() }

// Dialed returns the addresses that were dialed, in order.
func (s *Server) Dialed() []string { return s.transport.dialedAddrs() }

// Refuse lets the next n dials fail as if nobody listened.
func (s *Server) Refuse(n int) { s.transport.refuseNext(n) }

// Disconnect ends every open connection.
func (s *Server) Disconnect(how Ending) { s.transport.disconnect(how) }

// Journal is what the server was told and did.
func (s *Server) Journal() *Journal { return s.journal }

// Profile is the profile that the server follows.
func (s *Server) Profile() Profile { return s.profile }

// INBOX is the INBOX of DefaultUser.
func (s *Server) INBOX() *Mailbox { return s.Mailbox(DefaultUser, "INBOX") }

// Mailbox returns a mailbox, which is made if it is not there, with the given
// attributes: `\Trash`.
func (s *Server) Mailbox(user, name string, attrs ...string) *Mailbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.EqualFold(name, "INBOX") {
		name = "INBOX"
	}
	if s.accounts[user].boxes[name] == nil {
		s.addMailbox(user, name, attrs)
	}
	return &Mailbox{srv: s, user: user, name: name}
}

// SetPassword changes a password.
func (s *Server) SetPassword(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[user].password = password
}
