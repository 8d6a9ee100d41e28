package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/ledger"
	"github.com/popgate/popgate/upstream/route"
)

type checkCommand struct {
	settings
	JSON      bool `name:"json" help:"Print what was found as JSON, for scripts."`
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
	if c.JSON {
		var warnings []string
		if err == nil {
			warnings = cfg.Warnings(time.Now())
		}
		if failed := printJSON(env.stdout, newCheckJSON(err, warnings)); failed != nil || err == nil {
			return failed
		}
		return reported{err}
	}
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings(time.Now()) {
		fmt.Fprintln(env.stderr, "popgate: warning:", w)
	}
	r, err := newRouting(cfg, unproved(), nil, new(ledger.Ledger), metrics.New(metrics.Build{}, labelSets(cfg)), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := r.close(); err != nil {
		return err
	}
	return summarize(env.stdout, c.Config, cfg)
}

// unproved stands for what check does not open; the loader has read its files.
func unproved() proofs {
	step := func(_ context.Context, c upstream.Credentials) (upstream.Credentials, error) { return c, nil }
	return proofs{accounts: step, grant: func(string) route.Step { return step }}
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
	for _, u := range cfg.Upstreams {
		fmt.Fprintf(w, "  upstream\t%s\t%s\n", label(u), upstreamTLS(u)+", mailbox "+u.Mailbox)
	}
	for _, r := range cfg.Routes {
		fmt.Fprintf(w, "  route\t%s\t%s\n", r.Name, routeWords(r))
	}
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

// label is an upstream with its name, where it has one.
func label(u config.Upstream) string {
	if u.Name == config.TheUpstream {
		return u.String()
	}
	return u.Name + " " + u.String()
}

func joined(us []config.Upstream) string {
	var out []string
	for _, u := range us {
		out = append(out, label(u))
	}
	return strings.Join(out, ", ")
}

// routeWords says which logins a route takes and where they go.
func routeWords(r config.Route) string {
	var who []string
	some := func(what string, list []string) {
		const most = 3
		if n := len(list); n > most {
			list = append(list[:most:most], fmt.Sprintf("and %d more", n-most))
		}
		if len(list) > 0 {
			who = append(who, what+" "+strings.Join(list, " "))
		}
	}
	some("users", r.Match.Users)
	some("domains", r.Match.Domains)
	if r.Match.Pattern != "" {
		who = append(who, "pattern "+r.Match.Pattern)
	}
	some("listeners", r.Match.Listeners)
	if len(r.Match.From) > 0 {
		who = append(who, "from "+list(r.Match.From))
	}
	if len(who) == 0 {
		who = []string{"everybody"}
	}
	to := r.Upstream
	if r.AuthHTTP.Given() {
		to = "where " + r.AuthHTTP.URL + " says"
	}
	return fmt.Sprintf("%s to %s, delete %s, seen %s", strings.Join(who, ", "), to, r.Delete, seenWord(r.Seen))
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
