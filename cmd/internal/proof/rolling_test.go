package proof_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// A rollingGateway is popgate as a service: one process after the other takes
// over. They share a log, which is a file.
type rollingGateway struct {
	t    *testing.T
	addr string
	log  string
	pid  int // of the process that serves
	read int // octets of the log that were looked at
}

func startRolling(t *testing.T, bin, upstream string, drain time.Duration) *rollingGateway {
	t.Helper()
	dir := t.TempDir()
	g := &rollingGateway{t: t, addr: freeAddr(t), log: filepath.Join(dir, "log")}
	config := filepath.Join(dir, "popgate.yaml")
	text := fmt.Sprintf("listen: [pop3://%s]\nupstream: {url: imap://%s}\nlock: {file: locks}\ndrain: %v\n", g.addr, upstream, drain)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(g.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := exec.Command(bin, "serve", "--config", config, "--log-format", "json")
	p.Stdout, p.Stderr = out, out
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the group is all of them
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	g.pid = p.Process.Pid
	ended := make(chan struct{})
	go func() { defer close(ended); p.Wait() }() // as soon as it has handed over and drained
	t.Cleanup(func() {
		syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("the end of the log:\n%s", g.tail())
		}
	})
	g.await("popgate serves")
	return g
}

func (g *rollingGateway) tail() []byte {
	text, _ := os.ReadFile(g.log)
	return text[max(0, len(text)-8000):]
}

// await waits for a line of the log that was not looked at before.
func (g *rollingGateway) await(what string) []byte {
	g.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(g.log)
		if err != nil {
			g.t.Fatal(err)
		}
		for line := range bytes.Lines(text[g.read:]) {
			if !bytes.HasSuffix(line, []byte("\n")) {
				break
			}
			g.read += len(line)
			if bytes.Contains(line, []byte(what)) {
				return line
			}
		}
	}
	g.t.Fatalf("the log does not say %q:\n%s", what, g.tail())
	return nil
}

// restart lets a new process take over.
func (g *rollingGateway) restart() {
	g.t.Helper()
	if err := syscall.Kill(g.pid, syscall.SIGUSR2); err != nil {
		g.t.Fatal(err)
	}
	var took struct{ PID int }
	if err := json.Unmarshal(g.await("a new process has taken over"), &took); err != nil {
		g.t.Fatal(err)
	}
	g.pid = took.PID
}

// rollingTotals is what became of all sessions.
type rollingTotals struct{ whole, temporary, closed, lost atomic.Int64 }

// session is one session of a client that takes its time; nil where no
// connection was to be had.
func (n *rollingTotals) session(h *harness, addr, user string, pause func()) *popClient {
	conn, err := (&net.Dialer{Timeout: 20 * time.Second}).Dial("tcp", addr)
	if err != nil {
		h.t.Errorf("refused: %v", err)
		return nil
	}
	defer conn.Close()
	c := newPopClient(h, conn)
	last := c.greeting
	for _, line := range []string{"USER " + user, "PASS pw", "UIDL", "LIST", "RETR 1", "DELE 1", "RETR 2", "DELE 2", "NOOP", "QUIT"} {
		if last.err != nil || !last.ok {
			break
		}
		pause()
		if last = c.do(line); line == "QUIT" && last.err != nil {
			n.lost.Add(1)
			h.t.Errorf("a QUIT has no reply: %v", last.err)
		}
	}
	switch {
	case last.ok:
		n.whole.Add(1)
	case strings.HasPrefix(last.line, "-ERR [SYS/TEMP]"):
		n.temporary.Add(1)
	case last.err != nil:
		n.closed.Add(1)
	default:
		h.t.Errorf("the reply %q", last.line)
	}
	return c
}

// TestRollingRestart lets new processes take over again and again under sessions
// that are slow enough to be met in every state.
func TestRollingRestart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the lock between processes needs Linux")
	}
	users, restarts, every := proof.Pick(10, 60, 200), proof.Pick(2, 5, 60), proof.Pick(300*time.Millisecond, 2*time.Second, 10*time.Second)
	options := []imaptest.Option{imaptest.TCP()}
	for i := range users {
		options = append(options, imaptest.User(fmt.Sprint("user", i), "pw"))
	}
	h := &harness{t: t, profile: imaptest.Full(), imap: imaptest.New(t, imaptest.Full(), options...)}
	g := startRolling(t, buildGateway(t), h.imap.Addr(), every/2)

	var totals rollingTotals
	var over atomic.Bool
	var clients sync.WaitGroup
	sessions := make([][]*popClient, users)
	for i := range users {
		clients.Go(func() {
			user, r := fmt.Sprint("user", i), rand.New(rand.NewPCG(16, uint64(i)))
			box := h.imap.Mailbox(user, "INBOX")
			pause := func() { time.Sleep(time.Duration(r.Int64N(int64(every / 8)))) }
			for n := 0; !over.Load(); n++ {
				for len(box.UIDs()) < 3 {
					box.Append(fmt.Sprintf("Subject: %d\r\n\r\n.\r\nmessage %d of %s\r\n", n, n, user))
				}
				if c := totals.session(h, g.addr, user, pause); c != nil {
					sessions[i] = append(sessions[i], c)
				}
			}
		})
	}
	for range restarts {
		time.Sleep(every)
		g.restart()
	}
	time.Sleep(every)
	over.Store(true)
	clients.Wait()
	violations := 0
	for i, of := range sessions {
		for _, v := range h.violations(fmt.Sprint("user", i), of...) {
			violations++
			t.Errorf("user%d: %s", i, v)
		}
	}
	proof.Report(t, "M16", totals.lost.Load() == 0, "%d new processes, one every %v, under %d sessions at a time: %d violations; 0 refused; each QUIT answered; %d sessions whole, %d ended by [SYS/TEMP], %d by a clean close",
		restarts, every, users, violations, totals.whole.Load(), totals.temporary.Load(), totals.closed.Load())
}
