package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/ledger"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/route"
	"github.com/popgate/popgate/upstream/wrap"
)

// A routing is the table of routes with the stores behind it.
type routing struct {
	proofs  proofs
	metrics *metrics.Metrics
	log     *slog.Logger
	store   *route.Store

	mu       sync.Mutex // for what follows
	cfg      config.Config
	stores   *stores
	services []*route.AuthHTTP
	closed   bool
}

// proofs are the steps that need something open.
type proofs struct {
	accounts route.Step                   // proves a client by its local account; nil for none
	grant    func(name string) route.Step // gets an access token; nil where there is no such grant
}

// newRouting builds the first table.
func newRouting(cfg config.Config, p proofs, cache *listcache.Cache, shown *ledger.Ledger, m *metrics.Metrics, log *slog.Logger) (*routing, error) {
	r := &routing{cfg: cfg, proofs: p, stores: newStores(cfg, cache, shown, m, log), metrics: m, log: log}
	table, services, _, err := r.build(cfg.Routes)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.store, r.services = route.New(table, routeTrace(m)), services
	r.count()
	m.ConfigLoaded(time.Now())
	return r, nil
}

// build makes a table of routes. It opens the stores that are not open yet.
func (r *routing) build(list []config.Route) (*route.Table, []*route.AuthHTTP, map[place]bool, error) {
	var rules []route.Route
	var services []*route.AuthHTTP
	places := map[place]bool{}
	fail := func(c config.Route, err error) (*route.Table, []*route.AuthHTTP, map[place]bool, error) {
		return nil, nil, nil, fmt.Errorf("route %s: %w", c.Name, err)
	}
	for _, c := range list {
		rule, err := c.Rule()
		if err != nil {
			return fail(c, err)
		}
		for _, p := range placesOf(c, r.cfg.Upstreams) {
			places[p] = true
			if _, err := r.stores.at(p); err != nil {
				return fail(c, err)
			}
		}
		if c.AuthHTTP.Given() {
			service, err := r.authHTTP(c)
			if err != nil {
				return fail(c, err)
			}
			services = append(services, service)
			rule.Store = service
		} else if rule.Store, err = r.destination(c, c.Upstream, c.Delete); err != nil {
			return fail(c, err)
		}
		if rule.Prove, rule.Steps, err = r.steps(c); err != nil {
			return fail(c, err)
		}
		rules = append(rules, rule)
	}
	table, err := route.NewTable(rules...)
	return table, services, places, err
}

// steps are how a route proves the client, and with what it logs in then.
func (r *routing) steps(c config.Route) (prove route.Step, steps []route.Step, err error) {
	if c.Accounts {
		if prove = r.proofs.accounts; prove == nil {
			return nil, nil, errors.New("there are no accounts")
		}
	}
	if c.Master.Given() {
		steps = append(steps, route.Master(c.Master.User, c.Master.PasswordFile))
	}
	if c.PasswordFile != "" {
		steps = append(steps, route.PasswordFile(c.PasswordFile))
	}
	if c.OAuth != "" {
		token := r.proofs.grant(c.OAuth)
		if token == nil {
			return nil, nil, fmt.Errorf("there is no grant %q", c.OAuth)
		}
		steps = append(steps, token)
	}
	return prove, steps, nil
}

// destination is the store of a route at an upstream: what it says is checked, and
// its accounts have the terms of the route.
func (r *routing) destination(c config.Route, name string, d config.Delete) (upstream.Store, error) {
	store, err := r.stores.at(newPlace(c, name, d))
	if err != nil {
		return nil, err
	}
	return wrap.Terms(wrap.Contract(store), upstream.Terms{Upstream: name, ReadOnly: d == config.Refuse, MarkSeen: c.Seen}), nil
}

