package clidoc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"

	"github.com/popgate/popgate/cmd/internal/clidoc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cli is a small program whose texts are full of what shells and troff read.
type cli struct {
	Verbose bool `short:"v" help:"Say more."`
	Run     struct {
		How  string `complete:"fast,slow" placeholder:"HOW" help:"How: it's [fast] or slow (or $HOME \\ \"both\"). More."`
		File string `short:"f" placeholder:"FILE" help:"A file."`
		Text string `placeholder:"TEXT" help:"Any text."`
	} `cmd:"" help:"Run 'it' at once: now."`
	Token struct {
		Login struct {
			Account string `arg:"" help:"Whose."`
		} `cmd:"" help:"Get one."`
		Show struct {
			Form string `arg:"" complete:"long,short" help:"In which form."`
		} `cmd:"" help:"Show them."`
	} `cmd:"" help:"Tokens."`
	Secret struct{} `cmd:"" hidden:"" help:"Hidden."`
}

func model(t *testing.T) *kong.Node {
	t.Helper()
	k, err := kong.New(&cli{}, kong.Name("prog"), kong.Description("A program. It runs.\n\n.For example:\n\n    prog run --how fast\n"))
	if err != nil {
		t.Fatal(err)
	}
	return k.Model.Node
}

// shell is a shell that is here.
func shell(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not here", name)
	}
	return path
}

// script writes the completion script for a shell to a file.
func script(t *testing.T, shell string) string {
	t.Helper()
	text, err := clidoc.Completion(shell, model(t))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "Hidden") {
		t.Error("a hidden command shows")
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// completions are command lines, up to the cursor, and what is offered.
var completions = []struct {
	line string
	want []string // in order of the alphabet; those that begin with a dash left out where none is asked for
}{
	{"prog ", []string{"run", "token"}},
	{"prog r", []string{"run"}},
	{"prog run --h", []string{"--help", "--how"}},
	{"prog run --how ", []string{"fast", "slow"}},
	{"prog run --how s", []string{"slow"}},
	{"prog run --text ", nil},
	{"prog run --verb", []string{"--verbose"}},
	{"prog token ", []string{"login", "show"}},
	{"prog token show ", []string{"long", "short"}},
	{"prog token login ", nil},
	{"prog -v token s", []string{"show"}},
	{"prog run --file /etc/passw", []string{"/etc/passwd"}},
}

func compare(t *testing.T, line string, got, want []string) {
	t.Helper()
	got = slices.DeleteFunc(got, func(s string) bool {
		return s == "" || strings.HasPrefix(s, "-") && strings.HasSuffix(line, " ") || strings.HasPrefix(s, "/etc/passwd-")
	})
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%q: %q are offered, want %q", line, got, want)
	}
}

func TestBashCompletes(t *testing.T) {
	bash, file := shell(t, "bash"), script(t, "bash")
	for _, tt := range completions {
		words := strings.Split(tt.line, " ")
		cmd := exec.CommandContext(t.Context(), bash, append([]string{"--norc", "-c",
			`source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _prog; printf '%s\n' "${COMPREPLY[@]}"`, file}, words...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		compare(t, tt.line, strings.Split(strings.TrimSpace(string(out)), "\n"), tt.want)
	}
}

func TestFishCompletes(t *testing.T) {
	fish, file := shell(t, "fish"), script(t, "fish")
	for _, tt := range completions {
		cmd := exec.CommandContext(t.Context(), fish, "--no-config", "-c", `source $argv[1]; complete -C $argv[2]`, file, tt.line)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var got []string
		for line := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		compare(t, tt.line, got, tt.want)
	}
}

// What zsh offers takes a terminal to see; that it reads the script does not.
func TestZshReadsTheScript(t *testing.T) {
	zsh, file := shell(t, "zsh"), script(t, "zsh")
	if out, err := exec.CommandContext(t.Context(), zsh, "-f", "-n", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAnotherShellIsAnError(t *testing.T) {
	if _, err := clidoc.Completion("tcsh", model(t)); err == nil || !strings.Contains(err.Error(), "bash, fish, zsh") {
		t.Errorf("the error is %v, want what there is", err)
	}
}

func TestTheManualPage(t *testing.T) {
	page := clidoc.Man(model(t), "v1.2.3")
	for _, want := range []string{`.TH "PROG" "8" "" "prog v1.2.3"`, `prog \- program`, `\fBprog run\fR [\fIflag\fR ...]`, `\fBprog token login\fR \fIACCOUNT\fR`,
		`.SS "prog token show"`, `\fB\-f\fR, \fB\-\-file\fR \fIFILE\fR`, `\&.For example:`, `$HOME \e "both"`} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing in\n%s", want, page)
		}
	}
	if strings.Contains(page, "Hidden") {
		t.Error("a hidden command shows")
	}
	if page != clidoc.Man(model(t), "v1.2.3") {
		t.Error("two pages differ")
	}
	groff := shell(t, "groff")
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-ww", "-z")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}
