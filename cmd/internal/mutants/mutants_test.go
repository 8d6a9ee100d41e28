package mutants_test

import (
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/cmd/internal/mutants"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every sabotage finds its place in the source as it is now, and leaves Go behind.
func TestTheListIsOfThisSource(t *testing.T) {
	root, err := mutants.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range mutants.List() {
		t.Run(m.Name, func(t *testing.T) {
			if names[m.Name] || m.Promise == "" || len(m.Edits) == 0 {
				t.Error("the name is there twice, or the promise or the edits are missing")
			}
			names[m.Name] = true
			if _, err := os.Stat(filepath.Join(root, m.Kill)); err != nil {
				t.Error(err)
			}
			texts := map[string]string{}
			for _, e := range m.Edits {
				if _, ok := texts[e.File]; !ok {
					b, err := os.ReadFile(filepath.Join(root, e.File))
					if err != nil {
						t.Fatal(err)
					}
					texts[e.File] = string(b)
				}
				if n := strings.Count(texts[e.File], e.Old); n != 1 {
					t.Errorf("%s has the text %d times, not once: %q", e.File, n, e.Old)
				}
				texts[e.File] = strings.Replace(texts[e.File], e.Old, e.New, 1)
			}
			for file, text := range texts {
				if _, err := format.Source([]byte(text)); err != nil {
					t.Errorf("%s is no longer Go: %v", file, err)
				}
			}
		})
	}
}

// What the tool says of a mutant that is killed, one that survives, one that does
// not compile, and one whose place is gone.
func TestVerdicts(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":     "module example.test/m\n\ngo 1.26.0\n",
		"m.go":       "package m\n\n// One is 1.\nfunc One() int { return 1 }\n\nfunc two() int { return 2 }\n",
		"m_test.go":  "package m\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tif One() != 1 {\n\t\tt.Error()\n\t}\n}\n",
		".git/HEAD":  "not copied\n",
		"sub/sub.go": "package sub\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	tree, err := mutants.Copy(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		t.Error("the history was copied")
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"killed", "return 1", "return 3", "killed: killed by TestOne"},
		{"survivor", "return 2", "return 3", "survivor: SURVIVED"},
		{"broken", "return 1", "return nothing", "broken: FAULT OF THE LIST: it does not compile"},
		{"lost", "return 7", "return 1", "lost: FAULT OF THE LIST: m.go has the text 0 times"},
		{"killed_again", "return 1", "return 4", "killed_again: killed by TestOne"}, // the tree was put right
	} {
		v := tree.Run(t.Context(), mutants.Mutant{Name: tt.name, Kill: "./sub", Edits: []mutants.Edit{{File: "m.go", Old: tt.old, New: tt.new}}})
		if !strings.HasPrefix(v.String(), tt.want) {
			t.Errorf("%v, want %s", v, tt.want)
		}
	}
}
