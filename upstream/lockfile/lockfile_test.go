//go:build linux

package lockfile_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream/lockfile"
)

// holds makes the test binary a process that takes locks: the file, then names.
const holds = "LOCKFILE_TEST_HOLDS"

func TestMain(m *testing.M) {
	if args := os.Getenv(holds); args != "" {
		hold(strings.Split(args, " "))
		return
	}
	goleak.VerifyTestMain(m)
}

// hold takes the locks, says so, and keeps them until its input ends.
func hold(args []string) {
	l, err := lockfile.Open(args[0])
	for _, name := range args[1:] {
		if err == nil {
			var ok bool
			ok, err = l.TryLock(name)
			fmt.Println(name, ok)
		}
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held")
	os.Stdin.Read(make([]byte, 1))
}

func open(t *testing.T, name string) *lockfile.File {
	t.Helper()
	l, err := lockfile.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func try(t *testing.T, l *lockfile.File, name string, want bool) {
	t.Helper()
	got, err := l.TryLock(name)
	if err != nil || got != want {
		t.Errorf("TryLock(%q) = %v, %v; want %v", name, got, err, want)
	}
}

func TestALockIsHeldByOneFileAtATime(t *testing.T) {
	name := filepath.Join(t.TempDir(), "locks")
	a, b := open(t, name), open(t, name)
	try(t, a, "alice", true)
	try(t, b, "alice", false)
	try(t, b, "bob", true)
	try(t, a, "bob", false)
	if err := b.Unlock("alice"); err != nil { // which is not its own
		t.Error(err)
	}
	try(t, b, "alice", false)
	if err := a.Unlock("alice"); err != nil {
		t.Error(err)
	}
	try(t, b, "alice", true)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	try(t, a, "alice", true)
	try(t, a, "bob", true)
	if info, err := os.Stat(name); err != nil || info.Size() != 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v; want an empty one for this user alone", info, err)
	}
}

func TestALockEndsWithItsProcess(t *testing.T) {
	name := filepath.Join(t.TempDir(), "locks")
	p := exec.CommandContext(t.Context(), os.Args[0])
	p.Env = append(os.Environ(), holds+"="+name+" alice bob")
	stdin, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	const want = "alice true\nbob true\nheld\n"
	said := make([]byte, len(want))
	for n := 0; n < len(said); {
		m, err := stdout.Read(said[n:])
		if err != nil {
			t.Fatalf("it says %q: %v", said[:n], err)
		}
		n += m
	}
	if string(said) != want {
		t.Fatalf("it says %q, want %q", said, want)
	}
	l := open(t, name)
	try(t, l, "alice", false)
	try(t, l, "carol", true)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.Wait()
	try(t, l, "alice", true)
	try(t, l, "bob", true)
}

func TestOnlyARegularFileWillDo(t *testing.T) {
	for _, name := range []string{t.TempDir(), os.DevNull, filepath.Join(t.TempDir(), "no", "such", "directory")} {
		if l, err := lockfile.Open(name); err == nil {
			l.Close()
			t.Errorf("%s is taken", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}

func BenchmarkTryLock(b *testing.B) {
	for _, held := range []int{0, 1000, 10_000} {
		b.Run(fmt.Sprint(held), func(b *testing.B) {
			l, err := lockfile.Open(filepath.Join(b.TempDir(), "locks"))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			for i := range held {
				if ok, err := l.TryLock(fmt.Sprint("user", i)); !ok {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if ok, err := l.TryLock("one more"); !ok {
					b.Fatal(err)
				}
				if err := l.Unlock("one more"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
