package packages_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buildImage builds the Dockerfile with buildah, offline: the image of Go that it
// begins with is one that has this machine's programs, mounted, and its Go modules.
// The image itself is built from what is in the Dockerfile alone.
const buildImage = `
export HOME=/root BUILDAH_ISOLATION=chroot
buildah() { command buildah --root /images --runroot /run/images --storage-driver vfs "$@"; }
base=$(buildah from scratch)
root=$(buildah mount "$base")
mkdir -p "$root/usr" "$root/etc/ssl/certs" "$root/tmp"
for link in bin lib lib64; do cp -P "/$link" "$root/"; done
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
buildah config --env "PATH=$GOROOT/bin:/usr/bin:/bin" --env GOTOOLCHAIN=local --env GOPROXY=off \
	--env GOCACHE=/gocache --env GOMODCACHE=/gomodcache "$base"
mkdir -p "$GOCACHE"
volumes="-v /usr:/usr:ro -v $GOROOT:$GOROOT:ro -v $GOCACHE:/gocache -v $GOMODCACHE:/gomodcache"
buildah run $volumes "$base" /bin/sh -c true || { echo "cannot run"; exit; }
buildah commit -q "$base" "$BASE"

mkdir /src
tar -C /src -xf /given/source.tar
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
	set := fmt.Sprintf("export VERSION=%q REVISION=%q BASE=%q\n", version, revision, stages(t)[0].BaseName)
	for _, name := range []string{"GOROOT", "GOCACHE", "GOMODCACHE"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		set += fmt.Sprintf("export %s=%q\n", name, strings.TrimSpace(string(value)))
	}
	folder := source(t)
	for _, file := range []string{"Dockerfile", "Dockerfile.dockerignore"} {
		copyFile(t, "../container/"+file, filepath.Join(folder, "deploy/container", file), 0o644)
	}
	archive := filepath.Join(t.TempDir(), "source.tar")
	for _, c := range []*exec.Cmd{
		exec.Command("go", "-C", folder, "mod", "download"), // all that the Dockerfile wants
		exec.Command("tar", "-C", folder, "-cf", archive, "."),
	} {
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c.Args, err, out)
		}
	}
	out := inCopy(t, set+buildImage, archive)
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
