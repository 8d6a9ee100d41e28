package proof_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/x509"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// The exhaustion tests run the gateway as a process of its own, with real
// sockets, and look at it from outside.

// crowd is an IMAP server with many users, whose mailboxes hold one message.
func crowd(t *testing.T, users int, message imaptest.Body, opts ...imaptest.Option) *imaptest.Server {
	t.Helper()
	opts = append(opts, imaptest.TCP())
	for i := range users {
		opts = append(opts, imaptest.User(crowdUser(i), "pw"))
	}
	srv := imaptest.New(t, imaptest.Full(), opts...)
	for i := range users {
		srv.Mailbox(crowdUser(i), "INBOX").AppendBody(message, message.Size())
	}
	return srv
}

func crowdUser(i int) string { return fmt.Sprintf("user%d", i) }

// configFile writes a configuration and returns its name.
func configFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "popgate.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// cpu is the processor time that the gateway has used.
func (g *gateway) cpu(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold spaces
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // in ticks of 1/100 s
}

// files is the number of descriptors that the gateway has open.
func (g *gateway) files(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// wireClient speaks POP3 over a real socket.
type wireClient struct {
	net.Conn
	r *bufio.Reader
}

func dialWire(ctx context.Context, addr string, config *tls.Config) (*wireClient, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if config != nil {
		c = tls.Client(c, config)
	}
	p := &wireClient{c, bufio.NewReader(c)}
	if err := p.ok(); err != nil {
		c.Close()
		return nil, err
	}
	return p, nil
}

func (p *wireClient) ok() error {
	p.SetReadDeadline(time.Now().Add(time.Minute))
	line, err := p.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = errors.New(strings.TrimSpace(line))
	}
	return err
}

func (p *wireClient) command(line string) error {
	if _, err := io.WriteString(p, line+"\r\n"); err != nil {
		return err
	}
	return p.ok()
}

func (p *wireClient) login(user, password string) error {
	if err := p.command("USER " + user); err != nil {
		return err
	}
	return p.command("PASS " + password)
}

// retr reads a message to its terminator.
func (p *wireClient) retr(n int) error {
	if err := p.command(fmt.Sprintf("RETR %d", n)); err != nil {
		return err
	}
	for {
		line, err := p.r.ReadString('\n')
		if err != nil || line == ".\r\n" {
			return err
		}
	}
}

