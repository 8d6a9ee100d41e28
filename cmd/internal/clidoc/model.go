package clidoc

import (
	"strings"

	"github.com/alecthomas/kong"
)

// A command is a command with all that can follow it.
type command struct {
	path  string // "popgate oauth login"
	node  *kong.Node
	flags []*kong.Flag // its own, and those of the commands above it
	subs  []*kong.Node
}

// commands lists the program and its commands, each before those below it.
func commands(app *kong.Node) []command {
	var all []command
	var add func(n *kong.Node, path string, above []*kong.Flag)
	add = func(n *kong.Node, path string, above []*kong.Flag) {
		c := command{path: path, node: n, flags: above[:len(above):len(above)]}
		for _, f := range n.Flags {
			if !f.Hidden {
				c.flags = append(c.flags, f)
			}
		}
		for _, sub := range n.Children {
			if !sub.Hidden {
				c.subs = append(c.subs, sub)
			}
		}
		all = append(all, c)
		for _, sub := range c.subs {
			add(sub, path+" "+sub.Name, c.flags)
		}
	}
	add(app, app.Name, nil)
	return all
}

// offer is what a shell may offer for the value of a flag.
type offer struct {
	words []string
	files bool
}

func offers(f *kong.Flag) offer {
	if list := f.Tag.Get("complete"); list != "" {
		return offer{words: strings.Split(list, ",")}
	}
	return offer{files: f.PlaceHolder == "FILE"}
}

// spellings are a flag's names as they are typed.
func spellings(f *kong.Flag) []string {
	names := []string{"--" + f.Name}
	if f.Short != 0 {
		names = append([]string{"-" + string(f.Short)}, names...)
	}
	return names
}

// firstSentence is what a menu has room for.
func firstSentence(help string) string {
	if i := strings.Index(help, ". "); i >= 0 {
		help = help[:i]
	}
	if i := strings.Index(help, ": "); i >= 0 {
		help = help[:i]
	}
	return strings.TrimSuffix(help, ".")
}

// paragraphs splits the long help of a command.
func paragraphs(detail string) []string {
	var list []string
	for p := range strings.SplitSeq(detail, "\n\n") {
		if p = strings.Trim(p, "\n"); p != "" {
			list = append(list, p)
		}
	}
	return list
}
