package packages_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buildImage builds the Dockerfile with buildah, offline: in place of the image of Go
// there is one that has this machine's programs, mounted, and Go modules from a folder.
const buildImage = `
export HOME=/root BUILDAH_ISOLATION=chroot
buildah() { command buildah --root /images --runroot /run/images --storage-driver vfs "$@"; }
trap 'echo "cannot run"; exit 0' ERR
base=$(buildah from scratch)
root=$(buildah mount "$base")
mkdir -p "$root/usr" "$root/etc/ssl/certs" "$root/tmp"
touch "$root/etc/ssl/certs/ca-certificates.crt"
for link in /bin /lib*; do if [ -L "$link" ]; then cp -P "$link" "$root/"; fi; done
buildah config --env "PATH=$GOROOT/bin:/usr/bin:/bin" --env GOTOOLCHAIN=local --env GOPATH=/go \
	--env GOCACHE=/gocache --env GOPROXY=file:///modules --env GOSUMDB=off "$base"
mkdir -p "$GOCACHE" /src /modules
tar -C /src -xf /given/source.tar
tar -C /modules -xf /given/modules.tar
volumes="-v /usr:/usr:ro -v $GOROOT:$GOROOT:ro -v $GOCACHE:/gocache -v /modules:/modules:ro"
buildah run $volumes "$base" "$GOROOT/bin/go" version
trap - ERR
buildah commit -q "$base" "$BASE"
buildah bud --pull-never $volumes --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" \
	-f /src/deploy/container/Dockerfile -t popgate:test /src
made=$(buildah from --pull-never popgate:test)
root=$(buildah mount "$made")
files=$(cd "$root" && find . -type f | LC_ALL=C sort)
owner=$(stat -c %u:%g "$root/var/lib/popgate")
said=$(buildah run "$made" /usr/bin/popgate version) # this adds files for the network
buildah inspect --type image popgate:test >/inspected
echo "== made"
printf '%s\n' "$said"
sha256sum <"$root/usr/bin/popgate"
echo $files
echo "$owner"
cat /inspected
`

// TestDockerfileMakesTheImage builds the image, where there is buildah, looks at what is
// in it, and runs the program in it.
func TestDockerfileMakesTheImage(t *testing.T) {
	popgate := built(t, "files/popgate")
	needs(t, "buildah", "tar")
	version, revision := says(t, popgate)
	goEnv := func(name string) string {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(value))
	}
	set := fmt.Sprintf("export VERSION=%q REVISION=%q BASE=%q GOROOT=%q GOCACHE=%q\n",
		version, revision, stages(t)[0].BaseName, goEnv("GOROOT"), goEnv("GOCACHE"))
	folder, modules, given := source(t), t.TempDir(), t.TempDir()
	download := exec.Command("go", "-C", folder, "mod", "download")
	download.Env = append(os.Environ(), "GOMODCACHE="+modules, "GOFLAGS=-modcacherw",
		"GOPROXY=file://"+goEnv("GOMODCACHE")+"/cache/download,"+goEnv("GOPROXY"))
	for _, c := range []*exec.Cmd{
		download,
		exec.Command("tar", "-C", folder, "-cf", filepath.Join(given, "source.tar"), "."),
		exec.Command("tar", "-C", filepath.Join(modules, "cache/download"), "-cf", filepath.Join(given, "modules.tar"), "."),
	} {
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c.Args, err, out)
		}
	}
	out := inCopy(t, set+buildImage, filepath.Join(given, "source.tar"), filepath.Join(given, "modules.tar"))
	if strings.HasSuffix(out, "cannot run\n") {
		t.Skipf("buildah can run nothing here:\n%s", out)
	}
	_, made, _ := strings.Cut(out, "\n== made\n")
	lines := strings.SplitN(made, "\n", 5)
	if len(lines) != 5 {
		t.Fatalf("there is no image:\n%s", out)
	}
	said, err := exec.Command(popgate, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		strings.TrimSpace(string(said)),
		digest(t, popgate) + "  -",
		"./etc/ssl/certs/ca-certificates.crt ./usr/bin/popgate",
		"65532:65532",
	} {
		if lines[i] != want {
			t.Errorf("in the image there is %q, want %q", lines[i], want)
		}
	}
	var inspected struct {
		OCIv1 struct {
			Config struct {
				User, StopSignal string
				Entrypoint, Cmd  []string
			}
		}
	}
	if err := json.Unmarshal([]byte(lines[4]), &inspected); err != nil {
		t.Fatalf("%v in\n%s", err, lines[4])
	}
	got, im := inspected.OCIv1.Config, parsedImage(t)
	if got.User != im.user || got.StopSignal != "SIGTERM" || strings.Join(got.Entrypoint, " ") != im.entrypoint || strings.Join(got.Cmd, " ") != im.command {
		t.Errorf("the image is set to %+v, the Dockerfile to %+v", got, im)
	}
}
