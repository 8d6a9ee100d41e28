package clidoc

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// Shells lists what [Completion] knows.
func Shells() []string { return []string{"bash", "fish", "zsh"} }

// Completion returns the script that lets a shell complete the program's command
// line.
func Completion(shell string, app *kong.Node) (string, error) {
	switch shell {
	case "bash":
		return bash(app), nil
	case "fish":
		return fish(app), nil
	case "zsh":
		return zsh(app), nil
	}
	return "", fmt.Errorf("no completion for %q; there is %s", shell, strings.Join(Shells(), ", "))
}

// single quotes for a POSIX shell.
func single(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// walk is the part that finds out, word by word, which command is being typed: in
// $cmd its path, in $depth its length. at is the first word, before the last one.
func walk(all []command, words, last string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  local cmd=%s depth=1 i\n", single(all[0].path))
	fmt.Fprintf(&b, "  for ((i = %s; i < %s; i++)); do\n    case \"$cmd ${%s[i]}\" in\n", map[string]string{"COMP_WORDS": "1", "words": "2"}[words], last, words)
	for _, c := range all[1:] {
		fmt.Fprintf(&b, "      %s) cmd=%s; depth=$((depth + 1)) ;;\n", single(c.path), single(c.path))
	}
	b.WriteString("    esac\n  done\n")
	return b.String()
}

func bash(app *kong.Node) string {
	all := commands(app)
	name := "_" + strings.ReplaceAll(app.Name, "-", "_")
	var b strings.Builder
	fmt.Fprintf(&b, "# bash completion for %s\n%s() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n", app.Name, name)
	b.WriteString(walk(all, "COMP_WORDS", "COMP_CWORD"))
	b.WriteString("  case \"$cmd $prev\" in\n")
	for _, c := range all {
		for _, f := range c.flags {
			if f.IsBool() {
				continue
			}
			var patterns []string
			for _, s := range spellings(f) {
				patterns = append(patterns, single(c.path+" "+s))
			}
			fmt.Fprintf(&b, "    %s) ", strings.Join(patterns, "|"))
			switch o := offers(f); {
			case o.files:
				b.WriteString(`compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;`)
			case len(o.words) > 0:
				fmt.Fprintf(&b, `mapfile -t COMPREPLY < <(compgen -W %s -- "$cur"); return ;;`, single(strings.Join(o.words, " ")))
			default:
				b.WriteString("COMPREPLY=(); return ;;")
			}
			b.WriteByte('\n')
		}
	}
	b.WriteString("  esac\n  case \"$cmd\" in\n")
	for _, c := range all {
		var words []string
		for _, s := range c.subs {
			words = append(words, s.Name)
		}
		for _, a := range c.node.Positional {
			if list := a.Tag.Get("complete"); list != "" {
				words = append(words, strings.Split(list, ",")...)
			}
		}
		for _, f := range c.flags {
			words = append(words, "--"+f.Name)
		}
		fmt.Fprintf(&b, "    %s) words=%s ;;\n", single(c.path), single(strings.Join(words, " ")))
	}
	fmt.Fprintf(&b, "  esac\n  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\ncomplete -F %s %s\n", name, app.Name)
	return b.String()
}

func zsh(app *kong.Node) string {
	all := commands(app)
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n\n_%s() {\n", app.Name, app.Name)
	b.WriteString(walk(all, "words", "CURRENT"))
	b.WriteString("  shift $((depth - 1)) words\n  ((CURRENT -= depth - 1))\n  case \"$cmd\" in\n")
	for _, c := range all {
		fmt.Fprintf(&b, "    %s)\n      _arguments -S", single(c.path))
		for _, f := range c.flags {
			repeat := ""
			if f.IsCumulative() {
				repeat = "*"
			}
			spec := fmt.Sprintf("%s--%s[%s]", repeat, f.Name, bracket(firstSentence(f.Help)))
			if !f.IsBool() {
				action := ""
				switch o := offers(f); {
				case o.files:
					action = "_files"
				case len(o.words) > 0:
					action = "(" + strings.Join(o.words, " ") + ")"
				}
				spec = fmt.Sprintf("%s--%s=[%s]:%s:%s", repeat, f.Name, bracket(firstSentence(f.Help)), placeholder(f), action)
			}
			b.WriteString(" \\\n        " + single(spec))
		}
		switch {
		case len(c.subs) > 0:
			var words []string
			for _, s := range c.subs {
				words = append(words, fmt.Sprintf("%s\\:%s", s.Name, zshItem(firstSentence(s.Help))))
			}
			b.WriteString(" \\\n        " + single("1:command:(("+strings.Join(words, " ")+"))"))
		case len(c.node.Positional) > 0:
			for _, a := range c.node.Positional {
				action := ""
				if list := a.Tag.Get("complete"); list != "" {
					action = "(" + strings.ReplaceAll(list, ",", " ") + ")"
				}
				b.WriteString(" \\\n        " + single(":"+a.Name+":"+action))
			}
		}
		b.WriteString("\n      ;;\n")
	}
	fmt.Fprintf(&b, "  esac\n}\n\n_%s \"$@\"\n", app.Name)
	return b.String()
}

// bracket keeps text within the brackets of a zsh specification.
func bracket(s string) string {
	return strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`).Replace(s)
}

// zshItem is the description of one choice of a list.
func zshItem(s string) string {
	return strings.NewReplacer(`\`, `\\`, " ", `\ `, ":", `\:`, "(", `\(`, ")", `\)`).Replace(s)
}

func fish(app *kong.Node) string {
	all := commands(app)
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion for %s\ncomplete -c %[1]s -f\n", app.Name)
	for _, c := range all {
		when := fishWhen(c)
		for _, s := range c.subs {
			fmt.Fprintf(&b, "complete -c %s -n %s -a %s -d %s\n", app.Name, fishQuote(when), fishQuote(s.Name), fishQuote(firstSentence(s.Help)))
		}
		for _, a := range c.node.Positional {
			if list := a.Tag.Get("complete"); list != "" {
				fmt.Fprintf(&b, "complete -c %s -n %s -a %s\n", app.Name, fishQuote(when), fishQuote(strings.ReplaceAll(list, ",", " ")))
			}
		}
		for _, f := range c.flags {
			fmt.Fprintf(&b, "complete -c %s -n %s -l %s", app.Name, fishQuote(when), f.Name)
			if f.Short != 0 {
				fmt.Fprintf(&b, " -s %c", f.Short)
			}
			switch o := offers(f); {
			case f.IsBool():
			case o.files:
				b.WriteString(" -r -F")
			case len(o.words) > 0:
				fmt.Fprintf(&b, " -x -a %s", fishQuote(strings.Join(o.words, " ")))
			default:
				b.WriteString(" -x")
			}
			fmt.Fprintf(&b, " -d %s\n", fishQuote(firstSentence(f.Help)))
		}
	}
	return b.String()
}

// fishWhen is the condition under which a command is the one being typed: its
// words are there, and no command below it.
func fishWhen(c command) string {
	var parts []string
	for _, word := range strings.Fields(c.path)[1:] {
		parts = append(parts, "__fish_seen_subcommand_from "+word)
	}
	if len(c.subs) > 0 {
		var names []string
		for _, s := range c.subs {
			names = append(names, s.Name)
		}
		parts = append(parts, "not __fish_seen_subcommand_from "+strings.Join(names, " "))
	}
	return strings.Join(parts, "; and ")
}

// fishQuote quotes for fish, which knows two escapes within single quotes.
func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
