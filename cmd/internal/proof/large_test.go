package proof_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// buildGateway compiles cmd/popgate and returns the program's path.
func buildGateway(t testing.TB, args ...string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "popgate")
	build := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-o", bin}, args...), "github.com/popgate/popgate/cmd/popgate")...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return bin
}

// gateway is a running popgate.
type gateway struct {
	cmd  *exec.Cmd
	addr string // where POP3 is spoken
	log  *syncBuffer
}

// startGateway runs bin in front of an IMAP server, a host and a port or a URL,
// until the test ends.
func startGateway(t testing.TB, bin, upstream string, args ...string) *gateway {
	t.Helper()
	addr := freeAddr(t)
	if !strings.Contains(upstream, "://") {
		upstream = "imap://" + upstream
	}
	return launchGateway(t, bin, addr, append([]string{"--listen", "pop3://" + addr, "--upstream", upstream}, args...)...)
}

// launchGateway starts a gateway that has a listener at addr.
func launchGateway(t testing.TB, bin, addr string, args ...string) *gateway {
	t.Helper()
	g := &gateway{addr: addr, log: &syncBuffer{}}
	g.cmd = exec.Command(bin, append([]string{"serve"}, args...)...)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.cmd.Process.Signal(syscall.SIGKILL)
		g.cmd.Wait()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", g.log.String())
		}
	})
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", g.addr); err == nil {
			c.Close()
			return g
		}
	}
	t.Fatalf("the gateway does not listen on %s:\n%s", g.addr, g.log.String())
	return nil
}

func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// memory reads a field of /proc/PID/status, in octets.
func (g *gateway) memory(t testing.TB, field string) int64 {
	t.Helper()
	return g.proc(t, "status", field)
}

// pss is the gateway's share of the system's memory, in octets.
func (g *gateway) pss(t testing.TB) int64 {
	t.Helper()
	return g.proc(t, "smaps_rollup", "Pss")
}

// proc reads a field of a file in /proc/PID, in octets.
func (g *gateway) proc(t testing.TB, file, field string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", g.cmd.Process.Pid, file))
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s in /proc/PID/%s", field, file)
	return 0
}

// largeBody is a message of CRLF lines that nobody has to hold in memory.
type largeBody int64

const largeLine = "a line of a message that is large, and none of it is held in memory.\r\n"

func (b largeBody) Size() int64 { return int64(b) / int64(len(largeLine)) * int64(len(largeLine)) }

func (b largeBody) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < b.Size() {
		k := copy(p[n:], largeLine[off%int64(len(largeLine)):])
		n, off = n+k, off+int64(k)
	}
	if off >= b.Size() {
		return n, io.EOF
	}
	return n, nil
}

// TestALargeMessageTakesConstantMemory reads one message through the gateway,
// which runs as a process of its own.
func TestALargeMessageTakesConstantMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	size := largeBody(proof.Pick[int64](50, 500, 2000) * 1_000_000)
	srv := imaptest.New(t, imaptest.Full(), imaptest.TCP())
	srv.INBOX().Append("Subject: small\r\n\r\nx\r\n")
	srv.INBOX().AppendBody(size, size.Size())
	g := startGateway(t, buildGateway(t), srv.Addr())

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	r := bufio.NewReaderSize(c, 64<<10)
	command := func(line string) {
		t.Helper()
		fmt.Fprintf(c, "%s\r\n", line)
		if reply, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(reply, "+OK") {
			t.Fatalf("%s: %q, %v", line, reply, err)
		}
	}
	r.ReadString('\n') // greeting
	command("USER " + imaptest.DefaultUser)
	command("PASS " + imaptest.DefaultPassword)
	command("RETR 1") // warm
	for line := ""; line != ".\r\n"; line, err = r.ReadString('\n') {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := g.memory(t, "VmRSS")
	start := time.Now()
	command("RETR 2")
	var got int64
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			t.Fatal(err)
		}
		if string(line) == ".\r\n" {
			break
		}
		if string(line) != largeLine {
			t.Fatalf("at octet %d: %q", got, line)
		}
		got += int64(len(line))
	}
	took := time.Since(start)
	command("QUIT")
	if got != size.Size() {
		t.Errorf("%d octets arrived, want %d", got, size.Size())
	}
	growth := g.memory(t, "VmHWM") - before
	proof.Report(t, "L1", growth < 10<<20, "a message of %d MB, %.1f MB of growth in the gateway's memory, %.0f MB/s with server and client on the same cores",
		got/1_000_000, float64(growth)/(1<<20), float64(got)/1e6/took.Seconds())
	if growth > 10<<20 {
		t.Errorf("the gateway grew by %d octets", growth)
	}
}

// syncBuffer is a buffer that a process writes to while a test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
