//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// handOverSignal lets a new process take over.
const handOverSignal = syscall.SIGUSR2

// takeOver tells a new process the descriptor on which it says that it serves.
const takeOver = "POPGATE_TAKE_OVER"

// handOverTime is how long a new process may take until it serves.
const handOverTime = time.Minute

// started is how this process was started: what a new one is started with.
type started struct {
	program     string // as it is on disk when it is started: a new version
	args        []string
	environment []string
}

// startedAs remembers that before anything changes it.
func startedAs() started {
	program, err := exec.LookPath(os.Args[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		program = os.Args[0] // to fail when it is used
	}
	return started{program, os.Args, os.Environ()}
}

// handOver starts a new process on the same sockets and returns when it serves.
// Until then and if it fails, this process serves on. From then on both do, until
// this one drains: no client is refused.
func (g *gateway) handOver(ctx context.Context, how started) (pid int, err error) {
	switch {
	case os.Getpid() == 1:
		return 0, errors.New("the first process of a container cannot hand over: the container ends with it")
	case g.cfg.Lock.Enabled && g.cfg.Lock.File == "":
		return 0, errors.New("lock.file is not set: two processes would not see each other's locks")
	}
	sockets, err := g.sockets.descriptors()
	defer func() {
		for _, fd := range sockets {
			syscall.Close(int(fd))
		}
	}()
	if err != nil {
		return 0, err
	}
	says, tells, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer says.Close()
	files := append([]uintptr{0, 1, 2}, sockets...)
	files = append(files, tells.Fd())
	pid, err = syscall.ForkExec(how.program, how.args, &syscall.ProcAttr{Files: files, Env: environmentFor(how.environment, len(sockets))})
	err = errors.Join(err, tells.Close())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", how.program, err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return 0, err
	}
	// The child is waited for until this process ends, so that it leaves no zombie
	// where it comes to nothing.
	ended := make(chan struct{})
	go func() { defer close(ended); process.Wait() }()
	says.SetReadDeadline(time.Now().Add(handOverTime))
	defer context.AfterFunc(ctx, func() { says.SetReadDeadline(time.Unix(1, 0)) })()
	word, err := io.ReadAll(io.LimitReader(says, int64(len(serving))))
	if string(word) == serving {
		return pid, nil
	}
	process.Kill()
	<-ended
	if err != nil {
		return 0, fmt.Errorf("the new process did not serve in time: %w", err)
	}
	return 0, errors.New("the new process ended before it served; its log says why")
}

// serving is what a new process says when it serves.
const serving = "serving\n"

// environmentFor is the environment of a new process that is handed n sockets,
// from descriptor 3 on, and behind them the one to speak on.
func environmentFor(environment []string, n int) []string {
	env := slices.DeleteFunc(slices.Clone(environment), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "LISTEN_") || name == takeOver || name == "WATCHDOG_PID"
	})
	return append(env, fmt.Sprintf("LISTEN_FDS=%d", n), fmt.Sprintf("%s=%d", takeOver, 3+n))
}

// takingOver prepares a process that takes over from another: the sockets are for
// it, though its number was not known to who wrote that down. The function it
// returns says that this process serves; it does nothing where there is nobody to
// take over from.
func takingOver() (serves func()) {
	fd, err := strconv.Atoi(os.Getenv(takeOver))
	if err != nil {
		return func() {}
	}
	os.Unsetenv(takeOver)
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	syscall.CloseOnExec(fd)
	tells := os.NewFile(uintptr(fd), "taking over")
	return func() {
		io.WriteString(tells, serving) // the old process may have given up, and kills this one
		tells.Close()
	}
}

// descriptors returns duplicates of the descriptors of the sockets in use. Package
// net would give files, which make a socket block that this process still accepts
// on.
func (s *sockets) descriptors() ([]uintptr, error) {
	var fds []uintptr
	for _, l := range s.inUse {
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			return fds, fmt.Errorf("%v cannot be handed over", l.Addr())
		}
		raw, err := tcp.SyscallConn()
		if err != nil {
			return fds, err
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			syscall.ForkLock.RLock()
			defer syscall.ForkLock.RUnlock()
			var n int
			if n, failed = syscall.Dup(int(fd)); failed == nil {
				syscall.CloseOnExec(n)
				fds = append(fds, uintptr(n))
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return fds, err
		}
	}
	return fds, nil
}
