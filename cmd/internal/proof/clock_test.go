package proof_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// clockPoll makes the gateway look every 10 ms at a file for the seconds by
// which the wall clock is wrong.
const clockPoll = `package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

func init() {
	go func() {
		for ; ; time.Sleep(10 * time.Millisecond) {
			b, err := os.ReadFile(os.Getenv("POPGATE_PROOF_CLOCK"))
			if err != nil {
				continue
			}
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
				time.WallShift.Store(n)
			}
		}
	}()
}
`

// clockBuild compiles the gateway over a time package whose wall clock can be
// set. The monotonic clock is the machine's, as it is when somebody sets a clock.
func clockBuild(t *testing.T) (bin string, set func(shift time.Duration)) {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(lib, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), now) != 1 {
		proof.Report(t, "M24", false, "left out: time.Now of this Go is written in another way")
		t.Skip("no place to shift the clock")
	}
	main, err := filepath.Abs("../../popgate")
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for name, text := range map[string]string{
		filepath.Join(lib, "time.go"):          strings.Replace(string(source), now, now+"\tsec += WallShift.Load()\n", 1),
		filepath.Join(lib, "zproof.go"):        "package time\n\nimport \"sync/atomic\"\n\nvar WallShift atomic.Int64\n",
		filepath.Join(main, "zproof_clock.go"): clockPoll,
	} {
		copied := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[name] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	shiftFile := filepath.Join(dir, "shift")
	set = func(shift time.Duration) {
		t.Helper()
		next := shiftFile + ".new"
		if err := os.WriteFile(next, fmt.Appendln(nil, int64(shift/time.Second)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, shiftFile); err != nil {
			t.Fatal(err)
		}
	}
	set(0)
	t.Setenv("POPGATE_PROOF_CLOCK", shiftFile)
	return buildGateway(t, "-overlay", file), set
}

// clockClient is a client of the gateway for one user.
type clockClient struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func clockDial(t *testing.T, addr string) *clockClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &clockClient{t, conn, bufio.NewReader(conn)}
	c.want("", "+OK")
	return c
}

// want sends a line, if there is one, and reads a reply that begins as told, to
// its end.
func (c *clockClient) want(line, begins string) {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if line != "" {
		fmt.Fprintf(c.conn, "%s\r\n", line)
	}
	status, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(status, begins) {
		c.t.Errorf("%q was answered with %q, %v, want %q", line, status, err, begins)
		return
	}
	if strings.HasPrefix(line, "RETR") && begins == "+OK" {
		c.rest()
	}
}

// rest reads a message to its end.
func (c *clockClient) rest() {
	c.t.Helper()
	for l := ""; l != ".\r\n"; {
		var err error
		if l, err = c.r.ReadString('\n'); err != nil {
			c.t.Errorf("a message broke off: %v", err)
			return
		}
	}
}

func (c *clockClient) login(user, begins string) {
	c.t.Helper()
	c.want("USER "+user, "+OK")
	c.want("PASS pw", begins)
}

// ended returns how long the server takes to end the connection.
func (c *clockClient) ended(most time.Duration) time.Duration {
	c.t.Helper()
	start := time.Now()
	c.conn.SetDeadline(start.Add(most))
	for {
		if _, err := c.r.ReadByte(); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				c.t.Errorf("the connection is still there after %v: a timer is stuck", most)
			}
			return time.Since(start)
		}
	}
}

