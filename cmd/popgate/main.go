package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/cmd/internal/screen"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // failed at run time
	exitUsage  = 2 // a usage or configuration error
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		// From here on signals have their usual effect: a second one ends the
		// process at once.
		signal.Stop(signals)
		cancel()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// commands is the command line.
type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run the gateway."`
	Check   checkCommand   `cmd:"" help:"Check a configuration without running it."`
	Route   routeCommand   `cmd:"" help:"Tell where a login goes, and why."`
	Passwd  passwdCommand  `cmd:"" help:"Write local accounts: users whom the gateway proves itself."`
	Demo    demoCommand    `cmd:"" help:"Show a POP3 session against an IMAP server in memory, then keep serving."`
	OAuth   oauthCommand   `cmd:"" name:"oauth" help:"Access tokens for mail services that take no passwords."`
	Version versionCommand `cmd:"" help:"Print the version."`

	Completion completionCommand `cmd:"" help:"Print a script that completes the command line in a shell."`
	Man        manCommand        `cmd:"" help:"Print the manual page."`
}

const description = `A POP3 gateway in front of IMAP and JMAP mailboxes. A mail program that speaks POP3 reads and deletes the mail of an account; its user name and password are used at the mail server as they are.

To see it at work:

    popgate demo

To run it:

    popgate serve --listen pop3://127.0.0.1:1110 --upstream imaps://imap.example.net

It exits with 0 when all went well, with 1 when something failed while running, and with 2 when the command line or the configuration is wrong.`

// environment is what a command may use of the world.
type environment struct {
	stdout   *screen.Screen
	stderr   io.Writer
	progress *screen.Screen // stderr, for the line of progress and for errors
	flags    config.Flags   // those of the configuration that were given
}

// run is the program: it parses args, runs one command until it is done or ctx
// ends, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cli commands
	env := environment{stdout: screen.Of(stdout, os.Getenv), stderr: stderr, progress: screen.Of(stderr, os.Getenv)}
	helped := false
	parser, err := kong.New(&cli,
		kong.Name("popgate"),
		kong.Description(description),
		kong.Writers(env.stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.Exit(func(int) { helped = true }), // called after --help, and nowhere else
	)
	if err != nil {
		fmt.Fprintln(stderr, "popgate:", err) // a fault in the declarations above
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if failed := env.stdout.Err(); failed != nil { // of the help
		return explain(env.progress, failed)
	}
	if err != nil {
		return misused(env.progress, err)
	}
	env.flags = given(parsed)
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(env)
	if err == nil {
		err = env.stdout.Err()
	}
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && interrupted(err):
		err = errors.New("interrupted")
	}
	return explain(env.progress, err)
}

// interrupted reports whether err is that of a context that ended, and nothing else
// beside it.
func interrupted(err error) bool {
	for err != nil && err != context.Canceled {
		if all, ok := err.(interface{ Unwrap() []error }); ok && len(all.Unwrap()) == 1 {
			err = all.Unwrap()[0]
			continue
		}
		err = errors.Unwrap(err)
	}
	return err != nil
}

// misused prints what is wrong with the command line.
func misused(out *screen.Screen, err error) int {
	p, _ := errors.AsType[*kong.ParseError](err)
	text, node := err.Error(), p.Context.Selected()
	if node == nil {
		node = p.Context.Model.Node
	}
	if strings.HasPrefix(text, "expected one of") {
		var names []string
		for _, c := range node.Children {
			names = append(names, c.Name)
		}
		text = "a command is missing: " + strings.Join(names, ", ")
	}
	if name, ok := strings.CutPrefix(text, "unexpected argument "); ok && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) {
		text += "; a configuration file is given by --config " + name
	}
	if flag, _, ok := strings.Cut(text, `: expected string value but got "EOL"`); ok {
		text = flag + " needs a value behind it"
	}
	if name, ok := strings.CutPrefix(text, `expected "<`); ok {
		name, _, _ = strings.Cut(name, ">")
		text = strings.ToUpper(name) + " is missing"
	}
	fmt.Fprintln(out, out.Paint(screen.Bad, "popgate:"), text)
	fmt.Fprintf(out, "Run \"%s --help\" for what there is.\n", node.FullPath())
	return exitUsage
}

// given collects the flags that the configuration knows.
func given(parsed *kong.Context) config.Flags {
	known := map[string]bool{}
	for _, name := range config.FlagNames() {
		known[name] = true
	}
	flags := config.Flags{}
	for _, f := range parsed.Flags() {
		if !f.Set || !known[f.Name] {
			continue
		}
		switch v := f.Target.Interface().(type) {
		case string:
			flags[f.Name] = []string{v}
		case []string:
			flags[f.Name] = v
		}
	}
	return flags
}

// explain prints an error, with what to do about it, and returns its exit code.
func explain(out *screen.Screen, err error) int {
	problems, wrong := errors.AsType[config.Problems](err)
	_, misused := errors.AsType[usageError](err)
	code := exitFailed
	if wrong || misused {
		code = exitUsage
	}
	if _, told := errors.AsType[reported](err); told {
		return code
	}
	name := out.Paint(screen.Bad, "popgate:")
	if wrong {
		for _, p := range problems {
			fmt.Fprintln(out, name, p)
		}
		return code
	}
	fmt.Fprintln(out, name, err)
	if text := hint(err); text != "" {
		fmt.Fprintln(out, name, text)
	}
	return code
}
