package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/metrics/status"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/upstream/accounts"
	"github.com/popgate/popgate/upstream/imap/ledger"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/lockfile"
	"github.com/popgate/popgate/upstream/route"
	"github.com/popgate/popgate/upstream/wrap"
)

// Descriptors: a session has its own connection and one upstream. The rest is
// for listeners, monitoring, files that are read, and the runtime, and for upstream
// connections that wait between sessions.
const (
	filesPerSession = 2
	filesReserve    = 100
	monitorConns    = 32 // connections to the metrics listener at a time
)

// A gateway is the whole service, put together: newGateway, listen, serve,
// once each and in that order.
type gateway struct {
	cfg          config.Config
	log          *slog.Logger // which the status page looks at
	plain        *slog.Logger // which it does not
	names        []string     // of the listeners
	maxConns     int
	metrics      *metrics.Metrics
	certificates *certificates
	accounts     *accounts.Accounts // nil without a file of them
	cache        *listcache.Cache
	ledger       *ledger.Ledger // nil without a file of it
	locks        *lockfile.File // nil where there are none between processes
	sockets      *sockets
	supervisor   supervisor
	grants       *grants
	server       *proxy.Server
	monitor      net.Listener                 // nil without metrics
	page         *status.Page                 // nil without a status page
	facts        atomic.Pointer[status.Facts] // of the configuration in use
	routing      *routing
	engine       *engine
	source       source         // of the configuration
	level        *slog.LevelVar // of the log; nil where it does not change
	started      started
	ready        atomic.Bool
	handedOver   atomic.Bool // to a new process, which is the service now
}

// newGateway turns the configuration into the options of every package. It
// opens nothing but the files that are named, and waits for those that another
// process has until ctx ends.
func newGateway(ctx context.Context, cfg config.Config, build metrics.Build, handed *sockets, log *slog.Logger) (*gateway, error) {
	g := &gateway{cfg: cfg, log: log, plain: log, names: listenerNames(cfg.Listen), sockets: handed, supervisor: supervisor{log}}
	var limited bool
	var err error
	reserve := filesReserve
	for _, u := range cfg.Upstreams {
		if u.Reuse > 0 {
			reserve += waitingConns
		}
	}
	if g.maxConns, limited, err = proxy.FileLimit(cfg.Limits.Connections, reserve, filesPerSession); err != nil {
		return nil, err
	}
	if limited {
		log.Warn("the limit on open files allows fewer connections than limits.connections; raise it (ulimit -n, LimitNOFILE)",
			"wanted", cfg.Limits.Connections, "connections", g.maxConns)
	}
	g.metrics = metrics.New(build, labelSets(cfg))
	g.metrics.ConnectionsLimit(g.maxConns)
	g.openPage(build)
	log = g.log
	if g.certificates, err = openCertificates(cfg, g.names, g.metrics, log); err != nil {
		return nil, err
	}
	if g.accounts, err = openAccounts(cfg.Accounts, log); err != nil {
		return nil, err
	}
	if g.grants, err = openGrants(cfg.OAuth, g.metrics, log); err != nil {
		return nil, err
	}
	if g.cache, err = newCache(ctx, cfg.Cache, log); err != nil {
		return nil, errors.Join(err, g.grants.close())
	}
	if g.ledger, err = newLedger(ctx, cfg.Ledger, log); err == nil {
		err = g.assemble()
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// close lets go of what newGateway opened.
func (g *gateway) close() error {
	err := errors.Join(g.cache.Close(), g.ledger.Close(), g.grants.close())
	if g.locks != nil {
		err = errors.Join(err, g.locks.Close())
	}
	return err
}

// proofs are those of the accounts and grants that are open.
func (g *gateway) proofs() proofs {
	p := proofs{grant: func(name string) route.Step {
		if tokens := g.grants.tokens(name); tokens != nil {
			return tokens.Step
		}
		return nil
	}}
	if g.accounts != nil {
		p.accounts = g.accounts.Prove
	}
	return p
}

// assemble joins store, engine and listeners.
func (g *gateway) assemble() error {
	cfg, log := g.cfg, g.log
	var between wrap.Between
	var err error
	if cfg.Lock.Enabled && cfg.Lock.File != "" {
		if g.locks, err = lockfile.Open(cfg.Lock.File); err != nil {
			return fmt.Errorf("lock.file: %w", err)
		}
		between = g.locks
	}
	if g.routing, err = newRouting(cfg, g.proofs(), g.cache, g.ledger, g.metrics, log); err != nil {
		return err
	}
	g.engine, err = newEngine(cfg, wrapped(cfg, g.routing.store, between, g.metrics), sharedSecrets(g.accounts), g.certificates.config, g.metrics, log)
	if err != nil {
		return err
	}
	listeners := make([]proxy.Listener, len(cfg.Listen))
	for i, l := range cfg.Listen {
		listeners[i] = g.engine.listener(i, g.names[i], l)
		listeners[i].Listen = func(ctx context.Context) (net.Listener, error) { return g.sockets.listen(ctx, l.Address()) }
	}
	g.server, err = proxy.New(proxy.Options{
		MaxConns:       g.maxConns,
		MaxPerAddress:  orNone(cfg.Limits.ConnectionsPerAddress),
		RatePerAddress: orNone(cfg.Limits.RatePerAddress),
		CountLoopback:  cfg.Limits.CountLoopback,
		HandshakeTime:  cfg.Limits.HandshakeTime,
		Logger:         log,
		Trace:          proxyTrace(g.metrics),
	}, listeners...)
	return err
}

// orNone turns "0 is no limit" into package proxy's "negative is no limit".
func orNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// listenerNames gives each listener a name for logs and metrics: its own or its
// URL, and a number behind it where two ask for a free port on one address.
func listenerNames(ls []config.Listen) []string {
	var names []string
	times := map[string]int{}
	for _, l := range ls {
		name := cmp.Or(l.Name, l.String())
		if times[name]++; times[name] > 1 {
			name += "#" + strconv.Itoa(times[name])
		}
		names = append(names, name)
	}
	return names
}

// listen binds every address, or none; then the gateway is at an end.
func (g *gateway) listen(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close(), g.sockets.close())
		}
	}()
	if g.cfg.Metrics != "" {
		ln, err := g.sockets.listen(ctx, g.cfg.Metrics)
		if err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
		g.monitor = netutil.LimitListener(ln, monitorConns)
	}
	err = g.server.Listen(ctx)
	if err == nil {
		err = g.sockets.allAsked()
	}
	if err != nil {
		err = errors.Join(err, g.server.Shutdown(ctx)) // which closes what is bound
		if g.monitor != nil {
			err = errors.Join(err, g.monitor.Close())
		}
	}
	return err
}

