package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/strvals"
	strict "sigs.k8s.io/yaml"
)

// section is one of README.md, by its heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !found {
		t.Fatalf("README.md has no section %q", heading)
	}
	return section
}

// TestReadmeValuesAreEnough renders the chart with the values of the command that the
// README gives.
func TestReadmeValuesAreEnough(t *testing.T) {
	values := map[string]any{}
	for _, set := range regexp.MustCompile(`--set (\S+)`).FindAllStringSubmatch(section(t, "Install"), -1) {
		if err := strvals.ParseInto(set[1], values); err != nil {
			t.Fatal(err)
		}
	}
	text, err := strict.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	if len(values) < 3 {
		t.Errorf("the command sets %v, want the image, the upstream and the certificate", values)
	}
	mustRender(t, string(text))
}

// TestReadmeFilesAreThere: what the README names below deploy is there.
func TestReadmeFilesAreThere(t *testing.T) {
	names := regexp.MustCompile(`deploy/[\w./-]*\w`).FindAllString(section(t, "Install"), -1)
	if len(names) < 6 {
		t.Errorf("the README names %q", names)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join("../..", name)); err != nil {
			t.Error(err)
		}
	}
}

// TestPackagesHaveThePages: where the README of the package leads to a page or an
// example, it is there.
func TestPackagesHaveThePages(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("dpkg-deb", "--contents", built(t, "*_"+runtime.GOARCH+".deb"))
	contents, err := list.Output()
	if err != nil {
		t.Skip("dpkg-deb: ", err)
	}
	links := regexp.MustCompile(`\]\((deploy/(?:docs|examples)[\w./-]*)`).FindAllStringSubmatch(string(text), -1)
	for _, m := range links {
		if !strings.Contains(string(contents), " ./usr/share/doc/popgate/"+m[1]) {
			t.Errorf("the package has no %s", m[1])
		}
	}
	if len(links) < 10 {
		t.Errorf("the README leads to %d pages", len(links))
	}
}
