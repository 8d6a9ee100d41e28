package pop3_test

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
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// half is one end of a connection in memory: a pipe for each direction, so that
// one direction can be closed alone.
type half struct {
	in, out       net.Conn
	local, remote net.Addr
}

func connect(local, remote net.Addr) (client, server *half) {
	toServer, fromClient := net.Pipe()
	toClient, fromServer := net.Pipe()
	return &half{in: fromServer, out: toServer, local: remote, remote: local},
		&half{in: fromClient, out: toClient, local: local, remote: remote}
}

func (h *half) Read(p []byte) (int, error)         { return h.in.Read(p) }
func (h *half) Write(p []byte) (int, error)        { return h.out.Write(p) }
func (h *half) CloseWrite() error                  { return h.out.Close() }
func (h *half) Close() error                       { return errors.Join(h.in.Close(), h.out.Close()) }
func (h *half) LocalAddr() net.Addr                { return h.local }
func (h *half) RemoteAddr() net.Addr               { return h.remote }
func (h *half) SetReadDeadline(t time.Time) error  { return h.in.SetReadDeadline(t) }
func (h *half) SetWriteDeadline(t time.Time) error { return h.out.SetWriteDeadline(t) }
func (h *half) SetDeadline(t time.Time) error {
	return errors.Join(h.SetReadDeadline(t), h.SetWriteDeadline(t))
}

var (
	loopback4 = net.TCPAddrFromAddrPort(mustAddr("127.0.0.1:1110"))
	loopback6 = net.TCPAddrFromAddrPort(mustAddr("[::1]:1110"))
	mapped4   = net.TCPAddrFromAddrPort(mustAddr("[::ffff:127.0.0.1]:1110"))
	remote4   = net.TCPAddrFromAddrPort(mustAddr("192.0.2.7:40000"))
	remote6   = net.TCPAddrFromAddrPort(mustAddr("[2001:db8::7]:40000"))
)

// peer is a client under the hand of a test, inside a synctest bubble. What the
// server sends is collected as it comes.
type peer struct {
	t      testing.TB
	conn   net.Conn
	raw    *half
	served chan struct{} // closed when Serve has returned
	drain  context.CancelFunc

	mu      sync.Mutex
	got     bytes.Buffer
	closed  bool
	reading chan struct{} // closed when the collecting goroutine has ended
}

// dial starts a session on s.
func dial(t testing.TB, s *pop3.Server, local, remote net.Addr, via pop3.Via) *peer {
	t.Helper()
	client, server := connect(local, remote)
	ctx, cancel := context.WithCancel(t.Context())
	p := &peer{t: t, conn: client, raw: client, served: make(chan struct{}), drain: cancel}
	go func() {
		defer close(p.served)
		s.Serve(ctx, server, via)
	}()
	p.collect()
	return p
}

// collect starts to read what the server sends.
func (p *peer) collect() {
	p.reading = make(chan struct{})
	go func(conn net.Conn, done chan struct{}) {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			p.mu.Lock()
			p.got.Write(buf[:n])
			if err != nil {
				p.closed = !errors.Is(err, os.ErrDeadlineExceeded)
				p.mu.Unlock()
				return
			}
			p.mu.Unlock()
		}
	}(p.conn, p.reading)
}

// stopReading is a client that takes nothing more.
func (p *peer) stopReading() {
	p.raw.SetReadDeadline(time.Unix(1, 0))
	<-p.reading
	p.raw.SetReadDeadline(time.Time{})
}

// startTLS makes the client's side of a handshake.
func (p *peer) startTLS(config *tls.Config) error {
	p.stopReading()
	secure := tls.Client(p.raw, config)
	p.raw.SetDeadline(time.Now().Add(time.Minute))
	err := secure.Handshake()
	p.raw.SetDeadline(time.Time{})
	if err == nil {
		p.conn = secure
	}
	p.collect()
	return err
}

// send sends text as it is. A server that is gone takes nothing: no error.
func (p *peer) send(text string) {
	p.raw.SetWriteDeadline(time.Now().Add(time.Hour))
	io.WriteString(p.conn, text)
}

// received waits until nothing moves any more and returns what came since the
// last call.
func (p *peer) received() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.got.String()
	p.got.Reset()
	return text
}

