package packages_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const compose = "../container/compose.yaml"

func composed(t *testing.T) *types.Project {
	t.Helper()
	folder, err := filepath.Abs(filepath.Dir(compose))
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  folder,
		ConfigFiles: types.ToConfigFiles([]string{filepath.Join(folder, filepath.Base(compose))}),
		Environment: types.Mapping{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestComposeIsPublishedHereAlone: passwords go over it in clear text.
func TestComposeIsPublishedHereAlone(t *testing.T) {
	for name, s := range composed(t).Services {
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is published at %q, want 127.0.0.1", name, p.Published, p.HostIP)
			}
		}
	}
}

func TestComposeRunsPopgateAsTheImageWants(t *testing.T) {
	popgate, err := composed(t).GetService("popgate")
	if err != nil {
		t.Fatal(err)
	}
	if !popgate.ReadOnly || len(popgate.CapDrop) != 1 || popgate.CapDrop[0] != "ALL" || popgate.Privileged || popgate.User != "" {
		t.Errorf("popgate may do more than it needs: %+v", popgate)
	}
	if popgate.StopGracePeriod.String() != "1m0s" {
		t.Errorf("it has %s to stop, want more than the drain of 30s", popgate.StopGracePeriod)
	}
	if want, _ := filepath.Abs(dockerfile); filepath.Join(popgate.Build.Context, popgate.Build.Dockerfile) != want {
		t.Errorf("it is built from %s in %s", popgate.Build.Dockerfile, popgate.Build.Context)
	}
}

func TestComposeMountsFilesThatAreThere(t *testing.T) {
	for name, s := range composed(t).Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			t.Run(name+v.Target, func(t *testing.T) {
				if _, err := os.Stat(filepath.Dir(v.Source)); err != nil {
					t.Skip("not a part of this tree")
				}
				if info, err := os.Stat(v.Source); err != nil || !info.Mode().IsRegular() {
					t.Errorf("%s is no file: %v", v.Source, err)
				}
				if !v.ReadOnly {
					t.Errorf("%s can be written to", v.Source)
				}
			})
		}
	}
}

// TestComposeConfigurationsAreRight gives the files to the programs that read them,
// where these are installed.
func TestComposeConfigurationsAreRight(t *testing.T) {
	for _, test := range []struct {
		name    string
		command []string
	}{
		{"popgate", []string{"popgate", "check", "--config", "popgate.yaml"}},
		{"dovecot", []string{"doveconf", "-n", "-c", "dovecot.conf"}},
		{"prometheus", []string{"promtool", "check", "config", "--syntax-only", "prometheus.yaml"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "popgate" {
				test.command[0] = built(t, "files/popgate")
			} else if _, err := exec.LookPath(test.command[0]); err != nil {
				t.Skipf("%s is not installed", test.command[0])
			}
			c := exec.Command(test.command[0], test.command[1:]...)
			c.Dir = filepath.Dir(compose)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", strings.Join(test.command, " "), err, out)
			}
		})
	}
}
