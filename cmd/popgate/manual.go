package main

import (
	"io"

	"github.com/alecthomas/kong"

	"github.com/popgate/popgate/cmd/internal/clidoc"
)

type completionCommand struct {
	Shell string `arg:"" complete:"bash,fish,zsh" help:"bash, fish or zsh."`
}

// Help is shown by --help.
func (completionCommand) Help() string {
	return `For this session of bash, or for good:

    source <(popgate completion bash)

    popgate completion bash > /etc/bash_completion.d/popgate

    popgate completion zsh > /usr/local/share/zsh/site-functions/_popgate

    popgate completion fish > ~/.config/fish/completions/popgate.fish`
}

// Run prints the script.
func (c *completionCommand) Run(env environment, k *kong.Context) error {
	script, err := clidoc.Completion(c.Shell, k.Model.Node)
	if err != nil {
		return usageError{err}
	}
	_, err = io.WriteString(env.stdout, script)
	return err
}

type manCommand struct{}

// Help is shown by --help.
func (manCommand) Help() string {
	return `To read it, or to install it:

    popgate man | man -l -

    popgate man > /usr/local/share/man/man8/popgate.8`
}

// Run prints the page.
func (manCommand) Run(env environment, k *kong.Context) error {
	_, err := io.WriteString(env.stdout, clidoc.Man(k.Model.Node, readBuild().Version))
	return err
}

// A usageError is a mistake in the command line that its grammar does not show.
type usageError struct{ error }
