package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/cmd/internal/screen"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/ledger"
	"github.com/popgate/popgate/upstream/route"
)

type checkCommand struct {
	settings
	via
	Connect   bool   `help:"Try each mail server too: name, connection, TLS, certificate, and what it offers. Nobody is logged in."`
	User      string `placeholder:"NAME" help:"Log in too, as this user of a POP3 client, whose password is asked for or read from standard input; open the mailbox for reading, and tell what a deletion would do. Nothing is changed. It includes --connect."`
	JSON      bool   `name:"json" help:"Print what was found as JSON, for scripts."`
	Reference bool   `help:"Print a commented configuration file with every setting, and check nothing."`
}

// Help is shown by --help.
func (checkCommand) Help() string {
	return `Every problem is reported at once, as FILE:LINE: key: what is wrong and what is accepted. The certificates that the configuration names are read as well. Nothing is listened on, and without --connect or --user nothing is connected to.

With these the mail servers are tried in the way that the gateway goes, before it is switched on or beside it. The exit code is 1 where one of them or the login fails.

--json prints one object: ok, problems (where, line, key, text), warnings, and error for what is no problem of the configuration. --connect adds upstreams (name, url, ok, steps, logins, capabilities, warnings), --user adds login (user, route, ok, steps, mailbox, messages, octets, deletion, abilities, warnings). A step has step, ok, seconds, text and hint; an ability name, there and effect.

Examples:

    popgate check --config /etc/popgate/popgate.yaml

    popgate check --config /etc/popgate/popgate.yaml --connect

    popgate check --config /etc/popgate/popgate.yaml --user alice@example.net

    popgate check --reference > popgate.yaml`
}

// Run is the loader that serve uses, a summary of what it found, and where that is
// asked for a trial of the mail servers.
func (c *checkCommand) Run(ctx context.Context, env environment) error {
	if c.Reference {
		_, err := io.WriteString(env.stdout, config.Reference())
		return err
	}
	cfg, err := config.Load(c.Config, env.flags)
	var warnings []string
	if err == nil {
		warnings = cfg.Warnings(time.Now())
		err = routable(cfg)
	}
	if err == nil && !c.JSON {
		for _, w := range warnings {
			fmt.Fprintln(env.stderr, env.progress.Paint(screen.Doubt, "popgate: warning:"), w)
		}
		err = summarize(env.stdout, c.Config, cfg)
	}
	var tried trialJSON
	if err == nil && (c.Connect || c.User != "") {
		tried, err = c.try(ctx, env, cfg)
	}
	if !c.JSON {
		return err
	}
	if failed := printJSON(env.stdout, newCheckJSON(err, warnings, tried)); failed != nil || err == nil {
		return failed
	}
	return reported{err}
}

// routable makes the routes of a configuration and lets them go.
func routable(cfg config.Config) error {
	r, err := newRouting(cfg, unproved(), nil, new(ledger.Ledger), metrics.New(metrics.Build{}, labelSets(cfg)), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return r.close()
}

// try goes to every mail server, and logs in where a user is named.
func (c *checkCommand) try(ctx context.Context, env environment, cfg config.Config) (tried trialJSON, err error) {
	var login upstream.Credentials
	if c.User != "" {
		if login, err = c.login(cfg, c.User); err != nil {
			return tried, err
		}
		password, err := newAsker(ctx, env).once("Password of " + c.User)
		if err != nil {
			return tried, err
		}
		login.Secret = upstream.NewSecret(password)
	}
	t, err := newTrial(ctx, cfg, env, c.JSON)
	if err != nil {
		return tried, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	failed := 0
	for _, u := range cfg.Upstreams {
		if t.upstream(ctx, u) != nil {
			failed++
		}
		if ctx.Err() != nil {
			return t.result, ctx.Err()
		}
	}
	if failed > 0 {
		err = fmt.Errorf("%d of %d mail servers cannot be used: the step that failed says why", failed, len(cfg.Upstreams))
	}
	if c.User != "" && t.login(ctx, login) != nil {
		err = errors.Join(err, fmt.Errorf("the login of %s failed: the step that failed says why", c.User))
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return t.result, err
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
	if cfg.Accounts.File != "" {
		fmt.Fprintf(w, "  accounts\t%s\n", cfg.Accounts.File)
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