// TestTheWallClockMayJump sets the gateway's wall clock by a day and by a year,
// forth and back, under sessions in every state: none is lost, and every timer
// rings when it should.
func TestTheWallClockMayJump(t *testing.T) {
	if proof.Pick(true, false, false) {
		t.Skip("builds Go's library anew, which takes a minute: at the levels quick and full")
	}
	bin, set := clockBuild(t)
	count := proof.Pick(0, 20, 200)
	const loginTime = 10 * time.Second // the least that there is
	config := filepath.Join(t.TempDir(), "popgate.yaml")
	if err := os.WriteFile(config, []byte("lock:\n  wait: 1s\nlimits:\n  login-time: 10s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	user := func(i int) string { return fmt.Sprint("user", i) }
	options := []imaptest.Option{imaptest.TCP()}
	for i := range count + 2 {
		options = append(options, imaptest.User(user(i), "pw"))
	}
	srv := imaptest.New(t, imaptest.Full(), options...)
	for i := range count + 2 {
		srv.Mailbox(user(i), "INBOX").Append("Subject: x\r\n\r\nx\r\n")
		srv.Mailbox(user(i), "INBOX").AppendBody(largeBody(20<<20), largeBody(20<<20).Size())
	}
	g := startGateway(t, bin, srv.Addr(), "--config", config, "--drain", "2s", "--log-format", "json")
	sessions := make([]*clockClient, count)
	for i := range sessions {
		sessions[i] = clockDial(t, g.addr)
		sessions[i].login(user(i), "+OK")
	}
	slow := clockDial(t, g.addr) // in the middle of a message all the time
	slow.login(user(count), "+OK")
	fmt.Fprint(slow.conn, "RETR 2\r\n")
	slow.want("", "+OK")

	day := 24 * time.Hour
	var guests sync.WaitGroup
	jumps := []time.Duration{day, 0, -day, 365 * day, -365 * day, 0}
	for _, to := range jumps {
		guest := clockDial(t, g.addr) // says nothing: its login timer runs
		guests.Go(func() {
			if took := guest.ended(10 * loginTime); took < loginTime/10 {
				t.Errorf("a connection was ended after %v, the login time is %v", took, loginTime)
			}
		})
		waiting := clockDial(t, g.addr)
		waiting.want("USER "+user(0), "+OK")
		fmt.Fprint(waiting.conn, "PASS pw\r\n") // waits for the lock of the first session
		set(to)
		time.Sleep(100 * time.Millisecond) // the gateway has seen it
		for _, s := range sessions {
			s.want("NOOP", "+OK")
			s.want("RETR 1", "+OK")
			s.want("DELE 1", "+OK")
			s.want("RSET", "+OK")
		}
		waiting.want("", "-ERR [IN-USE]")
		waiting.want("QUIT", "+OK")
		fresh := clockDial(t, g.addr)
		fresh.login(user(count+1), "+OK")
		fresh.want("QUIT", "+OK")
		if !clockSeen(g.log.String(), to) {
			t.Fatalf("no line of the log is of %v from now: the clock was not set", to)
		}
	}
	guests.Wait()
	slow.rest()
	for _, s := range sessions[:count/2] {
		s.want("DELE 1", "+OK")
		s.want("QUIT", "+OK")
	}
	idle := clockIdle(t, set, sessions[count-1])
	// The rest is drained, and the clock jumps while it is.
	g.cmd.Process.Signal(syscall.SIGTERM)
	set(-365 * day)
	sessions[count/2].ended(30 * time.Second)
	proof.Report(t, "M24", true, "%d jumps of a day and a year under %d idle sessions, one that reads, one that waits for the lock, one that does not log in: 0 sessions lost, 0 timers stuck (login, lock, drain%s)",
		len(jumps), count, idle)
}

// clockSeen reports whether a line of the log was written by a clock that was
// wrong by about shift.
func clockSeen(log string, shift time.Duration) bool {
	for line := range strings.Lines(log) {
		var entry struct{ Time time.Time }
		if json.Unmarshal([]byte(line), &entry) == nil && (time.Until(entry.Time)-shift).Abs() < time.Hour {
			return true
		}
	}
	return false
}

// clockIdle lets a session idle until it is logged out, with the clock jumping
// each minute: only at the full level.
func clockIdle(t *testing.T, set func(time.Duration), c *clockClient) string {
	if !proof.Pick(false, false, true) {
		return ""
	}
	c.want("NOOP", "+OK")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Minute)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				set(time.Duration(1-n%3) * 365 * 24 * time.Hour)
			}
		}
	}()
	took := c.ended(15 * time.Minute)
	close(stop)
	<-done
	if took < 9*time.Minute {
		t.Errorf("an idle session was ended after %v", took)
	}
	return fmt.Sprintf(", autologout after %v", took.Round(time.Second))
}
