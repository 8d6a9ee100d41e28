package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
)

type checkCommand struct {
	settings
	Reference bool `help:"Print a commented configuration file with every setting, and check nothing."`
}

// Help is shown by --help.
func (checkCommand) Help() string {
	return `Every problem is reported at once, as FILE:LINE: key: what is wrong and what is accepted. The certificates that the configuration names are read as well. Nothing is listened on and nothing is connected to.

Examples:

    popgate check --config /etc/popgate/popgate.yaml

    popgate check --reference > popgate.yaml`
}

// Run is the loader that serve uses, and a summary of what it found.
func (c *checkCommand) Run(env environment) error {
	if c.Reference {
		_, err := io.WriteString(env.stdout, config.Reference())
		return err
	}
	cfg, err := config.Load(c.Config, env.flags)
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings(time.Now()) {
		fmt.Fprintln(env.stderr, "popgate: warning:", w)
	}
	return summarize(env.stdout, c.Config, cfg)
}

func summarize(out io.Writer, file string, cfg config.Config) error {
	name := file
	if name == "" {
		name = "command line"
	}
	fmt.Fprintf(out, "%s: ok\n", name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range cfg.Listen {
		fmt.Fprintf(w, "  listen\t%s\t%s\n", l, clientTLS(l, cfg.TLS))
	}
	fmt.Fprintf(w, "  upstream\t%s\t%s, mailbox %s\n", cfg.Upstream, upstreamTLS(cfg.Upstream), cfg.Upstream.Mailbox)
	if cfg.Accounts.File != "" {
		fmt.Fprintf(w, "  accounts\t%s\n", cfg.Accounts.File)
	}
	fmt.Fprintf(w, "  delete\t%s\n", cfg.Delete)
	fmt.Fprintf(w, "  seen\t%s\n", seenWord(cfg.Seen))
	if cfg.Metrics != "" {
		fmt.Fprintf(w, "  metrics\thttp://%s/metrics\n", cfg.Metrics)
	}
	return w.Flush()
}

// clientTLS says what clients of l meet.
func clientTLS(l config.Listen, t config.TLS) string {
	what := "clear text"
	switch {
	case l.TLS:
		what = "TLS from the first octet"
	case t.Given() || l.Legacy.Given():
		what = "clear text and STLS"
	}
	if l.Legacy.Given() {
		what += ", TLS 1.0 and up for " + list(l.Legacy.From)
	}
	if l.SharedSecrets {
		what += ", shared secrets"
	}
	if l.Bearer {
		what += ", tokens"
	}
	if l.ClientCA != "" {
		what += ", certificates of clients"
	}
	if len(l.Proxies) > 0 {
		what += ", PROXY protocol from " + list(l.Proxies)
	}
	return what
}

func list(networks []netip.Prefix) string {
	words := make([]string, len(networks))
	for i, n := range networks {
		words[i] = n.String()
	}
	return strings.Join(words, " ")
}

func upstreamTLS(u config.Upstream) string {
	switch {
	case u.TLS:
		return "TLS from the first octet"
	case u.StartTLS:
		return "STARTTLS"
	case u.JMAP:
		return "clear text"
	}
	return "STARTTLS, or clear text to a loopback address"
}

func seenWord(seen bool) string {
	if seen {
		return "retr"
	}
	return "no"
}
