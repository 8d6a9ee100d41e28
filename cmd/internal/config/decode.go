package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A loader carries one loading: what has been set, where, and what is wrong.
type loader struct {
	file     string
	keys     []key
	problems Problems
	set      map[string]place // by full key: who set it last
}

// A place is where a value was given.
type place struct {
	where string
	line  int
}

// report keeps a problem. A flag names itself: its key is left out.
func (l *loader) report(at place, path, format string, args ...any) {
	if strings.HasPrefix(at.where, "--") {
		path = ""
	}
	l.problems = append(l.problems, Problem{Where: at.where, Line: at.line, Key: path, Text: fmt.Sprintf(format, args...)})
}

func (l *loader) at(n *yaml.Node) place { return place{l.file, n.Line} }

// place tells where the value of a key came from; for a default, the file as a
// whole or nothing.
func (l *loader) place(path string) place {
	if at, ok := l.set[path]; ok {
		return at
	}
	return place{where: l.file}
}

var yamlLine = regexp.MustCompile(`^yaml: line ([0-9]+): (.*)$`)

// readFile decodes the octets of the file. It reports whether they hold keys
// and values at all.
func (l *loader) readFile(data []byte) bool {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return true // an empty file: every default
	}
	if err != nil {
		at, text := place{where: l.file}, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			at.line, _ = strconv.Atoi(m[1])
			text = m[2]
			if strings.HasPrefix(text, "did not find expected") {
				at.line++ // the library counts from 0 in what its parser finds
			}
		}
		l.report(at, "", "this is not YAML: %s", text)
		return false
	}
	root := doc.Content[0]
	if !l.plain(root, "") {
		return false
	}
	if empty(root) {
		return true
	}
	if root.Kind != yaml.MappingNode {
		l.report(l.at(root), "", "the file must hold keys and values, such as `delete: expunge`")
		return false
	}
	l.section(root, l.keys, "")
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		l.report(l.at(&second), "", "a second document begins; one is read")
	}
	return true
}

// plain reports whether n is free of what makes YAML more than keys and
// values: aliases, anchors and tags of one's own.
func (l *loader) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		l.report(l.at(n), path, "anchors and aliases are not read; write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		l.report(l.at(n), path, "tags such as %s are not read; write the value alone", shown(n.Tag))
	default:
		return true
	}
	return false
}

func empty(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// section reads a mapping whose keys are keys.
func (l *loader) section(n *yaml.Node, keys []key, prefix string) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if !l.plain(name, "") {
			continue
		}
		if name.Kind != yaml.ScalarNode {
			l.report(l.at(name), "", "a key must be a word")
			continue
		}
		path := prefix + name.Value
		if first, ok := lines[name.Value]; ok {
			l.report(l.at(name), bounded(path), "given twice, first on line %d", first)
			continue
		}
		lines[name.Value] = name.Line
		j := slices.IndexFunc(keys, func(k key) bool { return k.name == name.Value })
		if j < 0 {
			l.unknown(name, keys, prefix)
			continue
		}
		l.value(name, value, keys[j], path)
	}
}

// unknown reports a key that is not accepted, and what may have been meant.
func (l *loader) unknown(name *yaml.Node, keys []key, prefix string) {
	hint := ""
	if near := nearest(name.Value, names(keys)); near != "" {
		hint = "; did you mean " + near + "?"
	} else {
		walk(l.keys, "", func(path string, k key) {
			if hint == "" && k.name == name.Value {
				hint = "; did you mean " + path + "?"
			}
		})
	}
	where := "here"
	if prefix != "" {
		where = "in " + strings.TrimSuffix(prefix, ".")
	}
	l.report(l.at(name), bounded(prefix+name.Value), "unknown key%s (known %s: %s)", hint, where, strings.Join(names(keys), ", "))
}

// bounded keeps a key that a file made up short and on one line.
func bounded(path string) string {
	if q := shown(path); len(q) > len(path)+2 {
		return q
	}
	return path
}

// value reads what stands under one known key.
func (l *loader) value(name, n *yaml.Node, k key, path string) {
	if !l.plain(n, path) {
		return
	}
	l.set[path] = l.at(name)
	switch {
	case k.keys != nil && empty(n): // a section whose lines are all comments
	case k.keys != nil && n.Kind == yaml.MappingNode:
		l.section(n, k.keys, path+".")
	case k.keys != nil:
		l.report(l.at(n), path, "this is a section; under it stand %s", enumerate(names(k.keys), "and"))
	case empty(n):
		l.report(l.at(name), path, "the value is missing; use %s, or leave the line out", k.accepts)
	case k.item != nil && n.Kind == yaml.MappingNode:
		k.list()
		l.item(n, k, path+"[0]")
	case k.list != nil && n.Kind == yaml.SequenceNode:
		k.list()
		for i, item := range n.Content {
			switch {
			case !l.plain(item, path):
			case k.item != nil && item.Kind == yaml.MappingNode:
				l.item(item, k, fmt.Sprintf("%s[%d]", path, i))
			default:
				l.scalar(item, k, path)
			}
		}
	case n.Kind == yaml.ScalarNode:
		if k.list != nil {
			k.list()
		}
		l.scalar(n, k, path)
	default:
		l.report(l.at(n), path, "one value is expected; use %s", k.accepts)
	}
}

// item reads a list's item that is a section.
func (l *loader) item(n *yaml.Node, k key, path string) {
	l.set[path] = l.at(n)
	before := len(l.problems)
	l.section(n, k.item(), path+".")
	if len(l.problems) > before {
		return // it is not whole, and what it lacks has been said
	}
	if err := k.add(path); err != nil {
		l.report(l.at(n), path, "%v", err)
	}
}

func (l *loader) scalar(n *yaml.Node, k key, path string) {
	if n.Kind != yaml.ScalarNode {
		l.report(l.at(n), path, "one value is expected; use %s", k.accepts)
		return
	}
	// The text as it was written: `no`, `1.2` and `017` are what they look like.
	value := n.Value
	if k.file && value != "" && !filepath.IsAbs(value) {
		value = filepath.Join(filepath.Dir(l.file), value)
	}
	l.assign(l.at(n), k, path, value)
}

func (l *loader) assign(at place, k key, path, value string) {
	err := k.set(value)
	switch {
	case err == nil:
	case errors.Is(err, errValue):
		l.report(at, path, "%s is not accepted; use %s", shown(value), k.accepts)
	default:
		l.report(at, path, "%s is not accepted: %v; use %s", shown(value), err, k.accepts)
	}
}

// readFlags lets the command line have the last word.
func (l *loader) readFlags(flags Flags) {
	known := map[string]bool{}
	walk(l.keys, "", func(path string, k key) {
		known[k.flag] = true
		values, given := flags[k.flag]
		if k.flag == "" || !given {
			return
		}
		at := place{where: "--" + k.flag}
		l.set[path] = at
		if k.list != nil {
			k.list()
		}
		for _, v := range values {
			l.assign(at, k, path, v)
		}
	})
	for name := range flags {
		if !known[name] {
			l.report(place{where: "--" + name}, "", "no such flag")
		}
	}
}

// nearest returns the word that name is most likely a slip of, or "".
func nearest(name string, words []string) string {
	best, at := "", 3
	if len(name) > 40 {
		return ""
	}
	for _, w := range words {
		if d := distance(name, w); d < at && d < len(w) {
			best, at = w, d
		}
	}
	return best
}

// distance counts the single-letter edits between two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
