package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/cmd/internal/config"
)

// asProgram in the environment makes the test binary be popgate itself.
const asProgram = "POPGATE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// writeConfig writes a configuration file and returns its name.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "popgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// invoke runs the program to its end.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing here is to serve
	var out, err bytes.Buffer
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

func TestCommandLine(t *testing.T) {
	good := writeConfig(t, "listen: pop3://127.0.0.1:0\nupstream: {url: imap://127.0.0.1}\n")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	bad := writeConfig(t, "listen: pop3://127.0.0.1:0\nupstream: {url: imap://127.0.0.1}\ndelete: purge\n")
	for _, tt := range []struct {
		name   string
		args   string
		code   int
		stdout string // a part of it; empty: nothing at all
		stderr string
	}{
		{"nothing", "", 2, "", `Run "popgate --help"`},
		{"help", "--help", 0, "popgate serve --listen", ""},
		{"help_of_a_command", "serve --help", 0, "--upstream=URL", ""},
		{"help_of_no_command_is_short", "--help", 0, "more information on a command", ""},
		{"an_unknown_command", "server", 2, "", `Run "popgate --help"`},
		{"an_unknown_flag", "serve --colour red", 2, "", `Run "popgate serve --help"`},
		{"a_flag_without_its_value", "serve --listen", 2, "", "--listen"},
		{"an_argument_too_many", "version now", 2, "", "now"},
		{"a_flag_at_the_end_without_its_value", "check --config", 2, "", "--config needs a value"},
		{"a_file_without_its_flag", "check " + good, 2, "", "given by --config " + good},
		{"an_argument_that_is_missing", "oauth login --config " + good, 2, "", `Run "popgate oauth login --help"`},
		{"a_route_from_no_address", "route -c " + good + " --from here ann", 2, "", `"here" is no address`},
		{"a_route_by_no_listener", "route -c " + good + " --listener here ann", 2, "", "use one of pop3://127.0.0.1:0"},
		{"passwd_in_no_folder", "passwd --file " + good + "/none/accounts ann", 1, "", "not a directory"},
		{"demo_on_no_address", "demo --imap here", 2, "", "use HOST:PORT"},
		{"demo_on_no_port", "demo --imap 127.0.0.1:99999", 2, "", "0 to 65535"},
		{"version", "version", 0, "popgate ", ""},
		{"check_a_good_file", "check --config " + good, 0, good + ": ok\n", ""},
		{"check_flags_alone", "check --listen pop3://127.0.0.1 --upstream imap://127.0.0.1", 0, "command line: ok\n", ""},
		{"check_a_bad_file", "check --config " + bad, 2, "", bad + `:3: delete: "purge" is not accepted; use expunge, trash, hide or refuse`},
		{"check_flags_override", "check -c " + bad + " --delete hide", 2, "", ":3: delete"},
		{"check_nothing", "check", 2, "", "--listen is missing"},
		{"check_warns", "check -c " + good + " --clear-text-login anywhere", 0, ": ok\n", "popgate: warning: clear-text-login"},
		{"check_prints_the_reference", "check --reference", 0, "listen:", ""},
		{"serve_a_bad_file", "serve --config " + bad, 2, "", bad + ":3: delete"},
		{"serve_without_a_file_that_is_there", "serve --config " + bad + ".none", 2, "", "no such file"},
		{"serve_on_an_address_that_is_not_ours", "serve --listen pop3://192.0.2.1:0 --clear-text-login anywhere --upstream imap://127.0.0.1", 1, "", "192.0.2.1"},
		{"serve_on_an_address_that_is_taken", "serve --listen pop3://" + taken + " --upstream imap://127.0.0.1", 1, "", `"ss -ltnp" names it`},
		{"serve_with_metrics_on_an_address_that_is_not_ours", "serve -c " + good + " --metrics 192.0.2.1:0", 1, "", "192.0.2.1"},
		{"demo_on_other_addresses", "demo --once --listen pop3://0.0.0.0:0", 2, "", "nobody could log in"},
		{"demo_with_tls", "demo --once --listen pop3s://127.0.0.1:0", 2, "", "needs a certificate"},
		{"demo_imap_on_other_addresses", "demo --once --imap 0.0.0.0:0", 1, "", "loopback"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := invoke(t, strings.Fields(tt.args)...)
			if code != tt.code {
				t.Errorf("popgate %s: exit code %d, want %d", tt.args, code, tt.code)
			}
			if !strings.Contains(stdout, tt.stdout) || tt.stdout == "" && stdout != "" {
				t.Errorf("popgate %s: stdout %q, want %q", tt.args, stdout, tt.stdout)
			}
			if !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("popgate %s: stderr %q, want %q", tt.args, stderr, tt.stderr)
			}
		})
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What cannot be printed is a failure, whatever the command.
func TestOutputThatIsLostIsAFailure(t *testing.T) {
	good := writeConfig(t, "listen: pop3://127.0.0.1:0\nupstream: {url: imap://127.0.0.1}\n")
	for _, args := range []string{"version", "man", "--help", "check --reference", "check -c " + good, "route -c " + good + " ann", "demo --once", "completion bash"} {
		var stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), fullDisk{}, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "no space") {
			t.Errorf("popgate %s: exit code %d, %s", args, code, &stderr)
		}
	}
}

// Every flag of the configuration is on the command line of serve and of
// check, and each help text says what holds without it.
func TestEveryFlagIsThereAndTellsItsDefault(t *testing.T) {
	for _, command := range []string{"serve", "check"} {
		_, help, _ := invoke(t, command, "--help")
		for _, name := range config.FlagNames() {
			if !strings.Contains(help, "--"+name+"=") {
				t.Errorf("popgate %s --help has no --%s", command, name)
			}
		}
	}
	_, help, _ := invoke(t, "serve", "--help")
	_, list, _ := strings.Cut(help, "Flags:")
	text := strings.Join(strings.Fields(list), " ")
	next := regexp.MustCompile(" --[a-z-]+=")
	for _, name := range config.FlagNames() {
		_, about, _ := strings.Cut(text, "--"+name+"=")
		about = next.Split(about, 2)[0]
		if !strings.Contains(about, "Default: ") && !strings.Contains(about, "Required") {
			t.Errorf("--%s does not tell its default: %s", name, about)
		}
	}
}

func TestEveryCommandTeachesByExample(t *testing.T) {
	for _, command := range []string{"serve", "check", "demo", "passwd"} {
		_, help, _ := invoke(t, command, "--help")
		if !strings.Contains(help, "Examples:") || strings.Count(help, "popgate "+command) < 3 {
			t.Errorf("popgate %s --help:\n%s", command, help)
		}
	}
}

// The examples of the help texts are right.
func TestExamplesParse(t *testing.T) {
	for _, command := range []string{"serve", "check", "demo", "passwd"} {
		_, help, _ := invoke(t, command, "--help")
		var examples []string
		for line := range strings.Lines(help) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "popgate" && strings.HasPrefix(line, " ") {
				examples = append(examples, line)
			}
		}
		if len(examples) == 0 {
			t.Errorf("popgate %s --help has no example on a line of its own:\n%s", command, help)
		}
		for _, line := range examples {
			args, _, _ := strings.Cut(line, ">")
			// With --help behind it, an example is parsed but does nothing.
			code, _, stderr := invoke(t, append(slices.Clip(strings.Fields(args)[1:]), "--help")...)
			if code != 0 || stderr != "" {
				t.Errorf("%s: exit code %d, %s", line, code, stderr)
			}
		}
	}
}
