package proof_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// fidelityEngine is the engine over the IMAP store over srv, in this process.
func fidelityEngine(t testing.TB, srv *imaptest.Server, engine pop3.Options, store imap.Options) *pop3.Server {
	t.Helper()
	store.Host, store.Mailbox, store.ReadAhead, store.Reuse = "127.0.0.1", "INBOX", proofReadAhead(), harnessReuse
	if store.Dial == nil {
		store.Dial = srv.Dial
	}
	s, err := imap.New(store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	engine.Store = s
	server, err := pop3.NewServer(engine)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// fidelityScript is a client whose commands are known in advance: a connection
// that gives them, then the end of the stream, and keeps what is sent to it.
type fidelityScript struct {
	mu  sync.Mutex
	in  []byte
	out bytes.Buffer
}

var fidelityAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1110}

func (s *fidelityScript) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *fidelityScript) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *fidelityScript) Close() error                     { return nil }
func (s *fidelityScript) LocalAddr() net.Addr              { return fidelityAddr }
func (s *fidelityScript) RemoteAddr() net.Addr             { return fidelityAddr }
func (s *fidelityScript) SetDeadline(time.Time) error      { return nil }
func (s *fidelityScript) SetReadDeadline(time.Time) error  { return nil }
func (s *fidelityScript) SetWriteDeadline(time.Time) error { return nil }

// fidelityPlay plays a whole session and returns all that the client was sent.
func fidelityPlay(t testing.TB, s *pop3.Server, commands string) []byte {
	t.Helper()
	c := &fidelityScript{in: []byte(commands)}
	s.Serve(t.Context(), c, pop3.Via{Listener: "proof"})
	return c.out.Bytes()
}

// fidelityLogin is how every session begins.
const fidelityLogin = "USER " + imaptest.DefaultUser + "\r\nPASS " + imaptest.DefaultPassword + "\r\n"

// fidelitySplit is a connection to the IMAP server whose replies come in pieces:
// piece(n) says how many octets the next read may give, n counting the reads
// since the last command, from 1.
type fidelitySplit struct {
	net.Conn
	piece func(n int) int

	held []byte // received and not yet given out; the reader's own
	buf  [4096]byte
	n    atomic.Int64
}

func (c *fidelitySplit) Write(p []byte) (int, error) {
	c.n.Store(0)
	return c.Conn.Write(p)
}

func (c *fidelitySplit) Read(p []byte) (int, error) {
	if len(c.held) == 0 {
		n, err := c.Conn.Read(c.buf[:])
		if n == 0 {
			return 0, err
		}
		c.held = c.buf[:n]
	}
	k := max(c.piece(int(c.n.Add(1))), 1)
	n := copy(p[:min(k, len(p))], c.held)
	c.held = c.held[n:]
	return n, nil
}
