//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program starts popgate as a process of its own, and waits until it listens.
func program(t *testing.T, args ...string) (p *exec.Cmd, address string, log *bufio.Scanner) {
	t.Helper()
	p = exec.CommandContext(t.Context(), os.Args[0], append([]string{"serve"}, args...)...)
	p.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { p.Process.Kill() })
	t.Cleanup(func() { watchdog.Stop(); p.Process.Kill(); p.Wait() })
	log = bufio.NewScanner(stderr)
	line := await(t, log, "popgate serves")
	var started struct{ Listen string }
	if err := json.Unmarshal([]byte(line), &started); err != nil {
		t.Fatal(err)
	}
	return p, strings.TrimPrefix(started.Listen, "pop3://"), log
}

// await reads the log up to the line that says text.
func await(t *testing.T, log *bufio.Scanner, text string) string {
	t.Helper()
	return awaitEach(t, log, text)
}

// awaitEach reads the log until each of texts was there once, in whatever order:
// what two processes say has none. It returns the last line read.
func awaitEach(t *testing.T, log *bufio.Scanner, texts ...string) string {
	t.Helper()
	for log.Scan() {
		if i := slices.IndexFunc(texts, func(text string) bool { return strings.Contains(log.Text(), text) }); i >= 0 {
			if texts = slices.Delete(texts, i, i+1); len(texts) == 0 {
				return log.Text()
			}
		}
	}
	t.Fatalf("the log ends without %q", texts)
	return ""
}

func TestSignals(t *testing.T) {
	for _, first := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run("the_first_drains_"+first.String(), func(t *testing.T) {
			p, address, log := program(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 1))
			c := connect(t, address)
			c.login()
			if err := p.Process.Signal(first); err != nil {
				t.Fatal(err)
			}
			await(t, log, "draining")
			c.do("QUIT", "+OK")
			await(t, log, "popgate has ended")
			if err := p.Wait(); err != nil {
				t.Errorf("the process ended with %v, want exit code 0", err)
			}
		})
	}
	t.Run("the_second_ends_it_at_once", func(t *testing.T) {
		p, address, log := program(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 1), "--drain", "1h")
		c := connect(t, address)
		c.login()
		for _, wait := range []bool{true, false} {
			if err := p.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if wait {
				await(t, log, "draining")
			}
		}
		exit, ok := errors.AsType[*exec.ExitError](p.Wait())
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("the process ended with %v, want the end by SIGTERM", exit)
		}
	})
}
