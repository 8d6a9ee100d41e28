package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/popgate/popgate/cmd/internal/config"
)

// A block is a piece of a document between fences.
type block struct {
	where, language, text string
}

// documents reads the README and the pages, and what stands between fences in them.
func documents(t *testing.T) (texts map[string]string, blocks []block) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("no pages here: ", err)
	}
	texts = map[string]string{}
	fence := regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	for _, file := range append(files, fileOf("README.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		texts[name] = string(text)
		// The guide is carried out as a whole (deploy/package).
		before, guide, _ := strings.Cut(string(text), "\n## From a package to a graph\n")
		_, after, _ := strings.Cut(guide, "\n## ")
		for _, m := range fence.FindAllStringSubmatch(before+"\n## "+after, -1) {
			blocks = append(blocks, block{name, m[1], m[2]})
		}
	}
	return texts, blocks
}

// Every configuration that is shown is right; where it is a part of one, a
// listener or an upstream is added.
func TestConfigurationsInTheDocumentsAreRight(t *testing.T) {
	_, blocks := documents(t)
	checked := 0
	for _, b := range blocks {
		if b.language != "yaml" {
			continue
		}
		text := b.text
		if !regexp.MustCompile(`(?m)^listen:`).MatchString(text) {
			text += "listen: [pop3://127.0.0.1]\n"
		}
		if !regexp.MustCompile(`(?m)^upstreams?:`).MatchString(text) {
			text += "upstream: {url: imap://127.0.0.1}\n"
		}
		if strings.Contains(text, "pop3s:") && !regexp.MustCompile(`(?m)^tls:`).MatchString(text) {
			text += "tls: {cert: chain.pem, key: key.pem}\n"
		}
		dir := t.TempDir()
		for _, name := range regexp.MustCompile(`[\w.-]+\.pem`).FindAllString(text, -1) {
			from := map[bool]string{false: certFile, true: keyFile}
			if strings.HasPrefix(name, "old") { // old TLS has a pair of its own
				from = map[bool]string{false: rsaCertFile, true: rsaKeyFile}
			}
			pem, err := os.ReadFile(from[strings.Contains(name, "key")])
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), pem, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range map[string]string{"tokens.key": strings.Repeat("k", 44), "accounts": ""} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, "popgate.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := run(t.Context(), []string{"check", "--config", file}, &out, &out); code != exitOK {
			t.Errorf("%s: %s\n%s", b.where, &out, b.text)
		}
		checked++
	}
	if checked < 3 {
		t.Errorf("%d configurations were found", checked)
	}
}

// Every command line that is shown is one; what it needs is not here, so it is
// read and not run. Those of the pages are run by deploy/realtest.
func TestCommandsInTheDocumentsAreRight(t *testing.T) {
	_, blocks := documents(t)
	others := []string{"curl", "cmp", "fetchmail", "go", "./deploy/test.sh", "./deploy/package.sh", "source", "man", "systemctl", "apt", "dpkg", "kubectl", "helm", "docker", "sudo"}
	for _, b := range blocks {
		if b.language != "" && b.language != "sh" {
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", " ")) {
			words := strings.Fields(line)
			if len(words) > 2 && words[0] == "go" && words[1] == "run" && words[2] == "./cmd/popgate" {
				words = words[2:]
			}
			switch {
			case len(words) == 0 || strings.HasPrefix(words[0], "#"):
			case filepath.Base(words[0]) == "popgate":
				args := words[1:]
				if i := slices.IndexFunc(args, func(w string) bool { return w == "|" || w == ">" || w == "#" }); i >= 0 {
					args = args[:i]
				}
				if err := parses(args); err != nil {
					t.Errorf("%s: %s: %v", b.where, line, err)
				}
			case !slices.Contains(others, words[0]):
				t.Errorf("%s: %q is a command that nobody looks at", b.where, line)
			}
		}
	}
}

// parses tells whether args are a command line.
func parses(args []string) error {
	k, err := kong.New(&commands{}, kong.Exit(func(int) {}), kong.Writers(io.Discard, io.Discard))
	if err != nil {
		return err
	}
	_, err = k.Parse(args)
	return err
}

// Every setting that is named exists.
func TestSettingsInTheDocumentsExist(t *testing.T) {
	names := config.Names()
	sections := map[string]bool{}
	for _, n := range names {
		if section, _, ok := strings.Cut(n, "."); ok {
			sections[section] = true
		}
	}
	texts, _ := documents(t)
	for where, text := range texts {
		for _, m := range regexp.MustCompile("`([a-z-]+)\\.([a-z.-]+)(:[^`]*)?`").FindAllStringSubmatch(text, -1) {
			name := m[1] + "." + m[2]
			if sections[m[1]] && !slices.Contains(names, name) {
				t.Errorf("%s names the setting %s, which does not exist", where, name)
			}
		}
	}
}

// Every row of cmd/prove that is named exists.
func TestRowsInTheDocumentsExist(t *testing.T) {
	source, err := os.ReadFile("../prove/rows.go")
	if err != nil {
		t.Fatal(err)
	}
	texts, _ := documents(t)
	named := 0
	for where, text := range texts {
		for _, m := range regexp.MustCompile(`cmd/prove [^`+"`"+`\n]*-row ([\w,]+)`).FindAllStringSubmatch(text, -1) {
			for row := range strings.SplitSeq(m[1], ",") {
				named++
				if !bytes.Contains(source, []byte(`"`+row+`"`)) {
					t.Errorf("%s names the row %s, which does not exist", where, row)
				}
			}
		}
	}
	if named == 0 {
		t.Error("no row is named")
	}
}

// Every file that is linked to, or named as a path from the root, is there, and so
// is each heading that a link leads to.
func TestLinksInTheDocumentsLeadSomewhere(t *testing.T) {
	texts, _ := documents(t)
	headings := map[string][]string{} // as links name them, by file
	for where, text := range texts {
		headings[fileOf(where)] = anchors(text)
	}
	for where, text := range texts {
		for _, m := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			name, heading, inside := strings.Cut(strings.Join(strings.Fields(m[1]), ""), "#")
			file := filepath.Join(filepath.Dir(fileOf(where)), name)
			if name == "" {
				file = fileOf(where)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %v", where, err)
			}
			if inside && !slices.Contains(headings[file], heading) {
				t.Errorf("%s: nothing is at %s: %q", where, m[1], headings[file])
			}
		}
		for _, m := range regexp.MustCompile(`[ `+"`"+`(](?:\./)?((?:deploy|cmd|upstream|proxy|metrics)/[\w./-]*\w)`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
				t.Errorf("%s: %v", where, err)
			}
		}
	}
}

// fileOf is the path of a document.
func fileOf(name string) string {
	if name == "README.md" {
		return "../../README.md"
	}
	return "../../deploy/docs/" + name
}

// anchors are the headings of a document as a link names them: small letters, digits
// and dashes, and a number behind what was there before.
func anchors(text string) (all []string) {
	text = regexp.MustCompile("(?ms)^ *```.*?^ *```$").ReplaceAllString(text, "")
	times := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		a := strings.ReplaceAll(regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		times[a]++
		if n := times[a]; n > 1 {
			a += fmt.Sprint("-", n-1)
		}
		all = append(all, a)
	}
	return all
}

// A page that no other leads to is read by nobody.
func TestEveryPageIsReachedFromTheREADME(t *testing.T) {
	texts, _ := documents(t)
	for name := range texts {
		if name != "README.md" && !strings.Contains(texts["README.md"], "](deploy/docs/"+name) {
			t.Errorf("the README has no link to %s", name)
		}
	}
}
