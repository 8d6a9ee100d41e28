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
	stdout, stderr io.Writer
	flags          config.Flags // those of the configuration that were given
}

// run is the program: it parses args, runs one command until it is done or ctx
// ends, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cli commands
	helped := false
	parser, err := kong.New(&cli,
		kong.Name("popgate"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
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
	if err != nil {
		fmt.Fprintf(stderr, "popgate: %v\n", err)
		fmt.Fprintf(stderr, "Run \"popgate %s\" for what there is.\n", strings.Join(append(commandOf(err), "--help"), " "))
		return exitUsage
	}
	env := environment{stdout: stdout, stderr: stderr, flags: given(parsed)}
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(env); err != nil {
		return explain(stderr, err)
	}
	return exitOK
}

// commandOf returns the command that a usage error is about, if it got so far.
func commandOf(err error) []string {
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context.Selected() != nil {
		return []string{p.Context.Selected().Name}
	}
	return nil
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

// explain prints an error and returns its exit code.
func explain(stderr io.Writer, err error) int {
	if problems, ok := errors.AsType[config.Problems](err); ok {
		if _, told := errors.AsType[reported](err); told {
			return exitUsage
		}
		for _, p := range problems {
			fmt.Fprintln(stderr, "popgate:", p)
		}
		return exitUsage
	}
	fmt.Fprintln(stderr, "popgate:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}
