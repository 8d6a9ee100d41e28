package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Users is how many mail users each server knows: user1@example.test with the
// password pass1 and so on. The last one has a password that is hard to quote.
const Users = 90

const (
	startTimeout = 20 * time.Second // from start to the first open port
	stopTimeout  = 15 * time.Second // from SIGTERM to SIGKILL
)

// A Lab is a folder in which servers run. Its methods are safe for concurrent
// use.
type Lab struct {
	dir string
	tls certificates
}

// New prepares dir, which must exist: it makes a certificate authority and a
// server certificate for localhost and 127.0.0.1 in it. Servers that run under
// users of their own must be able to enter dir, so it becomes world-readable.
func New(dir string) (*Lab, error) {
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	l := &Lab{dir: dir}
	var err error
	if l.tls, err = makeCertificates(filepath.Join(dir, "tls")); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return l, nil
}

// Dir is the folder of the lab.
func (l *Lab) Dir() string { return l.dir }

// CA is the file of the authority that signed every certificate of the lab.
func (l *Lab) CA() string { return l.tls.ca }

// OtherCA is the file of an authority that signed none of them.
func (l *Lab) OtherCA() string { return l.tls.otherCA }

// Certificate and Key are the files of the server certificate, with its chain.
func (l *Lab) Certificate() string { return l.tls.chain }

// Key is the file of the private key that belongs to Certificate.
func (l *Lab) Key() string { return l.tls.key }

// OldCertificate and OldKey are those of a server certificate of an RSA key, for
// clients that know no other.
func (l *Lab) OldCertificate() string { return l.tls.oldChain }

// OldKey is the file of the private key that belongs to OldCertificate.
func (l *Lab) OldKey() string { return l.tls.oldKey }

// A Server is one running mail server.
type Server struct {
	Name    string // dovecot, cyrus, courier
	Version string // of the Debian package
	IMAP    string // host:port, clear text and STARTTLS
	IMAPS   string // host:port, TLS from the first octet
	HTTP    string // host:port, JMAP in clear text, Cyrus only
	HTTPS   string // host:port, JMAP over TLS
	POP3    string // the server's own POP3 service, Dovecot and Cyrus
	POP3S   string
	LogFile string

	procs []*process
	undo  []func() error
}

// Stop ends the server and puts back what was changed outside the lab. It may
// be called more than once.
func (s *Server) Stop() error {
	var first error
	for i := len(s.procs) - 1; i >= 0; i-- {
		if err := s.procs[i].stop(); err != nil && first == nil {
			first = err
		}
	}
	s.procs = nil
	for i := len(s.undo) - 1; i >= 0; i-- {
		if err := s.undo[i](); err != nil && first == nil {
			first = err
		}
	}
	s.undo = nil
	return first
}

// Start runs any program as a server of the lab, which must not go to the
// background, and waits for the ports. It writes to LogFile.
func (l *Lab) Start(ctx context.Context, name string, ports []string, argv ...string) (*Server, error) {
	s := &Server{Name: name, LogFile: filepath.Join(l.dir, name+".log")}
	p, err := l.spawn(name, s.LogFile, nil, argv...)
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	return s, s.await(ctx, ports...)
}

// PID is the process that leads the server's process group.
func (s *Server) PID() int { return s.procs[0].cmd.Process.Pid }

// User returns the name and password of user n, from 1 to [Users].
func User(n int) (name, password string) {
	name, password = fmt.Sprintf("user%d@example.test", n), fmt.Sprintf("pass%d", n)
	if n == Users {
		password = `two words "quoted\" 100%{x}`
	}
	return name, password
}

// folder makes a folder of the lab that belongs to the given ids.
func (l *Lab) folder(uid, gid int, elem ...string) (string, error) {
	dir := filepath.Join(append([]string{l.dir}, elem...)...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chown(dir, uid, gid)
}

// fresh makes the folder of a server, empty, whatever an earlier run left.
func (l *Lab) fresh(uid, gid int, name string) (string, error) {
	if err := os.RemoveAll(filepath.Join(l.dir, name)); err != nil {
		return "", err
	}
	return l.folder(uid, gid, name)
}

// FreePort returns host:port of a port of 127.0.0.1 that nothing listens on.
// Another process may take it before the caller does; a server that then fails
// to start says so.
func FreePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

func freePorts(addrs ...*string) error {
	for _, a := range addrs {
		var err error
		if *a, err = FreePort(); err != nil {
			return err
		}
	}
	return nil
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// WaitOpen waits until addr accepts a connection.
func WaitOpen(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not open: %w", addr, err)
		case <-tick.C:
		}
	}
}

// process is a child that leads a process group of its own.
type process struct {
	cmd    *exec.Cmd
	forget func()
	done   chan struct{}
}

// Note writes the id of a child that leads a process group of its own to the
// folder pids of the lab, so that whoever started the tests can clean up behind
// tests that were killed. forget takes the note away when the child has ended.
func (l *Lab) Note(name string, pid int) (forget func(), err error) {
	pids, err := l.folder(os.Getuid(), os.Getgid(), "pids")
	if err != nil {
		return func() {}, err
	}
	file := filepath.Join(pids, name+"."+strconv.Itoa(pid))
	return func() { _ = os.Remove(file) }, os.WriteFile(file, []byte(strconv.Itoa(pid)+"\n"), 0o644)
}

// spawn starts a program with its output in logFile.
func (l *Lab) spawn(name, logFile string, env []string, argv ...string) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &process{cmd: cmd, forget: func() {}, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the log holds the cause
		close(p.done)
	}()
	if p.forget, err = l.Note(name, cmd.Process.Pid); err != nil {
		_ = p.stop()
		return nil, err
	}
	return p, nil
}

func (p *process) stop() error {
	defer p.forget()
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // its own group
	<-p.done
	return fmt.Errorf("process %d did not end on SIGTERM", p.cmd.Process.Pid)
}

// output runs a program to its end, with input, and returns what it
// printed.
func output(ctx context.Context, input string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", argv[0], err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// PackageVersion is the version of an installed Debian package.
func PackageVersion(ctx context.Context, name string) (string, error) {
	return output(ctx, "", "dpkg-query", "-W", "-f", "${Version}", name)
}
