package mutants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/popgate/popgate/cmd/internal/proof"
)

// An Edit replaces a text that occurs once in a file.
type Edit struct {
	File     string // from the root of the module, with slashes
	Old, New string
}

// A Mutant is one sabotage.
type Mutant struct {
	Name    string
	Promise string // what it breaks
	Kill    string // the package whose tests should notice first, "./proxy/pop3"
	Edits   []Edit
}

// A Verdict is what the tests made of a mutant.
type Verdict struct {
	Mutant string
	Killer string // the test that failed; "" if none did
	Err    error  // a fault of the list: no verdict
}

// String is a line about the mutant.
func (v Verdict) String() string {
	switch {
	case v.Err != nil:
		return fmt.Sprintf("%s: FAULT OF THE LIST: %v", v.Mutant, v.Err)
	case v.Killer == "":
		return v.Mutant + ": SURVIVED"
	}
	return v.Mutant + ": killed by " + v.Killer
}

// A Tree is a copy of the module.
type Tree struct{ dir string }

// self is the test that would notice every change, as one of the list's source.
var self = filepath.Join("cmd", "internal", "mutants", "mutants_test.go")

// Copy copies the module at root, without its history, into dir, which is empty.
func Copy(root, dir string) (*Tree, error) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch to := filepath.Join(dir, rel); {
		case d.IsDir() && d.Name() == ".git":
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case rel == self:
			return nil
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(to, b, 0o700)
		}
		return nil
	})
	return &Tree{dir}, err
}

// Root finds the module that the working directory is in.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Run sabotages the tree, runs the tests, and puts the tree right again. A tree
// serves one Run at a time.
func (t *Tree) Run(ctx context.Context, m Mutant) Verdict {
	v := Verdict{Mutant: m.Name}
	restore, err := t.apply(m)
	if err != nil {
		v.Err = err
		return v
	}
	defer func() { v.Err = errors.Join(v.Err, restore()) }()
	if out, err := t.goCommand(ctx, "build", "./..."); err != nil {
		v.Err = fmt.Errorf("it does not compile: %s", firstLines(out, 3))
		return v
	}
	// Those that should notice come first; if they do not, all the others.
	for _, run := range []struct{ packages, timeout string }{{m.Kill, "45s"}, {"./...", "5m"}} {
		out, err := t.goCommand(ctx, "test", "-vet=off", "-failfast", "-timeout="+run.timeout, run.packages)
		if ctx.Err() != nil {
			v.Err = context.Cause(ctx)
			return v
		}
		if err != nil {
			v.Killer = killer(out)
			return v
		}
	}
	return v
}

// apply makes the edits. restore undoes them.
func (t *Tree) apply(m Mutant) (restore func() error, err error) {
	before := map[string][]byte{}
	restore = func() (err error) {
		for file, b := range before {
			err = errors.Join(err, os.WriteFile(file, b, 0o700))
		}
		return err
	}
	for _, e := range m.Edits {
		file := filepath.Join(t.dir, filepath.FromSlash(e.File))
		b, err := os.ReadFile(file)
		if err == nil && bytes.Count(b, []byte(e.Old)) != 1 {
			err = fmt.Errorf("%s has the text %d times, not once: %q", e.File, bytes.Count(b, []byte(e.Old)), e.Old)
		}
		if err == nil {
			if _, again := before[file]; !again {
				before[file] = b
			}
			err = os.WriteFile(file, bytes.Replace(b, []byte(e.Old), []byte(e.New), 1), 0o700)
		}
		if err != nil {
			return nil, errors.Join(err, restore())
		}
	}
	return restore, nil
}

// goCommand runs go in the tree, at the smallest level of proof.
func (t *Tree) goCommand(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = t.dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, proof.EnvLevel+"=") || strings.HasPrefix(s, proof.EnvOut+"=") || strings.HasPrefix(s, "PWD=")
	})
	return cmd.CombinedOutput()
}

var (
	failed  = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	running = regexp.MustCompile(`(?m)^\t*(Test\S+|Fuzz\S+) \(`)
)

// killer finds in the output of go test what failed.
func killer(out []byte) string {
	if m := failed.FindSubmatch(out); m != nil {
		return string(m[1])
	}
	if bytes.Contains(out, []byte("panic: test timed out")) {
		if m := running.FindSubmatch(out); m != nil {
			return string(m[1]) + " (which ran out of time)"
		}
	}
	return "go test: " + firstLines(out, 1)
}

func firstLines(out []byte, n int) string {
	lines := strings.SplitN(strings.TrimSpace(string(out)), "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], " / ")
}
