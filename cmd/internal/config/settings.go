package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Setting is one section or one key of the file, as the reference tells of it.
type Setting struct {
	Name    string // in full, such as limits.idle-time
	Flag    string // without dashes; "" where there is none
	Accepts string // "" for a section
	Value   string // the default, or an example where there is none
	Default bool   // Value is the default
	Meaning string // from the comments of the reference
}

var referenceLine = regexp.MustCompile(`^( *)(# )?( *)(# )?(- )?([a-z][a-z-]*):(?: +([^#]*?))?(?: +# (.*))?$`)

// Settings lists all that the file can hold, in the order of the reference.
func Settings() []Setting {
	known := map[string]Setting{}
	for _, n := range Names() {
		known[n] = Setting{Name: n}
	}
	add := func(path string, k key) { known[path] = Setting{Name: path, Flag: k.flag, Accepts: k.accepts} }
	walk(schema(new(Config)), "", add)

	var out []Setting
	var path []string // of the section that a line is in
	var indents []int
	var comment []string
	for line := range strings.SplitSeq(reference, "\n") {
		m := referenceLine.FindStringSubmatch(line)
		name := ""
		if m != nil {
			indent := len(m[1]) + len(m[3]) + len(m[5])
			for len(indents) > 0 && indents[len(indents)-1] >= indent {
				path, indents = path[:len(path)-1], indents[:len(indents)-1]
			}
			name = strings.Join(append(path[:len(path):len(path)], m[6]), ".")
			if _, ok := known[name]; ok {
				path, indents = append(path, m[6]), append(indents, indent)
			} else {
				name = "" // a sentence with a colon
			}
		}
		text, isComment := strings.CutPrefix(strings.TrimSpace(line), "#")
		switch {
		case name != "":
			s := known[name]
			s.Value, s.Default = m[7], m[2]+m[4] == "" && !slices.Contains([]string{"listen", "upstream.url"}, name) // which have none
			s.Meaning = strings.Join(append(comment, strings.TrimSpace(m[8])), "\n")
			s.Meaning = strings.TrimSpace(s.Meaning)
			if !slices.ContainsFunc(out, func(o Setting) bool { return o.Name == name }) {
				out = append(out, s)
			}
			comment = nil
		case isComment:
			comment = append(comment, strings.TrimLeft(text, "# ")) // one within an example has two marks
		default:
			comment = nil
		}
	}
	return out
}

// Manual is the list of settings as a page in Markdown.
func Manual() string {
	var b strings.Builder
	b.WriteString(`# Settings

Every setting of the configuration file: what it accepts, its default (or, in italics, an example where there is none), its flag
of ` + "`popgate serve`" + ` where it has one, and what it is for. This page is made of the program; ` + "`popgate check --reference`" + `
prints the same as a file to begin with.

Times are written 30s, 2m or 1h30m; sizes 52428800, 50MB or 50MiB. File names are relative to the folder of the file. An unknown
key is an error with its line.
`)
	row := func(s Setting) {
		value := "`" + s.Value + "`"
		switch {
		case s.Value == "":
			value = ""
		case !s.Default:
			value = "*" + cell(s.Value) + "*"
		}
		flag := ""
		if s.Flag != "" {
			flag = "`--" + s.Flag + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Name, cell(s.Accepts), value, flag, cell(s.Meaning))
	}
	open := false
	for _, s := range Settings() {
		top := !strings.Contains(s.Name, ".")
		if top {
			fmt.Fprintf(&b, "\n## %s\n\n", s.Name)
			open = false
			if s.Accepts == "" {
				if s.Meaning != "" {
					b.WriteString(s.Meaning + "\n\n")
				}
				continue
			}
		}
		if !open {
			b.WriteString("| setting | accepts | default | flag | meaning |\n|---|---|---|---|---|\n")
			open = true
		}
		row(s)
	}
	return b.String()
}

// cell is text in a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", `\<`, "*", `\*`, "_", `\_`).Replace(s)
}
