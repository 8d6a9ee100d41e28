package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/route"
)

type routeCommand struct {
	settings
	User     string `arg:"" help:"The user as a POP3 client sends it."`
	Listener string `placeholder:"NAME" help:"The listener that the client comes by. Default: the first."`
	From     string `placeholder:"ADDRESS" help:"The client's address. Default: 127.0.0.1."`
}

// Help is shown by --help.
func (routeCommand) Help() string {
	return `Tells which route takes a login, why no other one does, and what becomes of user and mailbox. No password is needed: nobody is proved, no secret is read and nothing is connected to. The exit code is 1 where no route takes the login.

Examples:

    popgate route --config /etc/popgate/popgate.yaml alice@example.net

    popgate route --config /etc/popgate/popgate.yaml --listener old --from 10.1.2.3 scanner1`
}

// Run follows one login through the routes.
func (c *routeCommand) Run(env environment) error {
	cfg, err := config.Load(c.Config, env.flags)
	if err != nil {
		return err
	}
	address, err := netip.ParseAddr(cmp.Or(c.From, "127.0.0.1"))
	if err != nil {
		return usageError{fmt.Errorf("--from: %q is no address", c.From)}
	}
	names := listenerNames(cfg.Listen)
	login := upstream.Credentials{User: c.User, Client: netip.AddrPortFrom(address, 0), Listener: cmp.Or(c.Listener, names[0])}
	table, err := tableOf(cfg)
	if err != nil {
		return err
	}
	return follow(env.stdout, cfg, table, login)
}

// tableOf is the table of a configuration without the stores: it decides, and leads
// nowhere.
func tableOf(cfg config.Config) (*route.Table, error) {
	var rules []route.Route
	for _, r := range cfg.Routes {
		rule, err := r.Rule()
		if err != nil {
			return nil, err
		}
		rule.Store = struct{ upstream.Store }{}
		rules = append(rules, rule)
	}
	return route.NewTable(rules...)
}

func follow(out io.Writer, cfg config.Config, table *route.Table, login upstream.Credentials) error {
	verdicts, c, err := table.Explain(login)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%q by %s from %s\n", login.User, login.Listener, login.Client.Addr())
	for _, v := range verdicts {
		fmt.Fprintf(w, "  route\t%s\t%s\n", v.Route, verdictWords(v.Misfit))
	}
	if err == nil {
		tell := func(what, value string) {
			if value != "" {
				fmt.Fprintf(w, "  %s\t%s\n", what, value)
			}
		}
		r := cfg.Routes[len(verdicts)-1]
		switch {
		case r.Accounts:
			tell("proved by", "the accounts in "+cfg.Accounts.File)
		case r.AuthHTTP.Given():
			tell("proved by", r.AuthHTTP.URL+", which can change all of this")
		default:
			tell("proved by", "the mail server")
		}
		tell("user", c.User)
		tell("as master", r.Master.User)
		tell("with a token of", r.OAuth)
		tell("authorize", c.Authorize)
		for _, u := range cfg.Upstreams {
			if u.Name == r.Upstream {
				tell("upstream", label(u))
				tell("mailbox", cmp.Or(c.Mailbox, u.Mailbox))
			}
		}
		tell("delete", string(r.Delete))
		tell("seen", seenWord(r.Seen))
	}
	if flushed := w.Flush(); flushed != nil {
		return flushed
	}
	return err
}

func verdictWords(m route.Misfit) string {
	switch m {
	case "":
		return "takes it"
	case "folder":
		return "no: this is no folder that may be asked for"
	}
	return "no: another " + string(m)
}
