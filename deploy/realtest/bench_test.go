package realtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// A bench is what all tests share: the lab, and what some clients need around
// them.
type bench struct {
	*lab.Lab
	wd    string // of the package
	front string // "" for the gateway, "dovecot" for its own POP3 service

	mu   sync.Mutex
	x    string // DISPLAY
	jdk  *javaKit
	stop []func()
}

// newBench opens the prepared lab, or skips the test and says what of it.
func newBench(t *testing.T, what string) *bench {
	t.Helper()
	dir := os.Getenv(labEnv)
	if dir == "" {
		t.Skipf(leftOut, what)
	}
	l, err := lab.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Lab: l, wd: wd, front: os.Getenv("POPGATE_FRONT")}
	t.Cleanup(func() {
		for _, f := range b.stop {
			f()
		}
	})
	return b
}

func (b *bench) testdata(name string) string { return filepath.Join(b.wd, "testdata", name) }

// start starts one of the servers, to be stopped at the end of the test.
func (b *bench) start(t *testing.T, name string) *station {
	t.Helper()
	ctx := context.Background() // the servers outlive the test's context by their cleanup
	var s *lab.Server
	var err error
	unpacked := filepath.Join(b.Dir(), "unpacked", strings.TrimSuffix(name, "-jmap"))
	switch name {
	case "dovecot":
		s, err = b.Dovecot(ctx, name, lab.DovecotOptions{})
	case "cyrus", overJMAP:
		if s, err = b.Cyrus(ctx, name, unpacked); err == nil {
			s.Name = name
		}
	case "courier":
		var debs []string
		if debs, err = filepath.Glob(filepath.Join(b.Dir(), "debs", "courier-imap_*.deb")); err == nil && len(debs) != 1 {
			err = fmt.Errorf("%d packages courier-imap in %s/debs", len(debs), b.Dir())
		}
		if err == nil {
			s, err = b.Courier(ctx, name, unpacked, debs[0])
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	report.version(name, s.Version)
	return &station{Server: s, bench: b}
}

// display starts one Xvfb for all tests and returns its DISPLAY.
func (b *bench) display(t *testing.T) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.x != "" {
		return b.x
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1024x768x24", "-nolisten", "tcp")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + b.Dir()}
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	forget, err := b.Note("xvfb", cmd.Process.Pid)
	if err != nil {
		t.Error(err)
	}
	b.stop = append(b.stop, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		forget()
	})
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Second))
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb: %v", err)
	}
	b.x = ":" + strings.TrimSpace(number)
	return b.x
}

// A javaKit is the compiled client of testdata/Fetch.java.
type javaKit struct{ classPath, trustStore, password string }

// java compiles the client once and makes a trust store of the lab's authority.
func (b *bench) java(t *testing.T) *javaKit {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.jdk != nil {
		return b.jdk
	}
	const jars = "/usr/share/java/jakarta-mail.jar:/usr/share/java/jakarta-activation.jar"
	out, err := os.MkdirTemp(b.Dir(), "java") // its own: other benches run beside it
	if err == nil {
		err = os.Chmod(out, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	j := &javaKit{classPath: out + ":" + jars, trustStore: filepath.Join(out, "trust.p12"), password: "popgate"}
	for _, argv := range [][]string{
		{"java", "-cp", "/usr/share/java/ecj.jar", "org.eclipse.jdt.internal.compiler.batch.Main", "-11", "-cp", jars, "-d", out, b.testdata("Fetch.java")},
		{"keytool", "-importcert", "-noprompt", "-alias", "lab", "-file", b.CA(), "-keystore", j.trustStore, "-storepass", j.password},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), visitTimeout)
		text, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v\n%s", argv[0], err, text)
		}
	}
	b.jdk = j
	return j
}

// A station is one running server with its users, each of which serves one
// test only.
type station struct {
	*lab.Server
	bench *bench
	mu    sync.Mutex
	next  int
}

// account is a user whose INBOX is empty, and its number.
func (s *station) account(t *testing.T) (user, pass string, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next++; s.next > lab.Users {
		t.Fatal("the lab has no more users")
	}
	user, pass = lab.User(s.next)
	return user, pass, s.next
}

// upstream is the URL of the server for the gateway.
func (s *station) upstream() string {
	if s.Name == overJMAP {
		return "jmap+http://" + s.HTTP
	}
	return "imap://" + s.IMAP
}

// judge opens the server's own view of a user's mail.
func (s *station) judge(t *testing.T, user, pass string) *imapConn {
	t.Helper()
	return openIMAP(t, s.IMAP, user, pass)
}