// authHTTP is the store of a route whose service is asked. All that it may choose
// is there before the first login.
func (r *routing) authHTTP(c config.Route) (*route.AuthHTTP, error) {
	secure, err := upstreamConfig(config.Upstream{CA: c.AuthHTTP.CA})
	if err != nil {
		return nil, err
	}
	type choice struct {
		upstream string
		delete   config.Delete
	}
	choices := map[choice]upstream.Store{}
	for _, u := range r.cfg.Upstreams {
		for _, d := range []config.Delete{config.Expunge, config.Trash, config.Hide, config.Refuse} {
			if choices[choice{u.Name, d}], err = r.destination(c, u.Name, d); err != nil {
				return nil, err
			}
		}
	}
	return route.NewAuthHTTP(route.AuthHTTPOptions{
		URL: c.AuthHTTP.URL, TLS: secure, KeyHeader: c.AuthHTTP.KeyHeader, KeyFile: c.AuthHTTP.KeyFile, Trace: authHTTPTrace(r.metrics),
		Choose: func(said route.Choice) (upstream.Store, error) {
			name, err := chosen(said, r.cfg.Upstreams)
			if err != nil {
				return nil, err
			}
			d := config.Delete(said.Delete)
			if d == "" {
				d = c.Delete
			}
			if store, ok := choices[choice{name, d}]; ok {
				return store, nil
			}
			return nil, fmt.Errorf("Popgate-Delete is %.40q, which is no deletion policy", said.Delete)
		},
	})
}

// chosen returns the name of the upstream that a reply names: by Popgate-Upstream,
// or by Auth-Server, which is a name or a host of the configuration. The service
// may know another port of the host, that of its POP3 server: Auth-Port decides
// only between upstreams on one host.
func chosen(said route.Choice, upstreams []config.Upstream) (string, error) {
	host, port := said.Server, said.Port
	if h, p, err := net.SplitHostPort(said.Server); err == nil {
		host, port = h, p
	}
	var found []string
	for _, u := range upstreams {
		switch {
		case said.Upstream != "" && u.Name == said.Upstream, said.Upstream == "" && u.Name == said.Server:
			return u.Name, nil
		case said.Upstream != "" || host == "" || !strings.EqualFold(u.Host, host):
		case strconv.Itoa(int(u.Port)) == port:
			return u.Name, nil
		default:
			found = append(found, u.Name)
		}
	}
	switch {
	case said.Upstream != "":
		return "", fmt.Errorf("Popgate-Upstream is %.100q, which is no upstream of the configuration", said.Upstream)
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("Auth-Server is %.100q, and several upstreams are on that host: name one by Popgate-Upstream", said.Server)
	}
	return "", fmt.Errorf("Auth-Server is %.100q, which is no upstream of the configuration", said.Server)
}

// replace lets new logins take the routes of cfg. Where the mail services are the
// same, so are their stores, and what waits in them.
func (r *routing) replace(cfg config.Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	next := &routing{cfg: cfg, proofs: r.proofs, stores: r.stores, metrics: r.metrics, log: r.log}
	renewed := !reflect.DeepEqual(cfg.Upstreams, r.cfg.Upstreams) || cfg.Limits != r.cfg.Limits
	if renewed {
		next.stores = r.stores.renewed(cfg)
	}
	table, services, places, err := next.build(cfg.Routes)
	if err != nil {
		if renewed {
			err = errors.Join(err, next.stores.close())
		}
		return err
	}
	last, asked := r.stores, r.services
	r.cfg, r.stores, r.services = cfg, next.stores, services
	r.count()
	r.store.Swap(table)
	for _, s := range asked {
		_ = s.Close() // it has connections that wait, and nothing to say
	}
	if renewed {
		return last.close() // sessions that are open keep their connections
	}
	return r.stores.keep(places)
}

// count shows the series of the routes and upstreams that are in use.
func (r *routing) count() {
	r.metrics.UseUpstreams(r.stores.counts)
	useRoutes(r.metrics, r.cfg.Routes)
}

// close lets go of the connections that wait for a next session.
func (r *routing) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, s := range r.services {
		_ = s.Close()
	}
	return r.stores.close()
}
