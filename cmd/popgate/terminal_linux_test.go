package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/popgate/popgate/cmd/internal/screen/screentest"
)

// onTerminal starts popgate with a terminal for everything, and this in its
// environment.
func onTerminal(t *testing.T, term *screentest.Terminal, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append([]string{asProgram + "=1"}, env...), "PATH="+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.Program, term.Program, term.Program
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func code(cmd *exec.Cmd) int {
	_ = cmd.Wait() // the code tells
	return cmd.ProcessState.ExitCode()
}

// Ctrl-C, which is a signal, ends a prompt at once; the terminal is as it was, and
// so is the file.
func TestCtrlCEndsAPromptAndNothingIsLost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accounts")
	for _, args := range [][]string{
		{"passwd", "--file", file, "ann"},
		{"check", "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://127.0.0.1:1", "--user", "ann"},
	} {
		term := screentest.New(t, 80)
		cmd := onTerminal(t, term, []string{"TERM=xterm"}, args...)
		term.Await("Password of ann: ")
		term.AwaitEcho(false)
		if args[0] == "passwd" { // the terminal has taken a line when there is an answer to it
			term.Type("typed\n")
			term.Await("Once more: ")
			term.AwaitEcho(false)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if c := code(cmd); c != exitFailed {
			t.Errorf("%s: exit code %d", args[0], c)
		}
		term.Await("interrupted")
		term.AwaitEcho(true)
		if shown := term.Text(); strings.Contains(shown, "typed") {
			t.Errorf("%s shows what was typed: %q", args[0], shown)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file was made")
	}
}

func TestColourOnATerminalAlone(t *testing.T) {
	for _, tt := range []struct {
		args  string
		env   string
		paint string // what is there only with colour
	}{
		{"demo --once", "TERM=xterm", "\x1b[1mC: QUIT\x1b[0m"},
		{"check --listen x --upstream y", "TERM=xterm", "\x1b[31mpopgate:\x1b[0m"},
		{"serve --nothing", "TERM=xterm", "\x1b[31mpopgate:\x1b[0m"},
		{"demo --once", "TERM=dumb", ""},
		{"demo --once", "TERM=xterm NO_COLOR=1", ""},
		{"check --connect --listen pop3://127.0.0.1:0 --upstream imap://127.0.0.1:1", "TERM=xterm NO_COLOR=1", ""},
		{"check --connect --listen pop3://127.0.0.1:0 --upstream imap://127.0.0.1:1", "TERM=xterm", "\x1b[31mFAIL\x1b[0m"},
	} {
		term := screentest.New(t, 40)
		code(onTerminal(t, term, strings.Fields(tt.env), strings.Fields(tt.args)...))
		term.Close()
		shown := term.Text()
		if painted := strings.Contains(shown, "\x1b[0m"); painted != (tt.paint != "") || !strings.Contains(shown, tt.paint) {
			t.Errorf("%s with %s shows %q", tt.args, tt.env, shown)
		}
	}
	if _, stdout, stderr := process(t, "", "demo", "--once"); strings.Contains(stdout+stderr, "\x1b") {
		t.Error("a pipe gets colour")
	}
}

// Who waits for a consent sees that it is waited for, and for how long; Ctrl-C ends
// it.
func TestOAuthLoginShowsThatItWaits(t *testing.T) {
	issuer, file := oauthConfig(t, true)
	issuer.Pending = 1000
	term := screentest.New(t, 80)
	cmd := onTerminal(t, term, []string{"TERM=xterm"}, "oauth", "login", "-c", file, alice)
	term.Await("ABCD-EFGH")
	term.Await("waiting for the consent, ")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if c := code(cmd); c != exitFailed {
		t.Errorf("exit code %d", c)
	}
	term.Await("interrupted")
	if shown := term.Text(); strings.Contains(shown, "context canceled") {
		t.Errorf("%q", shown)
	}
}
