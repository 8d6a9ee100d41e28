package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/route"
)

type routeCommand struct {
	settings
	User string `arg:"" help:"The user as a POP3 client sends it."`
	via
	JSON bool `name:"json" help:"Print it as JSON, for scripts."`
}

// via is where the client of a login comes from.
type via struct {
	Listener string `placeholder:"NAME" help:"The listener that the client comes by. Default: the first."`
	From     string `placeholder:"ADDRESS" help:"The client's address. Default: 127.0.0.1."`
}

// login is what a POP3 client gives, the secret aside.
func (v via) login(cfg config.Config, user string) (upstream.Credentials, error) {
	c := upstream.Credentials{User: user}
	address, err := netip.ParseAddr(cmp.Or(v.From, "127.0.0.1"))
	if err != nil {
		return c, usage("--from", "%q is no address; give one such as 192.0.2.7", v.From)
	}
	names := listenerNames(cfg.Listen)
	c.Client, c.Listener = netip.AddrPortFrom(address, 0), cmp.Or(v.Listener, names[0])
	i := slices.Index(names, c.Listener)
	if i < 0 {
		return c, usage("--listener", "there is no %q; use one of %s", c.Listener, strings.Join(names, ", "))
	}
	c.TLS = cfg.Listen[i].TLS
	return c, nil
}

// Help is shown by --help.
func (routeCommand) Help() string {
	return `Tells which route takes a login, why no other one does, and what becomes of user and mailbox. No password is needed: nobody is proved, no secret is read and nothing is connected to. The exit code is 1 where no route takes the login.

--json prints one object: user, listener, from, routes (route, takes, misfit) in the order in which they were looked at, and way, if one takes it (route, proved_by, user, master, grant, authorize, upstream, url, mailbox, delete, seen).

Examples:

    popgate route --config /etc/popgate/popgate.yaml alice@example.net

    popgate route --config /etc/popgate/popgate.yaml --listener old --from 10.1.2.3 scanner1

    popgate route --config /etc/popgate/popgate.yaml --json alice@example.net`
}

// Run follows one login through the routes.
func (c *routeCommand) Run(env environment) error {
	cfg, err := config.Load(c.Config, env.flags)
	if err != nil {
		return err
	}
	login, err := c.login(cfg, c.User)
	if err != nil {
		return err
	}
	table, err := tableOf(cfg)
	if err != nil {
		return err
	}
	found, err := follow(cfg, table, login)
	if c.JSON {
		if failed := printJSON(env.stdout, found); failed != nil || err == nil {
			return failed
		}
		return reported{err}
	}
	return errors.Join(found.print(env.stdout), err)
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

// routeJSON is what `popgate route --json` prints.
type routeJSON struct {
	User     string        `json:"user"`
	Listener string        `json:"listener"`
	From     string        `json:"from"`
	Routes   []verdictJSON `json:"routes"` // those that were looked at; the last one takes the login, if any does
	Way      *wayJSON      `json:"way,omitempty"`
}

type verdictJSON struct {
	Route  string `json:"route"`
	Takes  bool   `json:"takes"`
	Misfit string `json:"misfit,omitempty"` // what is another than the route wants
}

// wayJSON is where a login goes, in the order in which a person reads it.
type wayJSON struct {
	Route     string `json:"route"`
	ProvedBy  string `json:"proved_by"`
	User      string `json:"user"`
	Master    string `json:"master,omitempty"`
	Grant     string `json:"grant,omitempty"` // whose token is used
	Authorize string `json:"authorize,omitempty"`
	Upstream  string `json:"upstream"`
	URL       string `json:"url"`
	Mailbox   string `json:"mailbox"`
	Delete    string `json:"delete"`
	Seen      string `json:"seen"`
}

// follow takes a login through the routes. What was found is of use beside an error
// too.
func follow(cfg config.Config, table *route.Table, login upstream.Credentials) (routeJSON, error) {
	verdicts, c, err := table.Explain(login)
	found := routeJSON{User: login.User, Listener: login.Listener, From: login.Client.Addr().String(), Routes: []verdictJSON{}}
	for _, v := range verdicts {
		found.Routes = append(found.Routes, verdictJSON{v.Route, v.Misfit == "", string(v.Misfit)})
	}
	if err != nil {
		return found, err
	}
	r := cfg.Routes[len(verdicts)-1]
	way := &wayJSON{Route: r.Name, ProvedBy: "the mail server", User: c.User, Master: r.Master.User, Grant: r.OAuth, Authorize: c.Authorize,
		Delete: string(r.Delete), Seen: seenWord(r.Seen)}
	switch {
	case r.Accounts:
		way.ProvedBy = "the accounts in " + cfg.Accounts.File
	case r.AuthHTTP.Given():
		way.ProvedBy = r.AuthHTTP.URL + ", which can change all of this"
	}
	for _, u := range cfg.Upstreams {
		if u.Name == r.Upstream {
			way.Upstream, way.URL, way.Mailbox = u.Name, u.String(), cmp.Or(c.Mailbox, u.Mailbox)
		}
	}
	found.Way = way
	return found, nil
}

func (f routeJSON) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%q by %s from %s\n", f.User, f.Listener, f.From)
	for _, v := range f.Routes {
		fmt.Fprintf(w, "  route\t%s\t%s\n", v.Route, verdictWords(route.Misfit(v.Misfit)))
	}
	if f.Way != nil {
		at := f.Way.URL
		if f.Way.Upstream != config.TheUpstream {
			at = f.Way.Upstream + " " + at
		}
		for _, row := range [][2]string{
			{"proved by", f.Way.ProvedBy}, {"user", f.Way.User}, {"as master", f.Way.Master}, {"with a token of", f.Way.Grant},
			{"authorize", f.Way.Authorize}, {"upstream", at}, {"mailbox", f.Way.Mailbox}, {"delete", f.Way.Delete}, {"seen", f.Way.Seen},
		} {
			if row[1] != "" {
				fmt.Fprintf(w, "  %s\t%s\n", row[0], row[1])
			}
		}
	}
	return w.Flush()
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