// urls lists the listeners with the addresses that they are really bound to.
func (g *gateway) urls() []string {
	var out []string
	for i, a := range g.server.Addrs() {
		scheme := "pop3://"
		if g.cfg.Listen[i].TLS {
			scheme = "pop3s://"
		}
		out = append(out, scheme+a.String())
	}
	return out
}

// metricsAddress is the bound address of the metrics listener, or "off".
func (g *gateway) metricsAddress() string {
	if g.monitor == nil {
		return "off"
	}
	return "http://" + g.monitor.Addr().String() + "/metrics"
}

// serve accepts clients until ctx ends, a new process has taken over, or a
// listener fails for good. Then the open sessions have the drain time to end by
// themselves; the engine closes the rest. It returns when all is at an end.
func (g *gateway) serve(ctx context.Context, orders <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopMonitor := g.serveMonitor(cancel)
	stopWatch := g.certificates.watch(ctx)
	defer stopWatch()
	var beside sync.WaitGroup
	defer beside.Wait()
	asked := make(chan struct{}, 1)
	beside.Go(func() { g.obey(ctx, orders, asked, cancel) })
	if g.source.file != "" {
		r := g.reloader()
		beside.Go(func() { r.follow(ctx, asked) })
	}
	beside.Go(func() { g.supervisor.watch(ctx, func() { g.server.Addrs() }) })
	stopAccounts := watchAccounts(ctx, g.accounts)
	defer stopAccounts()
	stopGrants := g.grants.keep(ctx)

	g.ready.Store(true)
	err := g.server.Serve(ctx)
	cancel()
	g.ready.Store(false)
	if !g.handedOver.Load() {
		g.supervisor.draining()
	}
	g.log.Info("draining: no new sessions", "drain", g.cfg.Drain.String())

	// No new session will ask for a connection that waits, nor for a list, and a
	// process that takes over waits for the files. Saying goodbye takes none of the
	// sessions' time.
	var waiting sync.WaitGroup
	waiting.Go(func() { err = errors.Join(err, g.routing.close(), g.cache.Close(), g.ledger.Close()) })

	// The context of the service has ended: draining has a time of its own.
	drain, cancelDrain := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.Drain)
	defer cancelDrain()
	start := time.Now()
	cut := g.server.Shutdown(drain)
	waiting.Wait()
	stopGrants()
	g.log.Info("popgate has ended", "after", time.Since(start).Round(time.Millisecond).String(), "sessions_cut", cut != nil)
	return errors.Join(err, stopMonitor(), g.close())
}

// obey does what signals order, until ctx ends.
func (g *gateway) obey(ctx context.Context, orders <-chan os.Signal, reload chan<- struct{}, drain func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case order := <-orders:
			if order == reloadSignal {
				select {
				case reload <- struct{}{}:
				default: // it has been asked for
				}
				continue
			}
		}
		g.log.Info("a new process is to take over")
		pid, err := g.handOver(ctx, g.started)
		if err != nil {
			g.log.Error("no new process has taken over: this one serves on", "error", err)
			continue
		}
		g.handedOver.Store(true)
		g.supervisor.successor(pid)
		g.log.Info("a new process has taken over", "pid", pid)
		drain()
		return
	}
}

// serveMonitor serves metrics and probes until the function it returns is
// called, which waits for the end. A failure before that calls failed, and is
// returned in the end.
func (g *gateway) serveMonitor(failed func()) (stop func() error) {
	if g.monitor == nil {
		return func() error { return nil }
	}
	page, stopPage := g.servePage()
	server := metrics.NewServer(g.metrics.Handler(g.ready.Load, page, g.plain), g.plain)
	ended := make(chan error, 1)
	go func() {
		err := server.Serve(g.monitor)
		if errors.Is(err, http.ErrServerClosed) {
			ended <- nil
			return
		}
		ended <- fmt.Errorf("metrics: %w", err)
		failed()
	}()
	return func() error {
		stopPage()
		_ = server.Close() // ends a scrape under way; the next one tells the same
		return <-ended
	}
}
