package realtest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

const (
	gatewayStart = 20 * time.Second
	gatewayStop  = 45 * time.Second // the drain of 30 s and some more
)

// A front is a POP3 service: the gateway, or a server's own in its place.
type front struct {
	pop3, pop3s string // host:port; pop3 offers STLS
	metrics     string // host:port
	log         string // file, "" where it is not ours
	stop        func(t *testing.T)
}

// serve is the front end of the client tests.
func (s *station) serve(t *testing.T) *front {
	t.Helper()
	if s.bench.front == "dovecot" {
		if s.Name != "dovecot" || s.POP3 == "" {
			t.Skipf("%s is not Dovecot, or has no POP3 service of its own here", s.Name)
		}
		return &front{pop3: s.POP3, pop3s: s.POP3S, stop: func(*testing.T) {}}
	}
	return s.bench.gateway(t, s.Name, "--upstream", s.upstream())
}

// gateway starts popgate with these flags besides its listeners, waits until it
// says that it is ready, and stops it with SIGTERM at the end of the test. It
// must then exit with 0.
func (b *bench) gateway(t *testing.T, name string, flags ...string) *front {
	t.Helper()
	f := &front{pop3: freePort(t), pop3s: freePort(t)}
	b.serve(t, f, name, append([]string{"--listen", "pop3://" + f.pop3, "--listen", "pop3s://" + f.pop3s,
		"--tls-cert", b.Certificate(), "--tls-key", b.Key()}, flags...)...)
	return f
}

func freePort(t *testing.T) string {
	t.Helper()
	addr, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// serve starts popgate with these flags, as f.
func (b *bench) serve(t *testing.T, f *front, name string, flags ...string) {
	t.Helper()
	binary := filepath.Join(b.Dir(), "popgate")
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("no gateway: %v", err)
	}
	f.metrics = freePort(t)
	file, err := os.CreateTemp(b.Dir(), "gateway-"+name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f.log = file.Name()
	argv := append([]string{"serve", "--metrics", f.metrics}, flags...)
	cmd := exec.Command(binary, argv...)
	cmd.Dir = b.Dir()
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	forget, err := b.Note("popgate", cmd.Process.Pid)
	if err != nil {
		t.Error(err)
	}
	go func() {
		done <- cmd.Wait()
		forget()
	}()
	stopped := false
	f.stop = func(t *testing.T) {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("popgate after SIGTERM: %v\n%s", err, f.tail())
			}
		case <-time.After(gatewayStop):
			_ = cmd.Process.Kill()
			<-done
			t.Errorf("popgate does not end on SIGTERM\n%s", f.tail())
		}
	}
	t.Cleanup(func() { f.stop(t) })
	client := http.Client{Timeout: 2 * time.Second}
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(gatewayStart); time.Now().Before(deadline); {
		select {
		case err := <-done:
			stopped = true
			t.Fatalf("popgate %q: %v\n%s", argv, err, f.tail())
		case <-tick.C:
		}
		resp, err := client.Get(fmt.Sprintf("http://%s/-/ready", f.metrics))
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatalf("popgate is not ready in %v\n%s", gatewayStart, f.tail())
}

func (f *front) tail() []byte {
	if f.log == "" {
		return nil
	}
	text, _ := os.ReadFile(f.log)
	return clip(text)
}
