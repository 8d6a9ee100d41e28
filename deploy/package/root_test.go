package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// asRoot is a command that root runs.
func asRoot(name string, args ...string) *exec.Cmd {
	if os.Getuid() == 0 {
		return exec.Command(name, args...)
	}
	return exec.Command("sudo", append([]string{"-n", name}, args...)...)
}

// needs skips the test where a program is missing, or root.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	if err := asRoot("true").Run(); err != nil {
		t.Skip("neither root nor sudo without a password")
	}
}

// apart is a command whose mounts are its own. In a chroot "/" is no mount that could
// be made private: there only what is mounted anew is out of sight of the others.
func apart(script string, args ...string) *exec.Cmd {
	script = "mount --make-rprivate / 2>/dev/null || true\n" + script
	return asRoot("unshare", append([]string{"--mount", "--propagation", "unchanged", "sh", "-c", script, "sh"}, args...)...)
}

// mountsApart skips the test where a program cannot have mounts of its own.
func mountsApart(t *testing.T) {
	t.Helper()
	needs(t, "unshare", "mount")
	if out, err := apart(`mount -t tmpfs tmpfs "$1"`, t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("no mounts of its own for a program here: %v: %s", err, out)
	}
}

// inCopy runs a script of bash in a copy of this machine's file system that is thrown
// away with all that the script does to it: an overlay, in namespaces for mounts,
// processes and the network of its own, which end with it. The files are in /given there.
// It may take five minutes.
func inCopy(t *testing.T, script string, files ...string) string {
	t.Helper()
	needs(t, "bash", "chroot", "ip")
	mountsApart(t)
	folder := t.TempDir()
	given := filepath.Join(folder, "given")
	mustMkdir(t, given)
	for _, f := range files {
		copyFile(t, f, filepath.Join(given, filepath.Base(f)), 0o644)
	}
	if err := os.WriteFile(filepath.Join(given, "script"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	const enter = `set -e
copy=$1/copy root=$1/copy/root
mount -t tmpfs -o mode=755 tmpfs "$copy"
mkdir "$copy/upper" "$copy/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$copy/upper,workdir=$copy/work" "$root" || exit 99
`
	const run = `mkdir "$root/given"
cp "$1"/given/* "$root/given/"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
ip link set lo up
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive bash -eu /given/script </dev/null
`
	mustMkdir(t, filepath.Join(folder, "copy"))
	c := apart(`exec timeout --signal KILL 300 unshare --net --pid --fork --kill-child sh -c "$1$2" sh "$3"`, enter, run, folder)
	out, err := c.CombinedOutput()
	if c.ProcessState != nil && c.ProcessState.ExitCode() == 99 {
		t.Skipf("no overlay can be mounted here:\n%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func mustMkdir(t *testing.T, folder string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	mustMkdir(t, filepath.Dir(to))
	if err := os.WriteFile(to, content, mode); err != nil {
		t.Fatal(err)
	}
}