// visit is what a good client does: login, RETR, QUIT.
func visit(ctx context.Context, addr, user, password string) error {
	p, err := dialWire(ctx, addr, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.login(user, password); err != nil {
		return err
	}
	if err := p.retr(1); err != nil {
		return err
	}
	return p.command("QUIT")
}

// TestDripsAndReadersThatStop lets thousands of clients send an octet now and
// then, and others stop to read a large message, while a good client comes and
// goes.
func TestDripsAndReadersThatStop(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	drips := proof.Pick(50, 1500, 9000)
	readers := proof.Pick(5, 100, 500)
	loginTime := proof.Pick(10*time.Second, 10*time.Second, 30*time.Second) // the least that is accepted
	srv := crowd(t, readers, largeBody(50_000_000))
	srv.INBOX().Append("Subject: small\r\n\r\n" + strings.Repeat("a line of a small message\r\n", 380))
	config := configFile(t, fmt.Sprintf("limits: {login-time: %v}\n", loginTime))
	g := startGateway(t, buildGateway(t), srv.Addr(), "--config", config, "--log-level", "error")
	before := g.memory(t, "VmRSS")

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var stopped []*wireClient
	defer func() {
		for _, p := range stopped {
			p.Close()
		}
	}()
	for i := range readers {
		p, err := dialWire(ctx, g.addr, nil)
		if err == nil {
			err = p.login(crowdUser(i), "pw")
		}
		if err == nil {
			_, err = io.WriteString(p, "RETR 1\r\n") // and never read on
		}
		if err != nil {
			t.Fatalf("reader %d: %v", i, err)
		}
		stopped = append(stopped, p)
	}
	var alive, born atomic.Int64
	var lastGone atomic.Int64
	var crowdOfDrips sync.WaitGroup
	slots := make(chan struct{}, 200) // connects at a time
	start := time.Now()
	for range drips {
		slots <- struct{}{}
		crowdOfDrips.Go(func() {
			p, err := dialWire(ctx, g.addr, nil)
			<-slots
			if err != nil {
				return // turned away by a limit
			}
			defer p.Close()
			began := time.Now()
			born.Add(1)
			alive.Add(1)
			defer alive.Add(-1)
			gone := make(chan struct{})
			crowdOfDrips.Go(func() {
				for {
					if _, err := p.Write([]byte("U")); err != nil {
						return
					}
					select {
					case <-gone:
						return
					case <-time.After(time.Second):
					}
				}
			})
			defer close(gone)
			p.SetReadDeadline(time.Now().Add(loginTime + time.Minute))
			io.Copy(io.Discard, p.r)
			late := time.Since(began) - loginTime
			for old := lastGone.Load(); int64(late) > old && !lastGone.CompareAndSwap(old, int64(late)); old = lastGone.Load() {
			}
		})
	}
	arrived := time.Since(start)
	var visits []time.Duration
	highest := int64(0)
	for len(visits) == 0 || alive.Load() > 0 && time.Since(start) < arrived+loginTime+time.Minute {
		began := time.Now()
		if err := visit(ctx, g.addr, imaptest.DefaultUser, imaptest.DefaultPassword); err != nil {
			t.Fatalf("the good client: %v", err)
		}
		visits = append(visits, time.Since(began))
		highest = max(highest, g.memory(t, "VmRSS"))
	}
	crowdOfDrips.Wait()
	slices.Sort(visits)
	p99 := visits[len(visits)*99/100]
	rss := float64(highest) / (1 << 20)
	late := time.Duration(lastGone.Load())
	proof.Report(t, "M14", rss <= 1024 && p99 < 2*time.Second && late < 5*time.Second && born.Load() >= proof.Pick(int64(drips*9/10), int64(drips*9/10), 10_000),
		"%d clients that drip (the limit on descriptors here allows no more than some 9,900) and %d that stop reading 50 MB: %.0f MiB RSS, %.0f before; all drips gone %.1f s after the deadline at most; a good client's %d visits took %v at the 99th percentile",
		born.Load(), readers, rss, float64(before)/(1<<20), late.Seconds(), len(visits), p99.Round(time.Millisecond))
	if rss > 1024 || p99 > 30*time.Second {
		t.Errorf("%.0f MiB, p99 %v", rss, p99)
	}
}

// TestNoDescriptorsLeft takes the gateway's descriptors away while a thousand
// clients knock.
func TestNoDescriptorsLeft(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc and prlimit")
	}
	knocks := proof.Pick(100, 500, 1000)
	srv := imaptest.New(t, imaptest.Full(), imaptest.TCP(), imaptest.User("bob", "pw"))
	srv.INBOX().Append("Subject: a\r\n\r\na\r\n")
	srv.Mailbox("bob", "INBOX").Append("Subject: b\r\n\r\nb\r\n")
	g := startGateway(t, buildGateway(t), srv.Addr(), "--log-level", "error")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	held, err := dialWire(ctx, g.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := held.login(imaptest.DefaultUser, imaptest.DefaultPassword); err != nil {
		t.Fatal(err)
	}
	const spare = 6
	limitFiles(t, g.cmd.Process.Pid, uint64(g.files(t)+spare))

	var conns []net.Conn
	for range knocks {
		d := net.Dialer{Timeout: 200 * time.Millisecond} // the backlog may be full
		if c, err := d.DialContext(ctx, "tcp", g.addr); err == nil {
			conns = append(conns, c)
		}
	}
	window := proof.Pick(time.Second, 3*time.Second, 10*time.Second)
	cpu := g.cpu(t)
	time.Sleep(window) // what is measured is what it does in this time
	share := float64(g.cpu(t)-cpu) / float64(window)
	if err := held.retr(1); err != nil {
		t.Errorf("the session that was there before: %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
	start := time.Now()
	for {
		if err = visit(ctx, g.addr, "bob", "pw"); err == nil || time.Since(start) > 30*time.Second {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	recovery := time.Since(start)
	if err != nil {
		t.Fatalf("no recovery: %v", err)
	}
	if err := held.command("QUIT"); err != nil {
		t.Errorf("the session that was there before: %v", err)
	}
	proof.Report(t, "M15", share < 0.10 && recovery <= 2*time.Second,
		"%d clients knock with %d descriptors left: %.1f %% of a core, a login %.1f s after they left, the established session lives", len(conns), spare, 100*share, recovery.Seconds())
}

// pemFiles writes the authority's server certificate as files.
func pemFiles(t *testing.T, ca *imaptest.CA) (cert, key string) {
	t.Helper()
	pair := ca.Issue(nil)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		key:  {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
