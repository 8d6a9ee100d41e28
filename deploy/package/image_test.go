package packages_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const dockerfile = "../container/Dockerfile"

// stages parses the Dockerfile.
func stages(t *testing.T) []instructions.Stage {
	t.Helper()
	f, err := os.Open(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.Warnings) > 0 {
		t.Errorf("warnings: %v", parsed.Warnings)
	}
	all, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// image is what the last stage of the Dockerfile makes.
type image struct {
	user, entrypoint, command string
	copied                    map[string]string // where it lies, by where the stage before has it
	healthcheck               bool
}

func parsedImage(t *testing.T) image {
	t.Helper()
	all := stages(t)
	last := all[len(all)-1]
	if last.BaseName != "scratch" {
		t.Errorf("the image is made from %q, want scratch", last.BaseName)
	}
	im := image{copied: map[string]string{}}
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			im.user = c.User
		case *instructions.CopyCommand:
			if c.From == "" || len(c.SourcePaths) != 1 {
				t.Errorf("%v: want one file of the stage before", c)
				continue
			}
			im.copied[c.SourcePaths[0]] = c.DestPath
		case *instructions.EntrypointCommand:
			im.entrypoint = strings.Join(c.CmdLine, " ")
			if c.PrependShell {
				t.Error("the entry point wants a shell, which is not there")
			}
		case *instructions.CmdCommand:
			im.command = strings.Join(c.CmdLine, " ")
			if c.PrependShell {
				t.Error("the command wants a shell, which is not there")
			}
		case *instructions.HealthCheckCommand:
			im.healthcheck = true
		case *instructions.ExposeCommand, *instructions.StopSignalCommand:
		default:
			t.Errorf("%v has no place in an image of one program", c)
		}
	}
	return im
}

func TestImageHasOneProgramAndNoRoot(t *testing.T) {
	im := parsedImage(t)
	user, group, _ := strings.Cut(im.user, ":")
	for _, id := range []string{user, group} {
		if n, err := strconv.Atoi(id); err != nil || n == 0 {
			t.Errorf("user %q, want numbers that are not root's, which Kubernetes can check", im.user)
		}
	}
	if got, want := im.entrypoint, "/usr/bin/popgate"; got != want || im.copied["/out/popgate"] != want {
		t.Errorf("entry point %q, program %q; want %q", got, im.copied["/out/popgate"], want)
	}
	if len(im.copied) != 3 {
		t.Errorf("the image has %v, want the program, the roots, and a folder for a volume", im.copied)
	}
	if im.healthcheck {
		t.Error("HEALTHCHECK needs a program that asks")
	}
	for _, stage := range stages(t) {
		if name, isPublic := strings.CutPrefix(stage.BaseName, "docker.io/library/"); stage.BaseName != "scratch" && (!isPublic || !strings.Contains(name, ":")) {
			t.Errorf("base image %q, want a public one with its version", stage.BaseName)
		}
	}
}

// TestImageIsBuiltAsThePackagesAre holds the flags of the two builds together, so
// that the same source gives the same binary.
func TestImageIsBuiltAsThePackagesAre(t *testing.T) {
	flags := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, text2, found := strings.Cut(string(text), "go build ")
		line, _, ends := strings.Cut(text2, " -o ")
		if !found || !ends {
			t.Fatalf("%s has no go build -o", file)
		}
		line = strings.NewReplacer("\\\n", " ", "${REVISION:-}", "$REVISION").Replace(line)
		return strings.Join(strings.Fields(line), " ")
	}
	if image, packages := flags(dockerfile), flags("../package.sh"); image != packages {
		t.Errorf("go build %s\nin the image, in packages\ngo build %s", image, packages)
	}
	for _, stage := range stages(t) {
		for _, c := range stage.Commands {
			if run, is := c.(*instructions.RunCommand); is && strings.Contains(strings.Join(run.CmdLine, " "), "go build") &&
				!strings.Contains(strings.Join(run.CmdLine, " "), "CGO_ENABLED=0") {
				t.Error("the program would need a C library, which the image has not")
			}
		}
	}
}

// TestImageServes lays out what the image has, and nothing else, and runs its entry
// point there, on a root that is read-only, as its user.
func TestImageServes(t *testing.T) {
	popgate := built(t, "files/popgate")
	needs(t, "setpriv", "chroot")
	mountsApart(t)
	im := parsedImage(t)
	root := t.TempDir()
	for from, to := range im.copied {
		to = filepath.Join(root, to)
		switch from {
		case "/out/popgate":
			copyFile(t, popgate, to, 0o755)
		case "/out/state":
			mustMkdir(t, to)
		default: // the roots, which this machine may have in the same place
			if _, err := os.Stat(from); err == nil {
				copyFile(t, from, to, 0o644)
			}
		}
	}
	config := filepath.Join(root, "etc/popgate/popgate.yaml")
	mustMkdir(t, filepath.Dir(config))
	// Nothing is listening at the upstream: the gateway serves without it.
	text := "listen: ['pop3://127.0.0.1:0']\nmetrics: 127.0.0.1:0\nupstream: {url: 'imap://127.0.0.1:1'}\nlog: {format: json}\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	command := `set -e
mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"
exec setpriv --no-new-privs chroot --userspec="$2" --groups= "$1" ` + im.entrypoint + " " + im.command
	// No process stands between: each becomes the next, and signals reach the last.
	serve(t, apart(command, root, im.user))
}

// serve runs a command that ends in popgate serve, with its log in JSON, until it says
// that it serves; it holds its readiness and that it ends in peace.
func serve(t *testing.T, c *exec.Cmd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	logged, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer context.AfterFunc(ctx, func() { asRoot("kill", "-KILL", strconv.Itoa(c.Process.Pid)).Run() })()
	var said strings.Builder
	metrics := ""
	lines := bufio.NewScanner(logged)
	for metrics == "" && lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		var line struct{ Msg, Metrics string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "popgate serves" {
			metrics = line.Metrics
		}
	}
	if metrics == "" {
		cancel()
		t.Fatalf("%v does not serve: %v\n%s", c.Args, c.Wait(), said.String())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(metrics, "/metrics")+"/-/ready", nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := http.DefaultClient.Do(request); err != nil {
		t.Error(err)
	} else {
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("/-/ready: %s, want 200", answer.Status)
		}
	}
	if err := asRoot("kill", strconv.Itoa(c.Process.Pid)).Run(); err != nil {
		t.Error(err)
	}
	rest, _ := io.ReadAll(logged)
	said.Write(rest)
	if err := c.Wait(); err != nil || !strings.Contains(said.String(), "popgate has ended") {
		t.Errorf("at its end: %v\n%s", err, said.String())
	}
}
