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

// TestPackagesHaveThePages: where the README and the pages of the package lead to a
// page, an example, the alerts or the dashboard, it is there.
func TestPackagesHaveThePages(t *testing.T) {
	root := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "--extract", built(t, "*_"+runtime.GOARCH+".deb"), root).CombinedOutput(); err != nil {
		t.Skipf("dpkg-deb: %v\n%s", err, out)
	}
	docs := filepath.Join(root, "usr/share/doc/popgate")
	pages, err := filepath.Glob(filepath.Join(docs, "deploy/docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, page := range append(pages, filepath.Join(docs, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^):#]+)`).FindAllStringSubmatch(string(text), -1) {
			to := filepath.Join(filepath.Dir(page), m[1])
			if name, _ := filepath.Rel(docs, to); !regexp.MustCompile(`^(README|deploy/(docs|examples|prometheus|grafana))\b`).MatchString(name) {
				continue // of the source alone
			}
			if links++; !exists(to) {
				t.Errorf("the package has no %s, to which %s leads", m[1], filepath.Base(page))
			}
		}
	}
	if links < 30 {
		t.Errorf("the pages have %d links", links)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
