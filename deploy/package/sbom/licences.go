package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
)

// licenceFile is a file at the top of a module that its licence, or what the licence
// wants to be passed on, stands in.
var licenceFile = regexp.MustCompile(`(?i)^(LICEN[CS]E|COPYING|NOTICE|PATENTS)([-._].*)?$`)

// writeLicences writes the licences of the modules, and of Go's standard library,
// one after the other: whoever passes the binary on passes them on. A module without
// one is an error.
func writeLicences(file, folder string, modules []debug.Module) error {
	root, err := goTool(folder, "env", "GOROOT")
	if err != nil {
		return err
	}
	folders, err := sources(folder, modules)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	fmt.Fprintln(&out, "What popgate is linked with, and the licences of that.")
	if err := appendLicences(&out, "Go's standard library", strings.TrimSpace(string(root))); err != nil {
		return err
	}
	for _, m := range modules {
		if err := appendLicences(&out, m.Path+" "+m.Version, folders[m.Path]); err != nil {
			return err
		}
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

func appendLicences(out *bytes.Buffer, name, folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	found := false
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		found = true
		fmt.Fprintf(out, "\n%s\n%s: %s\n\n%s\n", strings.Repeat("=", 80), name, e.Name(), bytes.TrimSpace(text))
	}
	if !found {
		return fmt.Errorf("%s has no licence file", name)
	}
	return nil
}

// sources tells in which folder each module is, by its path.
func sources(folder string, modules []debug.Module) (map[string]string, error) {
	args := []string{"mod", "download", "-json"}
	for _, m := range modules {
		args = append(args, m.Path+"@"+m.Version)
	}
	list, err := goTool(folder, args...)
	if err != nil {
		return nil, err
	}
	folders := map[string]string{}
	decoder := json.NewDecoder(bytes.NewReader(list))
	for {
		var m struct{ Path, Dir string }
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			return folders, nil
		} else if err != nil {
			return nil, err
		}
		folders[m.Path] = m.Dir
	}
}

func goTool(folder string, args ...string) ([]byte, error) {
	c := exec.Command("go", args...)
	c.Dir, c.Stderr = folder, os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return out, nil
}
