package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/accounts"
)

type passwdCommand struct {
	User string `arg:"" help:"The account: the user name that the POP3 client gives."`
	File string `short:"f" default:"/etc/popgate/accounts" placeholder:"FILE" help:"The file of accounts; it is made if need be. Default: ${default}."`

	Password         bool    `help:"Ask for the password of the account. Default, where nothing else is to be changed."`
	Shared           bool    `help:"Ask for a shared secret, for APOP, CRAM-MD5 and SCRAM-SHA-256. It is kept as it is, not as a hash."`
	External         *bool   `negatable:"" help:"Whether a verified certificate of this user is enough."`
	UpstreamUser     *string `placeholder:"NAME" help:"The user at the mail server; an empty one: that of the client."`
	UpstreamPassword bool    `help:"Ask for the password at the mail server; an empty one: that of the client."`
	Mailbox          *string `placeholder:"NAME" help:"The mailbox; an empty one: that of the configuration."`
	Delete           bool    `help:"Take the account out."`
}

// Help is shown by --help.
func (passwdCommand) Help() string {
	return `On a terminal each secret is asked for twice, and not shown. Else they are read from standard input, a line each, in the order of the options below. All other lines of the file stay as they are. A running gateway reads the new file within seconds.

Examples:

    popgate passwd --file accounts scanner

    popgate passwd --file accounts --password --upstream-password --upstream-user ann@example.net scanner

    printf 'tanstaaf\n' | popgate passwd --file accounts --shared old-fax

    popgate passwd --file accounts --delete old-fax`
}

// Run asks for what is to be asked for, and changes the file.
func (c *passwdCommand) Run(ctx context.Context, env environment) error {
	change := accounts.Change{Delete: c.Delete, External: c.External, UpstreamUser: c.UpstreamUser, Mailbox: c.Mailbox}
	nothing := !c.Shared && !c.UpstreamPassword && c.External == nil && c.UpstreamUser == nil && c.Mailbox == nil
	if err := changeable(c.File); err != nil {
		return err
	}
	ask := newAsker(ctx, env)
	for _, s := range []struct {
		wanted bool
		empty  bool // accepted
		what   string
		to     **upstream.Secret
	}{
		{c.Password || nothing, false, "Password", &change.Password},
		{c.Shared, true, "Shared secret", &change.SharedSecret},
		{c.UpstreamPassword, true, "Password at the mail server", &change.UpstreamPassword},
	} {
		if !s.wanted || c.Delete {
			continue
		}
		text, err := ask.twice(s.what + " of " + c.User)
		if err != nil {
			return err
		}
		if text == "" && !s.empty {
			return errors.New("an empty password is none; nothing was changed")
		}
		secret := upstream.NewSecret(text)
		*s.to = &secret
	}
	err := accounts.Edit(c.File, c.User, change)
	if errors.Is(err, accounts.ErrNoAccount) {
		return fmt.Errorf("%s: %w; \"cut -d: -f1 %[1]s\" lists those there are", c.File, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	done := "is written"
	if c.Delete {
		done = "is taken out"
	}
	_, err = fmt.Fprintf(env.stdout, "%s: %s %s\n", c.File, c.User, done)
	return err
}

// changeable looks, before anybody is asked for a secret, whether the file can be
// changed or made.
func changeable(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = os.Stat(filepath.Dir(file)); err != nil {
			err = fmt.Errorf("%w; make the folder first", err)
		}
		return err
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// maxAnswer bounds a line that is read from standard input, in octets.
const maxAnswer = 1 << 10

// An asker gets secrets from the user.
type asker struct {
	ctx   context.Context // its end is Ctrl-C
	out   io.Writer
	lines *bufio.Reader // nil: there is a terminal

	// Of the terminal: read a line that it does not show, and show lines again.
	hide func() ([]byte, error)
	show func() error
}

func newAsker(ctx context.Context, env environment) *asker {
	fd := int(os.Stdin.Fd())
	if before, err := term.GetState(fd); err == nil {
		return &asker{ctx: ctx, out: env.stderr,
			hide: func() ([]byte, error) { return term.ReadPassword(fd) },
			show: func() error { return term.Restore(fd, before) },
		}
	}
	return &asker{ctx: ctx, lines: bufio.NewReaderSize(os.Stdin, maxAnswer)}
}

// twice reads one secret that is new: a terminal is asked twice.
func (a *asker) twice(what string) (string, error) {
	first, err := a.once(what)
	if err != nil || a.lines != nil {
		return first, err
	}
	second, err := a.once("Once more")
	if err == nil && first != second {
		err = errors.New("the two are not the same; nothing was changed: try again")
	}
	return first, err
}

// once reads one secret. When ctx ends the terminal is as it was before; the read
// that is left behind ends with the process.
func (a *asker) once(what string) (string, error) {
	read, undo := a.line, func() error { return nil }
	if a.lines == nil {
		read, undo = a.hidden, a.show
		fmt.Fprint(a.out, what+": ")
		defer fmt.Fprintln(a.out)
	}
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := read()
		got <- answer{text, err}
	}()
	select {
	case a := <-got:
		if a.err != nil {
			a.err = fmt.Errorf("%s: %w", what, a.err)
		}
		return a.text, a.err
	case <-a.ctx.Done():
		return "", errors.Join(a.ctx.Err(), undo())
	}
}

// line reads a line of standard input.
func (a *asker) line() (string, error) {
	line, err := a.lines.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("a line of more than %d octets", maxAnswer)
	case errors.Is(err, io.EOF) && len(line) == 0:
		return "", usageError{errors.New("nothing was left on standard input; give it a line there, or run this on a terminal")}
	case err != nil && !errors.Is(err, io.EOF):
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// hidden reads a line that the terminal does not show.
func (a *asker) hidden() (string, error) {
	text, err := a.hide()
	if errors.Is(err, io.EOF) {
		err = errors.New("nothing was entered; nothing was changed")
	}
	return string(text), err
}
