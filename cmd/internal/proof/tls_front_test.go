package proof_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// tlsServe serves an engine on a loopback address, until the test ends.
func tlsServe(t testing.TB, engine *pop3.Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { engine.Serve(ctx, c, pop3.Via{Listener: "proof"}) })
		}
	})
	t.Cleanup(func() { ln.Close(); cancel(); conns.Wait() })
	return ln.Addr().String()
}

// tlsBehind is the client's end of a connection on which somebody puts octets in
// front of the ClientHello, in the same segment. Reading passes over the first
// line, the reply to STLS.
type tlsBehind struct {
	net.Conn
	in      *bufio.Reader
	prefix  string
	refused bool // the line was -ERR
	skipped bool
}

func (c *tlsBehind) Write(p []byte) (int, error) {
	if c.prefix == "" {
		return c.Conn.Write(p)
	}
	_, err := c.Conn.Write(append([]byte(c.prefix), p...))
	c.prefix = ""
	return len(p), err
}

func (c *tlsBehind) Read(p []byte) (int, error) {
	if !c.skipped {
		c.skipped = true
		line, err := c.in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if c.refused = strings.HasPrefix(line, "-ERR"); c.refused {
			return 0, errors.New("STLS was refused")
		}
	}
	return c.in.Read(p)
}

// TestSTLSInjection puts commands between STLS and TLS as somebody
// on the way would, in every segmentation. Inside TLS nothing may answer them.
func TestSTLSInjection(t *testing.T) {
	ca := imaptest.NewCA(t)
	config := ca.ServerConfig()
	srv := newHostileServer(nil)
	var panics atomic.Int64
	engine := hostileEngine(t, hostileStore(t, srv, imap.Options{}), pop3.Options{TLS: config, Trace: hostileCounter(&panics)})
	addr := tlsServe(t, engine)
	runs := proof.Pick(20, 200, 1000)
	gap := proof.Pick(2, 5, 50) // ms, at most
	injected := []string{"CAPA\r\n", "NOOP\r\n", "USER mallory\r\nPASS secret\r\n", "AUTH PLAIN AG1hbGxvcnkAc2VjcmV0\r\n", "C", "\r\n", "\x00", "USER mallory"}

	// attack reports whether the client ends up inside TLS, and what answers it
	// there before it has said anything, and then to its NOOP.
	attack := func(c net.Conn, how int, text string, wait time.Duration) (inside bool, unasked, answer string, err error) {
		one := how == 0 || how == 2 // the octets are there when STLS is read
		in := bufio.NewReader(c)
		if _, err := in.ReadString('\n'); err != nil {
			return false, "", "", err
		}
		b := &tlsBehind{Conn: c, in: in, prefix: "STLS\r\n" + text}
		switch how {
		case 0: // one segment; the client waits for the reply
			io.WriteString(c, b.prefix)
			b.prefix = ""
		case 1: // two segments
			io.WriteString(c, "STLS\r\n")
			time.Sleep(wait)
			io.WriteString(c, text)
			b.prefix = ""
		case 2: // one segment with the ClientHello
		case 3: // two segments, the second with the ClientHello
			io.WriteString(c, "STLS\r\n")
			time.Sleep(wait)
			b.prefix = text
		}
		s := tls.Client(b, ca.ClientConfig())
		if s.Handshake() != nil {
			if one && !b.refused {
				err = errors.New("STLS with octets behind it is not refused")
			}
			return false, "", "", err
		}
		// Both commands in one record: the replies to what was injected would
		// come first.
		if _, err := io.WriteString(s, "XYZZY\r\nQUIT\r\n"); err != nil {
			return true, "", "", nil
		}
		got, _ := io.ReadAll(s)
		unasked, answer, _ = strings.Cut(string(got), "-ERR unknown command\r\n")
		return true, unasked, answer, nil
	}
	names := []string{"one segment", "two segments", "with the ClientHello", "before the ClientHello"}
	total, inside, accepted := 0, 0, 0
	var mu sync.Mutex
	for how, name := range names {
		var workers sync.WaitGroup
		for w := range 8 {
			workers.Go(func() {
				r := rand.New(rand.NewPCG(uint64(how), uint64(w)))
				for i := w; i < runs; i += 8 {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return
					}
					c.SetDeadline(time.Now().Add(time.Minute))
					text := injected[r.IntN(len(injected))]
					in, unasked, answer, err := attack(c, how, text, time.Duration(r.IntN(1000*gap))*time.Microsecond)
					c.Close()
					mu.Lock()
					total++
					if in {
						inside++
					}
					if unasked != "" || strings.Count(answer, "\n") > 1 {
						accepted++
						t.Errorf("%s, %q: inside TLS came %q, then %q", name, text, unasked, answer)
					}
					if err != nil {
						t.Errorf("%s, %q: %v", name, text, err)
					}
					mu.Unlock()
				}
			})
		}
		workers.Wait()
	}

	// What an honest client does works, and USER from before is forgotten.
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(c)
	for _, command := range []string{"", "USER mallory\r\n", "STLS\r\n"} {
		io.WriteString(c, command)
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK") {
			t.Fatalf("%q: %q, %v", command, line, err)
		}
	}
	s := tls.Client(c, ca.ClientConfig())
	io.WriteString(s, "PASS secret\r\nUSER alice\r\nPASS secret\r\nQUIT\r\n")
	got, _ := io.ReadAll(s)
	if want := "-ERR USER comes first\r\n+OK\r\n+OK logged in\r\n+OK bye\r\n"; string(got) != want {
		t.Errorf("an honest client: got %q, want %q", got, want)
	}
	for _, line := range srv.received() {
		if strings.Contains(line, "bWFsbG9yeQ") || strings.Contains(line, "mallory") {
			t.Errorf("the mail service was asked for the user that somebody put in: %s", line)
		}
	}
	if panics.Load() > 0 {
		t.Errorf("%d panics", panics.Load())
	}
	if n := srv.dials.Load(); n != 1 {
		t.Errorf("%d connections to the mail service, want the one of the honest client", n)
	}
	proof.Report(t, "M9", accepted == 0, "STLS: %d runs in %d segmentations with commands before TLS: %d accepted, %d reached TLS at all", total, len(names), accepted, inside)
}
