package realtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// visitTimeout bounds one run of a client.
const visitTimeout = 60 * time.Second

// Modes in which a client reaches the front end.
const (
	plain = "plain" // no TLS
	stls  = "stls"  // RFC 2595 section 4
	tls   = "tls"   // from the first octet, RFC 8314 section 3.3
)

var allModes = []string{plain, stls, tls}

// A visit is what one run of a client needs to know.
type visit struct {
	bench      *bench
	dir        string // of this client, user and mode; kept over its visits
	host, port string
	mode       string
	ca         string
	user, pass string
	remove     bool // delete, besides fetching what is new
	had        map[string]bool
}

// newVisit makes the folder of a client that goes to addr.
func newVisit(t *testing.T, s *station, name, mode, addr, user, pass string) *visit {
	t.Helper()
	v := &visit{
		bench: s.bench, mode: mode, user: user, pass: pass, ca: s.bench.CA(),
		host: "localhost", port: portOf(addr), had: map[string]bool{},
		dir: filepath.Join(s.bench.Dir(), "clients", s.Name, name),
	}
	if err := errors.Join(os.RemoveAll(v.dir), os.MkdirAll(v.inbox(), 0o700)); err != nil {
		t.Fatal(err)
	}
	return v
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// inbox is the folder into which the client puts one file a message.
func (v *visit) inbox() string { return filepath.Join(v.dir, "inbox") }

// write puts a file into the client's folder.
func (v *visit) write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(v.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run executes the client to its end, with stdin, and returns what it printed.
// It fails the test if the exit status is none of those allowed.
func (v *visit) run(t *testing.T, stdin string, allowed []int, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), visitTimeout)
	defer cancel()
	cmd := v.command(ctx, argv...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	v.check(t, argv[0], out, err, allowed)
	return string(out)
}

// command prepares a client in a process group of its own, with nothing of the
// caller's environment.
func (v *visit) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = v.dir
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + v.dir, "TERM=xterm", "TMPDIR=" + v.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (v *visit) check(t *testing.T, name string, out []byte, err error, allowed []int) {
	t.Helper()
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		code = exit.ExitCode()
	case err != nil:
		t.Errorf("%s: %v\n%s", name, err, clip(out))
		return
	}
	if code == 0 {
		return
	}
	for _, a := range allowed {
		if a == code {
			return
		}
	}
	t.Errorf("%s: exit status %d\n%s", name, code, clip(out))
}

// clip shortens what is shown of a client's output.
func clip(out []byte) []byte {
	const most = 4000
	if len(out) > most {
		return append([]byte("..."), out[len(out)-most:]...)
	}
	return out
}

// arrived returns the messages that came into the folder since the last call.
func (v *visit) arrived(t *testing.T, folder string, skip ...string) [][]byte {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out [][]byte
next:
	for _, e := range entries {
		file := filepath.Join(folder, e.Name())
		if v.had[file] || !e.Type().IsRegular() {
			continue
		}
		for _, s := range skip {
			if strings.HasPrefix(e.Name(), s) {
				continue next
			}
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v.had[file] = true
		out = append(out, data)
	}
	return out
}

// sameMessages compares as sets: clients name their files as they like.
func sameMessages(t *testing.T, set []message, form func([]byte) []byte, got [][]byte) {
	t.Helper()
	left := append([][]byte(nil), got...)
next:
	for _, m := range set {
		want := form(m.octets)
		for i, g := range left {
			if bytes.Equal(g, want) {
				left = append(left[:i], left[i+1:]...)
				continue next
			}
		}
		t.Errorf("message %s (%d octets) did not arrive byte for byte%s", m.name, len(want), nearest(m, want, left))
	}
	if len(left) > 0 && !t.Failed() {
		t.Errorf("%d messages too many, first: %q", len(left), clip(left[0]))
	}
}

// nearest describes how the message that came in its place differs.
func nearest(m message, want []byte, left [][]byte) string {
	subject := []byte(" " + m.name)
	for _, g := range left {
		if !bytes.Contains(g, subject) {
			continue
		}
		i := 0
		for i < len(g) && i < len(want) && g[i] == want[i] {
			i++
		}
		return ": got " + describe(g, i) + ", want " + describe(want, i)
	}
	return ": nothing like it came"
}

func describe(b []byte, at int) string {
	from, to := max(0, at-20), min(len(b), at+60)
	return fmt.Sprintf("%d octets, at %d %q", len(b), at, b[from:to])
}
