package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/ledger"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/readahead"
	"github.com/popgate/popgate/upstream/route"
	"github.com/popgate/popgate/upstream/wrap"
)

// newCache opens the lists of mailboxes; nil where there is to be none.
func newCache(ctx context.Context, c config.Cache, log *slog.Logger) (*listcache.Cache, error) {
	if c.Memory == 0 {
		return nil, nil
	}
	return listcache.New(ctx, listcache.Options{Memory: c.Memory, File: c.File, Logger: log})
}

// newLedger opens what windows have shown; nil where there is none.
func newLedger(ctx context.Context, c config.Ledger, log *slog.Logger) (*ledger.Ledger, error) {
	if c.File == "" {
		return nil, nil
	}
	return ledger.Open(ctx, ledger.Options{File: c.File, Logger: log})
}

// waitingConns is how many upstream connections wait for a next session, where
// the configuration lets them.
const waitingConns = 256

// stores are the mailboxes behind the gateway: one store for each upstream and each
// way to delete there, shared by the routes that lead to it.
type stores struct {
	cfg     config.Config
	cache   *listcache.Cache // nil for none
	jmap    *jmap.Cache
	ledger  *ledger.Ledger // nil for none
	ahead   *readahead.Pool
	metrics *metrics.Metrics
	counts  map[string]*metrics.Upstream // by the name of the upstream
	log     *slog.Logger
	waiting int // connections of one store that wait for a next session
	open    map[place]mailboxes
}

type mailboxes interface {
	upstream.Store
	Close() error
}

// A place is where a store has its mailboxes, and how it deletes.
type place struct {
	upstream string // the name of one
	delete   config.Delete
	trash    string
	window   config.Window
}

// newPlace is the place of a route at an upstream that deletes so. Under refuse the
// engine lets no deletion through, and the store is that of expunge.
func newPlace(r config.Route, upstream string, d config.Delete) place {
	p := place{upstream: upstream, delete: d, window: r.Window}
	switch d {
	case config.Refuse:
		p.delete = config.Expunge
	case config.Trash:
		p.trash = r.Trash
	}
	return p
}

// placesOf lists where a route can lead to: an auth_http service chooses among all
// upstreams, and how they delete.
func placesOf(r config.Route, upstreams []config.Upstream) (out []place) {
	if !r.AuthHTTP.Given() {
		return []place{newPlace(r, r.Upstream, r.Delete)}
	}
	for _, u := range upstreams {
		for _, d := range []config.Delete{config.Expunge, config.Trash, config.Hide} {
			out = append(out, newPlace(r, u.Name, d))
		}
	}
	return out
}

func newStores(cfg config.Config, cache *listcache.Cache, shown *ledger.Ledger, m *metrics.Metrics, log *slog.Logger) *stores {
	places := map[place]bool{}
	for _, r := range cfg.Routes {
		for _, p := range placesOf(r, cfg.Upstreams) {
			places[p] = true
		}
	}
	return &stores{cfg: cfg, cache: cache, ledger: shown, metrics: m, log: log, open: map[place]mailboxes{},
		counts: m.Upstreams(upstreamOps(cfg.Upstreams)),
		jmap:   jmap.NewCache(cfg.Cache.Memory),
		ahead:  readahead.NewPool(cfg.ReadAhead.Session, cfg.ReadAhead.Total), waiting: max(waitingConns/len(places), 16)}
}

// renewed are stores for another configuration, within the same bounds of memory.
func (s *stores) renewed(cfg config.Config) *stores {
	next := newStores(cfg, s.cache, s.ledger, s.metrics, s.log)
	next.jmap, next.ahead = s.jmap, s.ahead
	return next
}

// at returns the store of a place.
func (s *stores) at(p place) (mailboxes, error) {
	if store, ok := s.open[p]; ok {
		return store, nil
	}
	i := slices.IndexFunc(s.cfg.Upstreams, func(u config.Upstream) bool { return u.Name == p.upstream })
	if i < 0 {
		return nil, fmt.Errorf("there is no upstream %q", p.upstream)
	}
	u := s.cfg.Upstreams[i]
	u.Trash = cmp.Or(p.trash, u.Trash)
	var store mailboxes
	var err error
	if u.JMAP {
		store, err = s.newJMAP(u, p.delete)
	} else {
		store, err = s.newIMAP(u, p)
	}
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", u.Name, err)
	}
	s.open[p] = store
	return store, nil
}

// keep closes the stores of all other places: their sessions go on.
func (s *stores) keep(places map[place]bool) (err error) {
	for p, store := range s.open {
		if !places[p] {
			err = errors.Join(err, store.Close())
			delete(s.open, p)
		}
	}
	return err
}

