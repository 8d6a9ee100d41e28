//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A lineage is popgate as a process, and those that take over from it. All of
// them write one log.
type lineage struct {
	first   *exec.Cmd
	address string
	log     *bufio.Scanner
}

// handOverConfig writes a configuration with which a process can hand over.
func handOverConfig(t *testing.T, listen, more string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("listen: [%s]\nupstream: {url: imap://%s}\nlock: {wait: 0s, file: locks}\ncache: {file: lists}\nledger: {file: ledger}\nroutes: [{name: all, window: {newest: 100}}]\n%s", listen, imapServer(t, 3), more)
	file := filepath.Join(dir, "popgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// freeAddress is one that nobody listens on, but for bad luck.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startService starts popgate. Its descendants end with the test.
func startService(t *testing.T, file string, change func(*exec.Cmd)) *lineage {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := exec.CommandContext(t.Context(), os.Args[0], "serve", "--config", file)
	p.Env = append(os.Environ(), asProgram+"=1")
	p.Stdout, p.Stderr = write, write
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if change != nil {
		change(p)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	watchdog := time.AfterFunc(patience, func() { syscall.Kill(-p.Process.Pid, syscall.SIGKILL) })
	t.Cleanup(func() {
		watchdog.Stop()
		syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
		p.Wait()
		io.Copy(io.Discard, read) // until the last of them has ended
		read.Close()
	})
	s := &lineage{first: p, log: bufio.NewScanner(read)}
	s.address = s.serves(t)
	return s
}

// serves waits until a process serves, and returns the address.
func (s *lineage) serves(t *testing.T) string {
	t.Helper()
	var started struct{ Listen string }
	if err := json.Unmarshal([]byte(await(t, s.log, "popgate serves")), &started); err != nil {
		t.Fatal(err)
	}
	_, address, _ := strings.Cut(strings.Fields(started.Listen)[0], "://")
	return address
}

// handOver lets a new process take over, and returns its number.
func (s *lineage) handOver(t *testing.T, pid int) int {
	t.Helper()
	if err := syscall.Kill(pid, handOverSignal); err != nil {
		t.Fatal(err)
	}
	var took struct{ PID int }
	if err := json.Unmarshal([]byte(await(t, s.log, "a new process has taken over")), &took); err != nil {
		t.Fatal(err)
	}
	await(t, s.log, "draining")
	return took.PID
}

// A new process serves new clients; the session that the old one has goes on and
// keeps its maildrop, and its deletions are done.
func TestANewProcessTakesOver(t *testing.T) {
	s := startService(t, handOverConfig(t, "pop3://"+freeAddress(t), "metrics: "+freeAddress(t)+"\n"), nil)
	old := connect(t, s.address)
	old.login()
	old.do("DELE 1", "+OK")
	half := connect(t, s.address) // not logged in yet
	half.do("USER alice", "+OK")

	young := s.handOver(t, s.first.Process.Pid)
	held := connect(t, s.address)
	held.do("USER alice", "+OK")
	held.do("PASS "+canary, "-ERR [IN-USE]")
	half.do("PASS "+canary, "-ERR [IN-USE]")
	old.do("DELE 2", "+OK")
	old.do("QUIT", "+OK")
	half.do("QUIT", "+OK")
	// The new process has its files a moment before or after the old one's last line.
	awaitEach(t, s.log, "popgate has ended", "cache file is free and in use", "ledger is free and in use")
	if err := s.first.Wait(); err != nil {
		t.Errorf("the old process ended with %v", err)
	}
	held.do("USER alice", "+OK")
	held.do("PASS "+canary, "+OK")
	held.do("STAT", "+OK 1 ")

	if again := s.handOver(t, young); again == young {
		t.Errorf("process %d took over from itself", again)
	}
	held.do("QUIT", "+OK")
	awaitEach(t, s.log, "cache file is free and in use", "ledger is free and in use")
	last := connect(t, s.address)
	last.login()
	last.do("STAT", "+OK 1 ")
}

// A new process that comes to nothing changes nothing.
func TestAFailedTakeOverLeavesTheOldProcess(t *testing.T) {
	file := handOverConfig(t, "pop3://"+freeAddress(t), "")
	s := startService(t, file, nil)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"a_mistake_in_the_configuration": "listen: what\n", "another_address": strings.Replace(string(text), "127.0.0.1", "127.0.0.2", 1)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.first.Process.Signal(handOverSignal); err != nil {
			t.Fatal(err)
		}
		if line := await(t, s.log, "no new process has taken over"); !strings.Contains(line, "its log says why") {
			t.Errorf("%s: the log says %s", name, line)
		}
		c := connect(t, s.address)
		c.login()
		c.do("QUIT", "+OK")
	}
}

func TestWithoutALockFileNothingIsHandedOver(t *testing.T) {
	p, address, log := program(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 1))
	if err := p.Process.Signal(handOverSignal); err != nil {
		t.Fatal(err)
	}
	if line := await(t, log, "no new process has taken over"); !strings.Contains(line, "lock.file is not set") {
		t.Errorf("the log says %s", line)
	}
	connect(t, address).do("QUIT", "+OK")
}

// A small parent holds the sockets, as systemd does, and starts one process after
// the other on them.
func TestSocketsAreHandedToTheProcess(t *testing.T) {
	listen := func() (*net.TCPListener, *os.File) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close(); f.Close() })
		return l.(*net.TCPListener), f
	}
	pop3, pop3File := listen()
	monitor, monitorFile := listen()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	told := func() string {
		b := make([]byte, 4096)
		notify.SetReadDeadline(time.Now().Add(patience))
		n, err := notify.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	file := handOverConfig(t, "pop3://"+pop3.Addr().String(), "metrics: "+monitor.Addr().String()+"\n")
	handed := func(p *exec.Cmd) {
		// The number of the process is known once it is there: a shell becomes it.
		p.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}, p.Args...)
		p.Path = "/bin/sh"
		p.ExtraFiles = []*os.File{monitorFile, pop3File}
		p.Env = append(p.Env, "LISTEN_FDS=2", "NOTIFY_SOCKET="+notify.LocalAddr().String(), "WATCHDOG_USEC=60000000")
	}
	before, err := net.Dial("tcp", pop3.Addr().String()) // nobody is there to accept it yet
	if err != nil {
		t.Fatal(err)
	}
	a := startService(t, file, handed)
	if said := told(); !strings.HasPrefix(said, "READY=1\n") {
		t.Errorf("systemd is told %q", said)
	}
	if said := told(); said != "WATCHDOG=1" {
		t.Errorf("systemd is told %q", said)
	}
	c := greeted(t, before)
	c.login()
	b := startService(t, file, handed) // beside the other
	if said := told(); !strings.HasPrefix(said, "READY=1\n") {
		t.Errorf("systemd is told %q", said)
	}
	told() // that the watchdog is heard by b too
	if err := a.first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if said := told(); !strings.HasPrefix(said, "STOPPING=1\n") {
		t.Errorf("systemd is told %q", said)
	}
	await(t, a.log, "draining")
	d := connect(t, b.address)
	d.do("USER alice", "+OK")
	d.do("PASS "+canary, "-ERR [IN-USE]")
	c.do("QUIT", "+OK")
	await(t, a.log, "popgate has ended")
	await(t, b.log, "the ledger is free and in use")
	d.login()
	d.do("QUIT", "+OK")
}

func TestASocketThatNobodyAskedForIsAMistake(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0],
		"serve", "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://127.0.0.1:1")
	p.Env = append(os.Environ(), asProgram+"=1", "LISTEN_FDS=1")
	p.ExtraFiles = []*os.File{f}
	out, err := p.CombinedOutput()
	if err == nil || p.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(out), l.Addr().String()) || !strings.Contains(string(out), "change the socket unit") {
		t.Errorf("it ends with %v and says %s", err, out)
	}
}
