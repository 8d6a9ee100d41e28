package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// begin is the start of every script: a systemctl that writes down what it is told,
// and does what systemd would do for a reload.
const begin = `
set -x
must() { "$@" || { echo "does not hold: $*"; cat /tmp/log /tmp/systemctl 2>/dev/null; exit 1; }; }
not() { ! "$@"; }
told() { grep -q -- "$1" /tmp/systemctl; }
mkdir -p /run/systemd/system
rm -f /usr/bin/systemctl
cat >/usr/bin/systemctl <<'end'
#!/bin/bash
echo "$*" >>/tmp/systemctl
[ ! -x /tmp/service ] || /tmp/service "$@"
case $* in
*is-active*) test -e /tmp/pid ;;
*reload\ popgate*) kill -USR2 "$(cat /tmp/pid)" ;;
esac
end
chmod +x /usr/bin/systemctl
config=/etc/popgate/popgate.yaml
is() { curl -fs http://127.0.0.1:9110/metrics | grep -q "popgate_build_info.*version=\"$1"; }
soon() { for i in {1..150}; do if "$@"; then return; fi; sleep 0.1; done; must "$@"; }

# The machine may allow fewer than the unit asks for.
files=$(ulimit -Hn)
if [ "$files" = unlimited ] || [ "$files" -gt 32768 ]; then files=32768; fi
export files

# start runs the gateway with what the unit gives it: its user, one capability, its
# limit on files, and a file system that is read-only but for its three folders.
start() {
	for folder in /var/lib/popgate /var/cache/popgate /run/popgate; do
		install -d -o popgate -g popgate -m 700 "$folder"
	done
	unshare --mount bash -ec '
		for folder in /var/lib/popgate /var/cache/popgate /run/popgate /tmp; do mount --bind "$folder" "$folder"; done
		mount -o remount,bind,ro /
		bind=net_bind_service
		exec prlimit --nofile=$files --core=0 setpriv --reuid popgate --regid popgate --init-groups \
			--inh-caps "-all,+$bind" --ambient-caps "-all,+$bind" --bounding-set "-all,+$bind" --no-new-privs \
			"$@" /usr/bin/popgate serve --config /etc/popgate/popgate.yaml' bash "$@" 2>>/tmp/log &
	echo $! >/tmp/pid
}
`

func TestDebianPackage(t *testing.T) {
	needs(t, "dpkg", "dpkg-deb", "curl", "strace", "prlimit", "setpriv")
	deb := built(t, "*_"+runtime.GOARCH+".deb")
	newer, changed := newerPackages(t, "deb")
	out := inCopy(t, begin+`
package() { dpkg --no-triggers --force-unsafe-io "$@" >>/tmp/log 2>&1; }

# The first time nothing is started: the configuration has to be written.
must package -i /given/`+filepath.Base(deb)+`
must grep -q 'Set upstream.url' /tmp/log
must getent passwd popgate
must not popgate check --config $config
must not told enable
must not told start
must not told 'reload popgate'
must test "$(stat -c '%U %a' /usr/bin/popgate $config)" = "root 755
root 644"
must bash -c 'source /usr/share/bash-completion/completions/popgate && complete -p popgate'
must gzip -t /usr/share/man/man8/popgate.8.gz
must test -s /usr/share/doc/popgate/licences.txt

# It runs as the unit runs it, on a port that is not everybody's.
sed -i 's|^  # url:|  url: imap://127.0.0.1:143|' $config
must popgate check --config $config
start strace -D -f -qq -o /tmp/trace
soon is v0
pid=$(cat /tmp/pid)
must grep -q "^Max open files *$files *$files " /proc/$pid/limits
must grep -q '^CapEff:.*0000000000000400$' /proc/$pid/status
must grep -q '^CapBnd:.*0000000000000400$' /proc/$pid/status
must grep -q '^NoNewPrivs:.*1$' /proc/$pid/status
must test "$(stat -c %U /proc/$pid)" = popgate
must test -s /var/cache/popgate/lists
exec 3<>/dev/tcp/127.0.0.1/110
read -r line <&3
must test "${line:0:3}" = +OK

# An upgrade: what runs hands its sockets to the new version; who is connected stays.
must package -i /given/`+filepath.Base(newer)+`
must told 'reload popgate.service'
soon is v99.0.0
must grep -q '^  url: imap://127.0.0.1:143' $config
printf 'CAPA\r\n' >&3
read -r line <&3
must test "${line:0:3}" = +OK
printf 'QUIT\r\n' >&3
while read -r line <&3; do last=$line; done
must test "${last:0:3}" = +OK
soon test ! -e /proc/$pid
must pkill -TERM -u popgate popgate
soon not pgrep -u popgate
rm /tmp/pid

# One with another configuration of its own leaves the edited one.
must package --force-confold -i /given/`+filepath.Base(changed)+`
must grep -q '^  url: imap://127.0.0.1:143' $config
must test -e $config.dpkg-dist

# Removal leaves what was written, a purge nothing but the user.
touch /var/lib/popgate/token
must package -r popgate
must told 'disable --now popgate.service'
must test ! -e /usr/bin/popgate
must test -e $config
must test -e /var/lib/popgate/token
must package -P popgate
must test ! -e /etc/popgate
must test ! -e /var/lib/popgate
must test ! -e /var/cache/popgate
must getent passwd popgate

# The calls of the kernel that were made, for the test of the unit's filter.
sed -n 's/^[0-9]* *\([a-z_0-9]*\)(.*/call \1/p' /tmp/trace | sort -u
`, deb, newer, changed)
	allowed := systemCalls(t)
	calls := 0
	for line := range strings.Lines(out) {
		if call, is := strings.CutPrefix(strings.TrimSpace(line), "call "); is {
			calls++
			if !allowed[call] {
				t.Errorf("the unit's SystemCallFilter forbids %s, which popgate called", call)
			}
		}
	}
	if calls < 20 {
		t.Errorf("%d calls of the kernel were seen, want more:\n%s", calls, out)
	}
}