func (p *peer) isClosed() bool {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// ask sends one line and returns the whole answer.
func (p *peer) ask(line string) string {
	p.send(line + "\r\n")
	return p.received()
}

// hangUp closes the client's end and waits for the session to end.
func (p *peer) hangUp() {
	p.conn.Close()
	p.raw.Close()
	<-p.served
	<-p.reading
	p.drain()
}

// want checks an answer; "..." at the end of a line is any text.
func (p *peer) want(got string, lines ...string) {
	p.t.Helper()
	if !matches(splitLines(got), lines) {
		p.t.Errorf("got %q, want %q", got, lines)
	}
}

// splitLines shows what the server sent as a script does: one string a line,
// with a backslash behind one that has no CRLF.
func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	for i, l := range lines {
		text, whole := strings.CutSuffix(l, "\r\n")
		lines[i] = escape(text)
		if !whole {
			lines[i] += `\`
		}
	}
	return lines
}

// escape shows what is not printable, and a space at the end, as \xHH.
func escape(text string) string {
	var b strings.Builder
	for i, c := range []byte(text) {
		if c < ' ' || c > '~' || c == ' ' && i == len(text)-1 {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func matches(got, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if head, free := strings.CutSuffix(want[i], "..."); free && strings.HasPrefix(got[i], head) {
			continue
		}
		if got[i] != want[i] {
			return false
		}
	}
	return true
}

// record is what a trace was told.
type record struct {
	mu         sync.Mutex
	started    int
	ends       []pop3.End
	commands   []string // verb and result
	logins     []string
	retrieved  []string
	deletions  pop3.Deletions
	mismatches []string
	panics     int
}

func (r *record) trace() pop3.Trace {
	note := func(f func()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		f()
	}
	return pop3.Trace{
		SessionStarted: func(pop3.Via) { note(func() { r.started++ }) },
		SessionEnded:   func(_ pop3.Via, e pop3.End, _ time.Duration) { note(func() { r.ends = append(r.ends, e) }) },
		Command: func(verb string, res pop3.Result, _ time.Duration) {
			note(func() { r.commands = append(r.commands, verb+" "+string(res)) })
		},
		Login: func(mechanism, result string) {
			note(func() { r.logins = append(r.logins, mechanism+" "+result) })
		},
		Retrieved: func(octets int64, whole bool) {
			note(func() { r.retrieved = append(r.retrieved, fmt.Sprint(octets, " ", whole)) })
		},
		Deletions: func(d pop3.Deletions) {
			note(func() {
				if r.deletions != (pop3.Deletions{}) {
					panic("deletions were told twice")
				}
				r.deletions = d
			})
		},
		SizeMismatch: func(upstream string, told, sent int64) {
			note(func() { r.mismatches = append(r.mismatches, fmt.Sprint(upstream, ": ", told, " ", sent)) })
		},
		Panicked: func() { note(func() { r.panics++ }) },
	}
}

// check holds what is true of every session that has ended.
func (r *record) check(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started != len(r.ends) {
		t.Errorf("%d sessions were started, %d ended", r.started, len(r.ends))
	}
	if d := r.deletions; d.Marked != d.Reset+d.Abandoned+d.Removed+d.Missing+d.Kept {
		t.Errorf("deletions do not balance: %+v", d)
	}
}

// lab is a store with one user, and what a trace and a log were told.
type lab struct {
	store *memdrop.Store
	record
	log bytes.Buffer
}

func newLab(user, password string, msgs ...memdrop.Message) *lab {
	l := &lab{store: memdrop.New()}
	l.store.AddUser(user, password, msgs...)
	return l
}

// server makes a server on the lab's store; change may be nil.
func (l *lab) server(t testing.TB, change func(*pop3.Options)) *pop3.Server {
	t.Helper()
	o := pop3.Options{
		Store: l.store, Trace: l.trace(),
		Logger: slog.New(slog.NewTextHandler(&l.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	s, err := pop3.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check holds what is true when every session has ended.
func (l *lab) check(t testing.TB) {
	t.Helper()
	l.record.check(t)
	if accounts, bodies := l.store.InUse(); accounts != 0 || bodies != 0 {
		t.Errorf("%d accounts and %d bodies were left open", accounts, bodies)
	}
	if l.panics > 0 {
		t.Errorf("a session panicked: %s", l.log.String())
	}
}

// ids lists the maildrop.
func ids(s *memdrop.Store, user string) []string {
	list := []string{}
	for _, m := range s.Messages(user) {
		list = append(list, m.ID)
	}
	return list
}

// filler makes a message of n octets, 2 lines or more.
func filler(id string, n int) memdrop.Message {
	text := "Subject: " + id + "\r\n\r\n"
	for len(text) < n {
		line := strings.Repeat("x", min(70, max(n-len(text)-2, 0))) + "\r\n"
		text += line
	}
	return memdrop.Message{ID: id, Body: []byte(text), Size: int64(n)}
}

func fault(kind upstream.Kind, op string) error {
	return &upstream.Error{Kind: kind, Op: op, Err: errors.New("upstream text \r\n+OK evil")}
}

// certificate makes a self-signed one and the configurations for both ends.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pop.example"}, DNSNames: []string{"pop.example"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: roots, ServerName: "pop.example"}
}

func mustAddr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
