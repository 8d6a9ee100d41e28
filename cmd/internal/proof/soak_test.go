package proof_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// A soakRelay is the address of the mail service, whichever server it is that
// answers there at the moment.
type soakRelay struct {
	ln     net.Listener
	target atomic.Pointer[string]
	wg     sync.WaitGroup
}

func newSoakRelay(t *testing.T) *soakRelay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &soakRelay{ln: ln}
	r.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.carry(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); r.wg.Wait() })
	return r
}

func (r *soakRelay) carry(c net.Conn) {
	defer c.Close()
	to := r.target.Load()
	if to == nil {
		return
	}
	s, err := net.Dial("tcp", *to)
	if err != nil {
		return
	}
	defer s.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(s, c)
		s.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, s)
	c.Close()
	<-done
}

// soakServer is a mail service that fails in every twentieth command.
func soakServer(t *testing.T, r *rand.Rand, users, commands int) *imaptest.Server {
	t.Helper()
	options := []imaptest.Option{imaptest.TCP()}
	for i := range users {
		options = append(options, imaptest.User(fmt.Sprint("user", i), "pw"))
	}
	profiles := imaptest.Profiles()
	srv := imaptest.New(t, profiles[r.IntN(len(profiles))], options...)
	for i := range users {
		for n := range 5 {
			srv.Mailbox(fmt.Sprint("user", i), "INBOX").Append("Subject: " + fmt.Sprint(n) + "\r\n\r\n" + strings.Repeat("text of a message.\r\n", 1+r.IntN(2000)))
		}
	}
	for nth := 1 + r.IntN(40); nth < commands; nth += 1 + r.IntN(39) {
		faults := []imaptest.Action{imaptest.End(imaptest.FIN), imaptest.End(imaptest.RST), imaptest.NO("no"), imaptest.NO("[UNAVAILABLE] later"), imaptest.BAD("bad"),
			imaptest.BYE("bye"), imaptest.CutLiteral(int64(r.IntN(20_000)), imaptest.RST), imaptest.CutLiteral(int64(r.IntN(2000)), imaptest.FIN), imaptest.Raw("* 1 FETCH (((((\r\n{tag} OK\r\n")}
		fault := faults[r.IntN(len(faults))]
		if proof.Pick(false, false, true) && r.IntN(100) == 0 {
			fault = imaptest.End(imaptest.Stall) // a minute until it is given up
		}
		if r.IntN(2) == 0 {
			srv.Before("", nth, fault)
		} else {
			srv.After("", nth, fault)
		}
	}
	return srv
}

// soakTotals is what came of all sessions.
type soakTotals struct{ whole, broken, abandoned atomic.Int64 }

// soakSession is one session of a client that leaves without a word in every
// twentieth.
func (n *soakTotals) session(ctx context.Context, addr, user string, r *rand.Rand) {
	dialer := net.Dialer{Timeout: 20 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		n.broken.Add(1)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Minute))
	in := bufio.NewReader(c)
	lines := []string{"", "USER " + user, "PASS pw", "STAT", "UIDL", "LIST", "RETR 1", "RETR 2", "TOP 3 10", "DELE 1", "NOOP", "QUIT"}
	leave := len(lines)
	if r.IntN(20) == 0 {
		leave = r.IntN(len(lines))
	}
	for i, line := range lines {
		if i == leave {
			fmt.Fprintf(c, "%s\r\n", line) // and no look at the reply
			n.abandoned.Add(1)
			return
		}
		if err := soakAsk(c, in, line); err != nil {
			n.broken.Add(1)
			return
		}
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
	}
	n.whole.Add(1)
}

var errSoakRefused = errors.New("refused")

func soakAsk(c net.Conn, in *bufio.Reader, line string) error {
	if line != "" {
		if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
			return err
		}
	}
	status, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "+OK") {
		if strings.HasPrefix(line, "PASS") {
			return errSoakRefused
		}
		return nil
	}
	verb, _, args := strings.Cut(line, " ")
	if verb == "RETR" || verb == "TOP" || !args && (verb == "UIDL" || verb == "LIST") {
		for status != ".\r\n" {
			if status, err = in.ReadString('\n'); err != nil {
				return err
			}
		}
	}
	return nil
}