func TestRPMPackage(t *testing.T) {
	needs(t, "rpm", "curl")
	rpm := built(t, "*.rpm")
	newer, changed := newerPackages(t, "rpm")
	inCopy(t, begin+`
package() { rpm --nodeps --force-debian "$@" >>/tmp/log 2>&1; }

must package -i /given/`+filepath.Base(rpm)+`
must grep -q 'Set upstream.url' /tmp/log
must getent passwd popgate
must not popgate check --config $config
must not told enable
must not told 'reload popgate'
must test "$(stat -c '%U %a' /usr/bin/popgate $config)" = "root 755
root 644"
sed -i 's|^  # url:|  url: imap://127.0.0.1:143|' $config
start
soon is v0
pid=$(cat /tmp/pid)
must package -U /given/`+filepath.Base(newer)+`
must told 'reload popgate.service'
must not told disable
soon is v99.0.0
soon test ! -e /proc/$pid
must grep -q '^  url: imap://127.0.0.1:143' $config
must pkill -TERM -u popgate popgate
soon not pgrep -u popgate
rm /tmp/pid
must package -U --replacepkgs /given/`+filepath.Base(changed)+`
must grep -q '^  url: imap://127.0.0.1:143' $config
must test -e $config.rpmnew
touch /var/lib/popgate/token
must package -e popgate
must told 'disable --now popgate.service'
must test ! -e /usr/bin/popgate
must test -e $config.rpmsave
must test -e /var/lib/popgate/token
`, rpm, newer, changed)
}

// newerPackages builds the package of a later version, and of one later still that
// comes with another configuration.
func newerPackages(t *testing.T, packager string) (newer, changed string) {
	t.Helper()
	folder := t.TempDir()
	text, err := os.ReadFile("nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile("popgate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(folder, "popgate.yaml")
	if err := os.WriteFile(other, append(config, "\n# Another one.\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(version string, replace ...string) string {
		program := filepath.Join(folder, version)
		buildPopgate(t, "../..", program, version, "")
		yaml := filepath.Join(folder, "nfpm.yaml")
		replaced := strings.NewReplacer(append(replace, "dist/files/popgate,", program+",")...).Replace(string(text))
		if err := os.WriteFile(yaml, []byte(replaced), 0o644); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(folder, "popgate-"+version+"."+packager)
		tool, err := exec.Command("go", "tool", "-n", "nfpm").Output()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(strings.TrimSpace(string(tool)), "package", "--config", yaml, "--packager", packager, "--target", target)
		c.Dir = "../.."
		c.Env = append(os.Environ(), "VERSION="+version, "ARCH="+runtime.GOARCH)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("nfpm: %v\n%s", err, out)
		}
		return target
	}
	return build("v99.0.0"), build("v99.0.1", "deploy/package/popgate.yaml", other)
}

// buildPopgate builds the program from a folder as deploy/package.sh does.
func buildPopgate(t *testing.T, folder, file, version, revision string, environment ...string) {
	t.Helper()
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+version+" -X main.revision="+revision, "-o", file, "./cmd/popgate")
	c.Dir = folder
	c.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="), environment...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}
