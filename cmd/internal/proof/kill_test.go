package proof_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// A killLab is one maildrop, the gateway in front of it as a process of its own,
// and a judge of what clients saw.
type killLab struct {
	t   testing.TB
	h   *harness // of which the bench and the judge are in use
	bin string
	ids []string // as the first session was shown them
}

// killMessages is how many messages the maildrop has.
const killMessages = 6

func newKillLab(t testing.TB, bin string, p imaptest.Profile) *killLab {
	t.Helper()
	l := &killLab{t: t, bin: bin}
	l.h = &harness{t: t, profile: p, imap: imaptest.New(t, p, imaptest.TCP())}
	for n := range killMessages {
		l.h.imap.INBOX().Append(fmt.Sprintf("Subject: %d\r\n\r\n.\r\nbody of %d\r\n", n, n))
	}
	l.ids = l.h.shown()
	return l
}

// client connects to a gateway; the connection ends with ctx.
func (l *killLab) client(ctx context.Context, addr string) (*popClient, func(), error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return newPopClient(l.h, c), func() { stop(); c.Close() }, nil
}

// session reads and deletes, and goes on until it is cut off.
func (l *killLab) session(addr string) *popClient {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	c, end, err := l.client(ctx, addr)
	if err != nil {
		return &popClient{h: l.h, lost: err} // killed before it served
	}
	defer end()
	for _, line := range []string{"USER " + imaptest.DefaultUser, "PASS " + imaptest.DefaultPassword, "UIDL", "LIST", "RETR 1", "DELE 2", "RSET",
		"TOP 3 1", "DELE 1", "DELE 3", "DELE 6", "RETR 5", "QUIT"} {
		if r := c.do(line); r.err != nil {
			break
		}
	}
	return c
}

// after starts the gateway anew, and checks what a client finds: the messages
// that the bench holds, under the unique-ids that they had. It returns how long
// the restart and the login took.
func (l *killLab) after(first *popClient, where string) (login time.Duration) {
	l.t.Helper()
	start := time.Now()
	g := startGateway(l.t, l.bin, l.h.imap.Addr())
	defer g.kill()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	c, end, err := l.client(ctx, g.addr)
	if err != nil {
		l.t.Fatalf("%s: %v", where, err)
	}
	defer end()
	if r := c.login(imaptest.DefaultUser, imaptest.DefaultPassword); !r.ok {
		l.t.Fatalf("%s: the login after the restart was answered %q, %v", where, r.line, r.err)
	}
	login = time.Since(start)
	list := c.do("UIDL")
	c.do("LIST")
	for n := range strings.Count(string(list.text), "\n") {
		c.do(fmt.Sprintf("RETR %d", n+1))
	}
	c.do("QUIT")
	var got []string
	for line := range strings.Lines(string(list.text)) {
		_, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		got = append(got, id)
		if !slices.Contains(l.ids, id) {
			l.t.Errorf("%s: the unique-id %s was not there before", where, id)
		}
	}
	if want := l.h.shown(); !slices.Equal(got, want) {
		l.t.Errorf("%s: the next session shows %q, want %q", where, got, want)
	}
	for _, v := range l.h.violations("", first, c) {
		l.t.Errorf("%s: %s", where, v)
	}
	return login
}

// kill ends the gateway at once, and for good.
func (g *gateway) kill() {
	g.cmd.Process.Kill()
	g.cmd.Wait()
}

// strike kills the gateway under a session: by another goroutine than the one
// that waits for its end. It returns when the process runs no more.
func (g *gateway) strike() {
	g.cmd.Process.Kill()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
}

// TestKillAtEveryStep kills the gateway before and after each upstream command
// of a session. The next session finds the maildrop as it is, without a loss.
func TestKillAtEveryStep(t *testing.T) {
	bin := buildGateway(t)
	profiles := []imaptest.Profile{imaptest.Full(), imaptest.WithoutUIDPLUS(), imaptest.Courier()}
	points := 0
	var slowest time.Duration
	for _, p := range profiles[:proof.Pick(1, 3, 3)] {
		for nth := 1; ; nth++ {
			reached := false
			for _, before := range []bool{true, false} {
				where := fmt.Sprintf("%s, killed before %v command %d", p.Name, before, nth)
				t.Run(where, func(t *testing.T) {
					l := newKillLab(t, bin, p)
					g := startGateway(t, bin, l.h.imap.Addr())
					var killed atomic.Bool
					kill := imaptest.Do(func(imaptest.Command) { killed.Store(true); g.strike() })
					if before {
						l.h.imap.Before("", nth, kill)
					} else {
						l.h.imap.After("", nth, kill)
					}
					c := l.session(g.addr)
					l.h.imap.Forget()
					g.kill()
					if killed.Load() {
						reached = true
						points++
					}
					slowest = max(slowest, l.after(c, where))
				})
			}
			if !reached || t.Failed() {
				break
			}
			if proof.Pick(true, false, false) {
				nth++ // every other one
			}
		}
	}
	proof.Report(t, "M4", slowest <= time.Second, "killed at %d places before and after upstream commands, %d kinds of server: 0 unmarked deletions, the same unique-ids, restart and login took %v at most",
		points, proof.Pick(1, 3, 3), slowest.Round(time.Millisecond))
}

// TestKillAtRandomSyscalls kills the gateway at its n-th call of the kernel.
func TestKillAtRandomSyscalls(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs strace")
	}
	strace, err := exec.LookPath("strace")
	if err != nil || exec.CommandContext(t.Context(), strace, "-f", "-o", os.DevNull, "true").Run() != nil {
		proof.Report(t, "M4", false, "random system calls left out: strace is not here, or may not trace")
		t.Skip("no strace")
	}
	bin := buildGateway(t)
	r := rand.New(rand.NewPCG(4, 4))
	kills, runs := 0, proof.Pick(2, 12, 1000)
	calls := []string{"read", "write", "futex", "epoll_pwait", "connect,socket,getsockname,setsockopt", "close", "all"}
	for run := 0; kills < runs && run < 6*runs; run++ {
		// A counter belongs to a thread: the rarer a call, the smaller its number.
		which := r.IntN(len(calls))
		nth := 1 + r.IntN([]int{8, 8, 12, 10, 3, 2, 60}[which])
		where := fmt.Sprintf("killed at call %d of %s", nth, calls[which])
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			l := newKillLab(t, bin, imaptest.Profiles()[run%len(imaptest.Profiles())])
			g := startGateway(t, bin, l.h.imap.Addr())
			// The tracer is let go with the gateway. It counts from here on.
			tracer := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-o", os.DevNull, "-p", fmt.Sprint(g.cmd.Process.Pid),
				"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", calls[which], nth))
			if err := tracer.Start(); err != nil {
				t.Fatal(err)
			}
			killAttached(t, g)
			c := l.session(g.addr)
			if c.lost != nil {
				kills++
			}
			g.kill()
			tracer.Wait()
			l.after(c, where)
		})
	}
	proof.Report(t, "M4", kills >= runs, "killed at %d random system calls: 0 unmarked deletions, the same unique-ids", kills)
}

// killAttached waits until a tracer holds the gateway, or has killed it already.
func killAttached(t *testing.T, g *gateway) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
		if err != nil || !strings.Contains(string(status), "TracerPid:\t0\n") {
			return
		}
	}
	t.Fatal("strace does not attach")
}