// close lets go of the connections that wait for a next session.
func (s *stores) close() (err error) {
	var wg sync.WaitGroup
	errs := make(chan error, len(s.open))
	for _, store := range s.open {
		wg.Go(func() { errs <- store.Close() })
	}
	wg.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// wrapped puts around the routes what holds for all of them. From the outside to
// the inside: the throttle, the limits of an account, the lock, the limits of a
// mailbox.
func wrapped(cfg config.Config, routes *route.Store, between wrap.Between, m *metrics.Metrics) upstream.Store {
	store := limited(cfg, routes)
	if cfg.Lock.Enabled {
		wait := cfg.Lock.Wait
		if wait == 0 {
			wait = -1 // do not wait
		}
		store = wrap.Lock(store, wrap.LockOptions{Wait: wait, Between: between})
	}
	if n := cfg.Limits.SessionsPerAccount; n > 0 {
		store = wrap.Sessions(store, n)
	}
	if d := cfg.Limits.LoginDelay; d > 0 {
		store = wrap.LoginDelay(store, d)
	}
	if cfg.Throttle.Enabled {
		o := throttleOptions(cfg, m)
		o.Account = routes.Account
		store = wrap.Throttle(store, o)
	}
	return wrap.Observe(store, stopped(m))
}

// limited puts the limits of a mailbox around a store.
func limited(cfg config.Config, s upstream.Store) upstream.Store {
	return wrap.Limit(s, wrap.LimitOptions{Messages: cfg.Limits.MailboxMessages, Octets: cfg.Limits.MailboxOctets})
}

// upstreamConfig is the TLS of the connection to the mail service.
func upstreamConfig(u config.Upstream) (*tls.Config, error) {
	roots, err := u.Roots()
	return &tls.Config{RootCAs: roots, ServerName: u.ServerName, MinVersion: tls.VersionTLS12}, err
}

// mailboxMessages is the limit on a mailbox. No limit is more than a POP3 message
// number is likely to be.
func mailboxMessages(l config.Limits) int {
	if l.MailboxMessages == 0 {
		return math.MaxInt32
	}
	return l.MailboxMessages
}

func (s *stores) newIMAP(u config.Upstream, p place) (*imap.Store, error) {
	secure, err := upstreamConfig(u)
	if err != nil {
		return nil, err
	}
	return imap.New(imap.Options{
		Host:     u.Host,
		Port:     u.Port,
		Security: security(u),
		TLS:      secure,
		Mailbox:  u.Mailbox,
		Trash:    u.Trash,
		Delete:   policy(p.delete),

		MasterSeparator: u.MasterSeparator,
		Hierarchy:       u.Hierarchy,
		UniqueIDs:       u.UniqueIDs,
		Window:          imap.Window{Since: time.Duration(p.window.Days) * 24 * time.Hour, Unseen: p.window.Unseen, Newest: p.window.Newest},
		Ledger:          s.ledger,

		SendClient:    u.TellClient,
		ProxyProtocol: u.ProxyProtocol,
		MaxMessages:   mailboxMessages(s.cfg.Limits),
		DialTime:      s.cfg.Limits.UpstreamConnectTime,
		ReadAhead:     s.ahead,
		Cache:         s.cache,
		Reuse:         u.Reuse,
		ReuseMax:      s.waiting,
		Logger:        s.log,
		Trace:         imapTrace(s.metrics, s.counts[u.Name]),
	})
}

func (s *stores) newJMAP(u config.Upstream, d config.Delete) (*jmap.Store, error) {
	secure, err := upstreamConfig(u)
	if err != nil {
		return nil, err
	}
	options := jmap.Options{
		URL:         "https://" + u.Address(),
		TLS:         secure,
		Origins:     u.Origins,
		Mailbox:     u.Mailbox,
		Trash:       u.Trash,
		Delete:      jmapPolicy(d),
		MaxMessages: mailboxMessages(s.cfg.Limits),
		DialTime:    s.cfg.Limits.UpstreamConnectTime,
		Logger:      s.log,
		ReadAhead:   s.ahead,
		Cache:       s.jmap,
		Trace:       jmapTrace(s.metrics, s.counts[u.Name]),
	}
	if !u.TLS {
		options.URL = "http://" + u.Address()
	}
	if u.Bearer {
		options.Auth = jmap.Bearer
	}
	return jmap.New(options)
}

func throttleOptions(cfg config.Config, m *metrics.Metrics) wrap.ThrottleOptions {
	t := cfg.Throttle
	o := wrap.ThrottleOptions{
		Guesses: t.Guesses, Regain: t.Regain, Delay: t.Delay, Exempt: t.Exempt, CountLoopback: t.CountLoopback,
		Trace: throttleTrace(m),
	}
	if o.Delay == 0 {
		o.Delay = -1 // none
	}
	// Logins under way must not crowd out what is remembered of guessers.
	const least, most = 1 << 15, 1 << 18
	o.Entries = max(least, min(2*cfg.Limits.Connections, most))
	return o
}

func security(u config.Upstream) imap.Security {
	switch {
	case u.TLS:
		return imap.ImplicitTLS
	case u.StartTLS:
		return imap.StartTLS
	}
	return imap.Auto
}

func jmapPolicy(d config.Delete) jmap.Policy {
	switch d {
	case config.Trash:
		return jmap.Trash
	case config.Hide:
		return jmap.Hide
	}
	return jmap.Expunge
}

// policy says how the store deletes. Under refuse the engine lets no deletion
// through, and the store is never asked.
func policy(d config.Delete) imap.Policy {
	switch d {
	case config.Trash:
		return imap.Trash
	case config.Hide:
		return imap.Hide
	}
	return imap.Expunge
}