// soakEpoch is a time with one server, and users who come back again and again.
func soakEpoch(t *testing.T, g *gateway, relay *soakRelay, totals *soakTotals, seed uint64, users int, length time.Duration) {
	srv := soakServer(t, rand.New(rand.NewPCG(seed, 21)), users, proof.Pick(2000, 30_000, 120_000))
	addr := srv.Addr()
	relay.target.Store(&addr)
	end := time.Now().Add(length)
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for time.Now().Before(end) {
				totals.session(t.Context(), g.addr, fmt.Sprint("user", i), r)
			}
		})
	}
	wg.Wait()
}

// soakState is what a gateway holds.
type soakState struct{ goroutines, files int }

func (g *gateway) soakState(t *testing.T, monitor string) (s soakState, sessions int) {
	t.Helper()
	series := scrape(t, monitor)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return soakState{int(series["go_goroutines"]), len(files)}, int(series["popgate_sessions"] + series[`popgate_upstream_connections{upstream="upstream"}`])
}

// soakDrained waits until no session is left, and then until the gateway holds
// what want says; without want, until it holds the same three times in a row.
func soakDrained(t *testing.T, g *gateway, monitor string, want *soakState) soakState {
	t.Helper()
	var last soakState
	same := 0
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		now, sessions := g.soakState(t, monitor)
		if same++; now != last || sessions > 0 {
			same = 0
		}
		last = now
		if sessions == 0 && (want == nil && same >= 3 || want != nil && now == *want) {
			break
		}
	}
	return last
}

// soakSlope is the rise of the samples by hour, least squares.
func soakSlope(at []time.Duration, octets []int64) float64 {
	var n, sx, sy, sxx, sxy float64
	for i := range at {
		x, y := at[i].Hours(), float64(octets[i])
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; n > 2 && d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}

// TestSoak keeps sessions coming, with a mail service and clients that fail, and
// looks whether anything is left of them.
func TestSoak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	users, length := proof.Pick(20, 200, 200), proof.Pick(1500*time.Millisecond, 20*time.Second, 2*time.Hour)
	monitor := freeAddr(t)
	relay := newSoakRelay(t)
	g := startGateway(t, buildGateway(t), relay.ln.Addr().String(), "--log-level", "error", "--metrics", monitor)
	var totals soakTotals
	t.Run("warm", func(t *testing.T) { soakEpoch(t, g, relay, &totals, 0, users, length/10+time.Second) })
	base := soakDrained(t, g, monitor, nil)

	var at []time.Duration
	var memory []int64
	start := time.Now()
	for seed := uint64(1); time.Since(start) < length; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			soakEpoch(t, g, relay, &totals, seed, users, min(length/4+time.Second, time.Minute))
		})
		if since := time.Since(start); since > length/6 {
			at, memory = append(at, since), append(memory, g.memory(t, "VmRSS"))
		}
	}
	took := time.Since(start).Round(time.Second)
	left := soakDrained(t, g, monitor, &base)
	if left != base {
		t.Errorf("after the drain there are %d goroutines and %d files, before there were %d and %d", left.goroutines, left.files, base.goroutines, base.files)
	}
	if panics := scrape(t, monitor)["popgate_panics_total"]; panics != 0 {
		t.Errorf("%v panics", panics)
	}
	slope, reached := "too short for a slope", true
	if length >= time.Hour {
		s := soakSlope(at, memory) / (1 << 20)
		slope, reached = fmt.Sprintf("slope %.2f MiB/h", s), s < 1
	}
	proof.Report(t, "M21", reached, "%v, %d users at a time, 5 %% faults: %d sessions whole, %d broken, %d left by the client; goroutines %d and files %d after the drain as before; RSS %.1f MiB, %s",
		took, users, totals.whole.Load(), totals.broken.Load(), totals.abandoned.Load(), left.goroutines, left.files,
		float64(g.memory(t, "VmRSS"))/(1<<20), slope)
}
