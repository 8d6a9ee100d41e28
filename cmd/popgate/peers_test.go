package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

const (
	patience = time.Minute      // for whatever a test waits for
	canary   = "pw canary-5f1c" // the password; it may show up nowhere
	certFile = "../internal/config/testdata/tls/cert.pem"
	keyFile  = "../internal/config/testdata/tls/key.pem"
)

// imapServer starts a server in memory with n messages for alice, and a
// mailbox Trash.
func imapServer(t *testing.T, n int) string {
	t.Helper()
	user := imapmemserver.NewUser("alice", canary)
	for _, mailbox := range []string{"INBOX", "Trash"} {
		if err := user.Create(mailbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		text := bytes.NewReader([]byte(message(i + 1)))
		if _, err := user.Append("INBOX", struct {
			io.Reader
			sizer
		}{text, sizer(text.Size())}, &imap.AppendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	mem := imapmemserver.New()
	mem.AddUser(user)
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}},
		Logger:       log.New(io.Discard, "", 0),
		InsecureAuth: true,
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(ln) }()
	// In this order: Close beside the beginning of Serve is a race of the library's.
	t.Cleanup(func() { ln.Close(); <-done; server.Close() })
	return ln.Addr().String()
}

// imapView is what another program sees of a mailbox: the number of messages,
// and how many of them are read.
func imapView(t *testing.T, address, mailbox string) (messages, seen int) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	c := imapclient.New(conn, nil)
	defer c.Close()
	if err := c.Login("alice", canary).Wait(); err != nil {
		t.Fatal(err)
	}
	data, err := c.Select(mailbox, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagSeen}}, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	return int(data.NumMessages), len(found.AllUIDs())
}

type sizer int64

func (s sizer) Size() int64 { return int64(s) }

// message is message n, of n lines.
func message(n int) string {
	return fmt.Sprintf("Subject: number %d\r\n\r\n", n) + strings.Repeat(".dots and text\r\n", n)
}

// A service is `popgate serve` in this process.
type service struct {
	stop func()     // as SIGTERM does
	exit <-chan int // the exit code
	log  *logBuffer
	pop3 []string // host:port of each listener
	http string   // URL of the metrics
}

// serve starts `popgate serve` and waits until it listens.
func serve(t *testing.T, args ...string) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &service{stop: cancel, log: &logBuffer{line: make(chan string, 1000)}}
	exit := make(chan int, 1)
	s.exit = exit
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		exit <- run(ctx, append([]string{"serve"}, args...), io.Discard, s.log)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if strings.Contains(s.log.String(), canary) || strings.Contains(s.log.String(), "canary") {
			t.Errorf("the log holds the password:\n%s", s.log)
		}
		if t.Failed() {
			t.Logf("the log:\n%s", s.log)
		}
	})
	s.listens(t)
	return s
}

// listens waits until the service does, and notes where.
func (s *service) listens(t *testing.T) {
	t.Helper()
	for {
		select {
		case line := <-s.log.line:
			var started struct{ Msg, Listen, Metrics string }
			if json.Unmarshal([]byte(line), &started) == nil && started.Msg == "popgate serves" {
				for _, url := range strings.Fields(started.Listen) {
					_, address, _ := strings.Cut(url, "://")
					s.pop3 = append(s.pop3, address)
				}
				s.http = strings.TrimSuffix(started.Metrics, "/metrics")
				return
			}
		case code := <-s.exit:
			t.Fatalf("popgate serve ended with %d:\n%s", code, s.log)
		case <-time.After(patience):
			t.Fatalf("popgate serve does not listen:\n%s", s.log)
		}
	}
}

// code waits for the exit code.
func (s *service) code(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.exit:
		return code
	case <-time.After(patience):
		t.Fatalf("popgate serve does not end:\n%s", s.log)
		return -1
	}
}

// get reads from the metrics listener.
func (s *service) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(s.http + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	all, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(all)
}

// logBuffer keeps what is logged, and hands out the lines.
type logBuffer struct {
	mu   sync.Mutex
	all  bytes.Buffer
	line chan string
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.Write(p)
	for line := range strings.Lines(string(p)) { // of a process, there may be several
		select {
		case b.line <- line:
		default: // nobody waits for lines any more
		}
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// A popClient is the least of a POP3 client; it keeps the dialogue.
type popClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	said strings.Builder
}

// connect dials and expects the greeting.
func connect(t *testing.T, address string) *popClient {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	return greeted(t, conn)
}

// connectTLS is connect for pop3s://.
func connectTLS(t *testing.T, address string) *popClient {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, clientTLSConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return greeted(t, conn)
}

func greeted(t *testing.T, conn net.Conn) *popClient {
	t.Helper()
	c := &popClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	t.Cleanup(func() {
		conn.Close()
		if t.Failed() {
			t.Logf("the dialogue:\n%s", &c.said)
		}
	})
	c.expect("+OK")
	return c
}

func clientTLSConfig(t *testing.T) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: "mail.example.net", NextProtos: []string{"pop3"}}
}

// stls turns TLS on (RFC 2595 section 4).
func (c *popClient) stls() {
	c.t.Helper()
	c.do("STLS", "+OK")
	conn := tls.Client(c.conn, clientTLSConfig(c.t))
	conn.SetDeadline(time.Now().Add(patience))
	if err := conn.Handshake(); err != nil {
		c.t.Fatalf("STLS: %v", err)
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
}

func (c *popClient) line() string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	c.said.WriteString("S: " + line)
	return strings.TrimSuffix(line, "\r\n")
}

// expect reads a status line that begins with want.
func (c *popClient) expect(want string) string {
	c.t.Helper()
	got := c.line()
	if !strings.HasPrefix(got, want) {
		c.t.Fatalf("got %q, want %q", got, want)
	}
	return got
}

// do sends one command and expects the beginning of a status line.
func (c *popClient) do(command, want string) string {
	c.t.Helper()
	c.said.WriteString("C: " + command + "\n")
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, command+"\r\n"); err != nil {
		c.t.Fatalf("write: %v", err)
	}
	return c.expect(want)
}

// list sends a command with a reply of many lines, and takes the dots off.
func (c *popClient) list(command string) string {
	c.t.Helper()
	c.do(command, "+OK")
	var b strings.Builder
	for {
		line := c.line()
		if line == "." {
			return b.String()
		}
		b.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
	}
}

func (c *popClient) login() {
	c.t.Helper()
	c.do("USER alice", "+OK")
	c.do("PASS "+canary, "+OK")
}

// ended expects that the server closes, without a further octet.
func (c *popClient) ended() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || err != nil {
		c.t.Errorf("after the end: %q, %v", rest, err)
	}
}
