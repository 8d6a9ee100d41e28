package tokenfile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// With these set, the test binary is a child that writes a record and kills
// itself at a step of it.
const (
	killFolder = "POPGATE_TEST_KILL_FOLDER"
	killStep   = "POPGATE_TEST_KILL_STEP"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(killFolder); path != "" {
		die(path, os.Getenv(killStep))
	}
	goleak.VerifyTestMain(m)
}

func die(path, at string) {
	f, err := tokenfile.Open(path, key)
	if err != nil {
		panic(err)
	}
	f.At(func(step string) {
		if step == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	l, err := f.Lock(context.Background(), alice)
	if err != nil {
		panic(err)
	}
	if err := errors.Join(l.Prepare(), l.Write(second)); err != nil {
		panic(err)
	}
	os.Exit(0)
}

var (
	key    = upstream.NewSecret("0123456789abcdef0123456789abcdef")
	alice  = tokenfile.Name{Grant: "office", Account: "alice@example.test"}
	when   = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	first  = tokenfile.Record{Refresh: upstream.NewSecret("first-canary"), Authorized: when, Succeeded: when.Add(time.Hour)}
	second = tokenfile.Record{Refresh: upstream.NewSecret("second-canary"), Previous: upstream.NewSecret("first-canary"),
		Authorized: when, Expires: when.AddDate(0, 3, 0), Succeeded: when.Add(2 * time.Hour), Failed: when.Add(3 * time.Hour), Failure: "no"}
)

func open(t *testing.T, path string, key upstream.Secret) *tokenfile.Folder {
	t.Helper()
	f, err := tokenfile.Open(path, key)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newFolder(t *testing.T) (*tokenfile.Folder, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	return open(t, path, key), path
}

func write(t *testing.T, f *tokenfile.Folder, n tokenfile.Name, r tokenfile.Record) {
	t.Helper()
	l, err := f.Lock(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Write(r), l.Unlock()); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, f *tokenfile.Folder, n tokenfile.Name, r tokenfile.Record) {
	t.Helper()
	if got, err := f.Read(n); err != nil || got != r {
		t.Errorf("Read = %v (refresh as wanted: %v), %v", got, got.Refresh == r.Refresh, err)
	}
}

func TestARecordComesBack(t *testing.T) {
	f, path := newFolder(t)
	if _, err := f.Read(alice); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	write(t, f, alice, first)
	want(t, f, alice, first)
	before, err := f.Stamp(alice)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, alice, second)
	want(t, open(t, path, key), alice, second)
	if after, err := f.Stamp(alice); err != nil || before.Equal(after) {
		t.Errorf("the stamp is the same, %v", err)
	}
	all, bad := f.List(alice.Grant)
	if len(all) != 1 || all[0] != (tokenfile.Entry{Account: alice.Account, Record: second}) || bad != nil {
		t.Errorf("List = %v, %v", all, bad)
	}
	if others, bad := f.List("other"); len(others) != 0 || bad != nil {
		t.Errorf("List of another grant = %v, %v", others, bad)
	}
	l, err := f.Lock(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Remove(), l.Unlock()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stamp(alice); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

// Files are for their owner alone, and nothing in them can be read without the key.
func TestNothingSecretIsOnTheDisk(t *testing.T) {
	f, path := newFolder(t)
	write(t, f, alice, second)
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
		data, err := os.ReadFile(filepath.Join(path, e.Name()))
		if err != nil || bytes.Contains(data, []byte("canary")) {
			t.Errorf("%s holds a token, %v", e.Name(), err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
}

func TestWhatOthersCanReadIsRefused(t *testing.T) {
	f, path := newFolder(t)
	write(t, f, alice, first)
	if err := os.Chmod(f.Path(alice), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(alice); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file with 0640: %v", err)
	}
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := tokenfile.Open(path, key); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder with 0750: %v", err)
	}
}

// What does not open stays as it is.
// Whoever gets the consent, the gateway reads the token.
func TestWhatRootWritesBelongsToTheOwnerOfTheFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const user, group = 12345, 23456
	above := t.TempDir()
	if err := os.Chown(above, user, group); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(above, "tokens")
	l, err := open(t, path, key).Lock(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Write(first), l.Unlock()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(path, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v, want a record and its lock", files, err)
	}
	for _, file := range append(files, path) {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != user || st.Gid != group {
			t.Errorf("%s belongs to %d:%d", file, st.Uid, st.Gid)
		}
	}
}

// Root writes where the gateway may have put a link.
func TestALinkIsNotFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	f := open(t, path, key)
	l, err := f.Lock(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	locks, err := filepath.Glob(filepath.Join(path, "*.lock"))
	if err != nil || len(locks) != 1 {
		t.Fatal(locks, err)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	err = errors.Join(os.WriteFile(victim, []byte("whole"), 0o600), os.Symlink(victim, strings.TrimSuffix(locks[0], ".lock")+".new"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Write(first); err == nil {
		t.Error("a link was followed")
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "whole" {
		t.Errorf("the file that was linked has %q, %v", text, err)
	}
}

func TestWhatDoesNotOpenIsAnErrorAndStays(t *testing.T) {
	f, path := newFolder(t)
	write(t, f, alice, first)
	whole, err := os.ReadFile(f.Path(alice))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, path, upstream.NewSecret(strings.Repeat("x", 32))).Read(alice); !errors.Is(err, tokenfile.ErrKey) {
		t.Errorf("another key: %v", err)
	}
	bob, err := f.Seal(tokenfile.Name{Grant: "office", Account: "bob"}, second)
	if err != nil {
		t.Fatal(err)
	}
	var other, renamed map[string]any
	if err := errors.Join(json.Unmarshal(bob, &other), json.Unmarshal(whole, &renamed)); err != nil {
		t.Fatal(err)
	}
	renamed["sealed"] = other["sealed"] // bob's tokens under alice's name
	moved, err := json.Marshal(renamed)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string][]byte{"empty": nil, "of_another": bob, "sealed_for_another": moved, "large": append(bytes.Clone(whole), bytes.Repeat([]byte(" "), 65<<10)...), "foreign": []byte(`{"a":1}`),
		"newer": bytes.Replace(whole, []byte(`"version":1`), []byte(`"version":2`), 1)}
	for i := 1; i < len(whole); i += 7 {
		cases["cut"+string(rune(i))] = whole[:i]
	}
	for name, data := range cases {
		if err := os.WriteFile(f.Path(alice), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := f.Read(alice); err == nil || r != (tokenfile.Record{}) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, %v", name, r, err)
		}
		all, bad := f.List(alice.Grant)
		if readable := name == "sealed_for_another"; readable != (len(all) == 1 && all[0].Err != nil) || readable == (len(bad) == 1) {
			t.Errorf("%s: List = %v, %v", name, all, bad)
		}
		if now, err := os.ReadFile(f.Path(alice)); err != nil || !bytes.Equal(now, data) {
			t.Errorf("%s: the file was changed, %v", name, err)
		}
	}
}

// No octet of what is sealed can change.
func TestASealHolds(t *testing.T) {
	f, _ := newFolder(t)
	write(t, f, alice, first)
	whole, err := os.ReadFile(f.Path(alice))
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		if err := os.WriteFile(f.Path(alice), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Read(alice); err == nil && got != first {
			t.Errorf("octet %d: %v", i, got)
		}
	}
}

func TestAShortKeyIsRefused(t *testing.T) {
	for _, k := range []string{"", strings.Repeat("x", 31), strings.Repeat(" ", 40) + "x"} {
		if _, err := tokenfile.Open(t.TempDir(), upstream.NewSecret(k)); err == nil {
			t.Errorf("a key of %d octets was taken", len(k))
		}
	}
	path := filepath.Join(t.TempDir(), "tokens")
	write(t, open(t, path, key), alice, first)
	want(t, open(t, path, upstream.NewSecret(key.Reveal()+"\n")), alice, first) // as an editor leaves it
}

func TestALockIsForOne(t *testing.T) {
	f, path := newFolder(t)
	l, err := f.Lock(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, path, key).Lock(ctx, alice); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second lock: %v", err)
	}
	bob, err := f.Lock(ctx, tokenfile.Name{Grant: "office", Account: "bob"})
	if err != nil {
		t.Fatalf("the lock of another account: %v", err)
	}
	if err := errors.Join(l.Unlock(), bob.Unlock()); err != nil {
		t.Fatal(err)
	}
	if l, err = f.Lock(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", strings.Repeat("x", 256)} {
		if _, err := f.Lock(ctx, tokenfile.Name{Account: name}); err == nil {
			t.Errorf("a name of %d octets was taken", len(name))
		}
	}
}

// A process that is killed while it writes leaves the old record or the new one,
// and nothing that the next one trips over.
func TestAKillAtEachStep(t *testing.T) {
	for _, tt := range []struct {
		step string
		want tokenfile.Record
	}{
		{"made", first}, {"prepared", first}, {"written", first}, {"synced", first}, {"renamed", second}, {"done", second}, {"none", second},
	} {
		t.Run(tt.step, func(t *testing.T) {
			f, path := newFolder(t)
			write(t, f, alice, first)
			child := exec.CommandContext(t.Context(), os.Args[0])
			child.Env = append(os.Environ(), killFolder+"="+path, killStep+"="+tt.step)
			out, err := child.CombinedOutput()
			if killed := err != nil && strings.Contains(err.Error(), "killed"); killed != (tt.step != "none") {
				t.Fatalf("the child: %v\n%s", err, out)
			}
			want(t, f, alice, tt.want)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			l, err := f.Lock(ctx, alice) // the lock died with the child
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.Write(second), l.Unlock()); err != nil {
				t.Fatal(err)
			}
			want(t, f, alice, second)
			left, err := filepath.Glob(filepath.Join(path, "*.new"))
			if err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// Room that was made and not used is given back.
func TestRoomIsGivenBack(t *testing.T) {
	f, path := newFolder(t)
	write(t, f, alice, first)
	l, err := f.Lock(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Prepare(), l.Prepare(), l.Unlock()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(path, "*.new")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	want(t, f, alice, first)
}
