package clidoc

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// Man returns the manual page of the program, section 8, in the man(7) macros.
func Man(app *kong.Node, version string) string {
	p := &page{}
	p.line(".TH", strings.ToUpper(app.Name), "8", "", app.Name+" "+version, "System administration")
	p.line(".SH", "NAME")
	summary, _, _ := strings.Cut(app.Help, ". ")
	p.text(app.Name + ` \- ` + escape(lowerFirst(strings.TrimPrefix(summary, "A "))))
	p.line(".SH", "SYNOPSIS")
	all := commands(app)
	for i, c := range all[1:] {
		if len(c.subs) > 0 {
			continue
		}
		if i > 0 {
			p.line(".br")
		}
		p.text(`\fB` + escape(c.path) + `\fR` + synopsis(c))
	}
	p.line(".SH", "DESCRIPTION")
	p.paragraphs(app.Help)
	p.line(".SH", "COMMANDS")
	for _, c := range all[1:] {
		p.line(".SS", c.path)
		p.text(escape(c.node.Help))
		p.paragraphs(c.node.Detail)
		for _, a := range c.node.Positional {
			p.line(".TP")
			p.text(`\fI` + escape(strings.ToUpper(a.Name)) + `\fR`)
			p.text(escape(a.Help))
		}
		for _, f := range c.node.Flags {
			if f.Hidden {
				continue
			}
			p.line(".TP")
			p.text(flagLine(f))
			p.text(escape(f.Help))
		}
	}
	return p.String()
}

// synopsis is what follows a command.
func synopsis(c command) string {
	var b strings.Builder
	if len(c.node.Flags) > 0 {
		b.WriteString(` [\fIflag\fR ...]`)
	}
	for _, a := range c.node.Positional {
		name := `\fI` + escape(strings.ToUpper(a.Name)) + `\fR`
		if !a.Required {
			name = "[" + name + "]"
		}
		b.WriteString(" " + name)
	}
	return b.String()
}

func flagLine(f *kong.Flag) string {
	var names []string
	for _, s := range spellings(f) {
		names = append(names, `\fB`+escape(s)+`\fR`)
	}
	line := strings.Join(names, ", ")
	if !f.IsBool() {
		line += ` \fI` + escape(placeholder(f)) + `\fR`
	}
	return line
}

func placeholder(f *kong.Flag) string {
	if f.PlaceHolder != "" {
		return f.PlaceHolder
	}
	return strings.ToUpper(f.Name)
}

// A page is a manual page as it grows.
type page struct{ strings.Builder }

// line writes a macro with its arguments.
func (p *page) line(macro string, args ...string) {
	p.WriteString(macro)
	for _, a := range args {
		fmt.Fprintf(p, ` "%s"`, strings.ReplaceAll(escape(a), `"`, `\(dq`))
	}
	p.WriteByte('\n')
}

// text writes one line of text, which is escaped already.
func (p *page) text(s string) {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s // no macro
	}
	p.WriteString(s + "\n")
}

func (p *page) paragraphs(text string) {
	for _, para := range paragraphs(text) {
		p.line(".PP")
		if !strings.HasPrefix(para, "    ") {
			p.text(escape(strings.ReplaceAll(para, "\n", " ")))
			continue
		}
		p.line(".RS", "4")
		p.line(".nf")
		for l := range strings.SplitSeq(para, "\n") {
			p.text(escape(strings.TrimPrefix(l, "    ")))
		}
		p.line(".fi")
		p.line(".RE")
	}
}

// escape keeps what troff would read as its own. A hyphen stays one that can be
// copied into a shell.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s // an abbreviation
	}
	return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):]
}
