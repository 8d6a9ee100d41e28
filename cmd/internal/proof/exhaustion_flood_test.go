package proof_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// TestFloodsLeaveSessionsAlone floods a gateway with handshakes, whole ones and
// halves, and with connections that come and go, while sessions that were there
// before go on, and a limit on connections that the flood fills.
func TestFloodsLeaveSessionsAlone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	const sessions = 10
	halves := proof.Pick(100, 1000, 5000)
	lasts := proof.Pick(time.Second, 5*time.Second, 30*time.Second)
	handshakeTime := proof.Pick(3*time.Second, 5*time.Second, 15*time.Second)
	srv := crowd(t, sessions, largeBody(10_000))
	ca := imaptest.NewCA(t)
	cert, key := pemFiles(t, ca)
	secure := freeAddr(t)
	config := configFile(t, fmt.Sprintf("limits: {handshake-time: %v, connections: 20000}\n", handshakeTime))
	g := startGateway(t, buildGateway(t), srv.Addr(), "--config", config, "--log-level", "error", "--listen", "pop3s://"+secure, "--tls-cert", cert, "--tls-key", key)
	before := g.memory(t, "VmRSS")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()

	var held []*wireClient
	for i := range sessions {
		p, err := dialWire(ctx, g.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.login(crowdUser(i), "pw"); err != nil {
			t.Fatal(err)
		}
		held = append(held, p)
	}

	// Half handshakes: the beginning of a record, and then nothing.
	var halfway, floods sync.WaitGroup
	var late, open atomic.Int64
	slots := make(chan struct{}, 200) // connects at a time
	for range halves {
		slots <- struct{}{}
		halfway.Go(func() {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", secure)
			<-slots
			if err != nil {
				return
			}
			defer c.Close()
			open.Add(1)
			start := time.Now()
			c.SetDeadline(start.Add(handshakeTime + time.Minute))
			c.Write([]byte("\x16\x03\x01\x02\x00\x01"))
			c.Read(make([]byte, 1))
			over := int64(time.Since(start) - handshakeTime)
			for old := late.Load(); over > old && !late.CompareAndSwap(old, over); old = late.Load() {
			}
		})
	}
	halfway.Wait() // all were given up; the flood of whole ones has the slots for itself

	var handshakes, visits atomic.Int64
	flood, endFlood := context.WithTimeout(ctx, lasts)
	defer endFlood()
	for range 16 {
		floods.Go(func() {
			client := ca.ClientConfig()
			for flood.Err() == nil {
				if p, err := dialWire(flood, secure, client); err == nil {
					handshakes.Add(1)
					p.Close()
				}
			}
		})
		floods.Go(func() {
			for flood.Err() == nil {
				if c, err := (&net.Dialer{}).DialContext(flood, "tcp", g.addr); err == nil {
					visits.Add(1)
					c.Close()
				}
			}
		})
	}
	var times []time.Duration
	for flood.Err() == nil {
		for i, p := range held {
			start := time.Now()
			if err := p.command("NOOP"); err != nil {
				t.Fatalf("session %d: %v", i, err)
			}
			times = append(times, time.Since(start))
		}
		select {
		case <-flood.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	floods.Wait()
	for i, p := range held {
		if err := p.retr(1); err != nil {
			t.Errorf("session %d: %v", i, err)
		}
		if err := p.command("QUIT"); err != nil {
			t.Errorf("session %d: %v", i, err)
		}
	}
	slices.Sort(times)
	p99, over := times[len(times)*99/100], time.Duration(late.Load())
	growth := float64(g.memory(t, "VmHWM")-before) / (1 << 20)
	if over > time.Minute || p99 > 30*time.Second || growth > 1024 {
		t.Errorf("half handshakes live %v too long, a NOOP takes %v, %.0f MiB", over, p99, growth)
	}
	proof.Report(t, "T40", over < 2*time.Second && p99 < 250*time.Millisecond,
		"%d half handshakes: given up %.1f s after their %v at most; then %.0f whole handshakes and %.0f connections a second for %v with their clients on the same cores: NOOP of %d sessions %v at the 99th percentile, 0 lost, %.0f MiB of growth",
		open.Load(), max(over, 0).Seconds(), handshakeTime, float64(handshakes.Load())/lasts.Seconds(), float64(visits.Load())/lasts.Seconds(), lasts, sessions, p99.Round(time.Millisecond), growth)
}

// TestALargeMaildropTakesLittleMemory lists a maildrop of a million messages in a
// gateway that is a process of its own.
func TestALargeMaildropTakesLittleMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	n := proof.Pick(20_000, 200_000, 1_000_000)
	srv := newHostileServer(map[string]hostileSay{"SIZES": hostileSeq(hostileCount(n), hostileRaw("{tag} OK x\r\n"))})
	for _, verb := range []string{"EXAMINE", "SELECT"} {
		srv.polite[verb] = strings.NewReplacer("* 3 EXISTS", fmt.Sprintf("* %d EXISTS", n), "UIDNEXT 4", fmt.Sprintf("UIDNEXT %d", n+1)).Replace(srv.polite[verb])
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			srv.conns.Go(func() { defer c.Close(); srv.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); accepting.Wait() })
	g := startGateway(t, buildGateway(t), ln.Addr().String(), "--log-level", "error")
	before := g.memory(t, "VmRSS")
	p, err := dialWire(t.Context(), g.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	start := time.Now()
	if err := p.login("alice", "secret"); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	afterLogin := g.memory(t, "VmRSS") - before
	for _, command := range []string{"LIST", "UIDL"} {
		if err := p.command(command); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for {
			line, err := p.r.ReadSlice('\n')
			if err != nil {
				t.Fatal(err)
			}
			if string(line) == ".\r\n" {
				break
			}
			lines++
		}
		if lines != n {
			t.Errorf("%s: %d lines, want %d", command, lines, n)
		}
	}
	peak := g.memory(t, "VmHWM") - before
	if err := p.command("QUIT"); err != nil {
		t.Error(err)
	}
	srv.conns.Wait()
	if peak > 512<<20 {
		t.Errorf("%d MiB", peak>>20)
	}
	proof.Report(t, "M13", peak <= 48<<20, "a maildrop of %d messages: login %v, %.1f MiB of growth after it, %.1f MiB at most with LIST and UIDL",
		n, took.Round(time.Millisecond), float64(afterLogin)/(1<<20), float64(peak)/(1<<20))
}
