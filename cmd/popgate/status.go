package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/metrics/status"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/upstream/wrap"
)

// openPage makes the status page, where there is to be one, and lets it look at the
// log from here on. What net/http and the Prometheus client log stays out, because
// their messages hold addresses.
func (g *gateway) openPage(build metrics.Build) {
	if g.cfg.Metrics == "" || !g.cfg.Status {
		return
	}
	facts := status.Facts{
		Upstreams:   []status.Upstream{{URL: g.cfg.Upstream.String(), Security: upstreamTLS(g.cfg.Upstream)}},
		Limits:      limitsOf(g.cfg, g.maxConns),
		Connections: g.maxConns,
		Warnings:    warningsOf(g.cfg, g.maxConns),
	}
	sets := labelSets(g.names, nil, ops(g.cfg.Upstream))
	g.page = status.New(status.Options{
		Version: build.Version, Revision: build.Revision, GoVersion: build.GoVersion,
		Gatherer: g.metrics.Gatherer(),
		Ready:    g.ready.Load,
		Facts: func() status.Facts {
			f := facts
			f.Listeners = g.listenersOnPage()
			return f
		},
		Words: slices.Concat(sets.Listeners, sets.Results, sets.Ops, sets.Rejections, sets.Mechanisms, sets.Ends),
	})
	g.log = slog.New(g.page.Watch(g.log.Handler()))
}

// servePage takes samples until the function that it returns is called.
func (g *gateway) servePage() (page http.Handler, stop func()) {
	if g.page == nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(context.Background()) // draining is to be seen too
	done := make(chan struct{})
	go func() { defer close(done); g.page.Run(ctx) }()
	return g.page, func() { cancel(); <-done }
}

func (g *gateway) listenersOnPage() (out []status.Listener) {
	for i, url := range g.urls() {
		out = append(out, status.Listener{Name: g.names[i], URL: url, Security: listenerSecurity(g.cfg, g.cfg.Listen[i])})
	}
	return out
}

// listenerSecurity says how clients of a listener are protected, and who may be one.
func listenerSecurity(cfg config.Config, l config.Listen) string {
	text := "none"
	switch {
	case l.TLS:
		text = "TLS"
	case cfg.TLS.Given() || l.Legacy.Given():
		text = "STLS"
	}
	if l.Legacy.Given() {
		text += ", TLS 1.0 and up, listed networks"
	}
	if len(l.Proxies) > 0 {
		text += ", behind a proxy"
	}
	return text
}

// The counters of those who were turned away.
const (
	rejectedTotal  = "popgate_rejected_total"
	throttledTotal = "popgate_throttled_total"
)

// limitsOf says what the reasons to turn somebody away are about, as far as they
// hold.
func limitsOf(cfg config.Config, maxConns int) (out []status.Limit) {
	add := func(metric, value, about, setting string) {
		out = append(out, status.Limit{Metric: metric, Value: value, About: about, Setting: setting})
	}
	orNone := func(n int, unit string) string {
		if n == 0 {
			return "none"
		}
		return strconv.Itoa(n) + unit
	}
	l := cfg.Limits
	add(rejectedTotal, string(proxy.TooMany), "connections at a time", strconv.Itoa(maxConns))
	add(rejectedTotal, string(proxy.TooManyFromAddress), "connections of one address", orNone(l.ConnectionsPerAddress, ""))
	add(rejectedTotal, string(proxy.TooFast), "new connections of one address", orNone(l.RatePerAddress, " a minute"))
	var secure, listed, proxied bool
	for _, o := range cfg.Listen {
		secure = secure || cfg.TLS.Given() || o.Legacy.Given()
		listed = listed || len(o.Legacy.From)+len(o.Proxies) > 0
		proxied = proxied || len(o.Proxies) > 0
	}
	if secure {
		add(rejectedTotal, rejectedHandshake, "TLS handshakes that failed", "within "+l.HandshakeTime.String())
		add(rejectedTotal, string(proxy.TooManyHandshakes), "TLS handshakes at a time", "built in")
	}
	if listed {
		add(rejectedTotal, string(proxy.NotListed), "networks that are not listed", "by listener")
	}
	if proxied {
		add(rejectedTotal, string(proxy.BadHeader), "PROXY headers", "by listener")
	}
	if t := cfg.Throttle; t.Enabled {
		guesses := func(by wrap.Bound, about string, times int) {
			add(throttledTotal, string(by), about, strconv.Itoa(times*t.Guesses))
		}
		guesses(wrap.ByAddress, "guesses of one address", 1)
		guesses(wrap.ByNetwork, "guesses of one network", 4)
		guesses(wrap.ByBlock, "guesses of one block of networks", 16)
		guesses(wrap.ByAccount, "guesses at one account", 1)
		guesses(wrap.ByPair, "guesses of a known client", 1)
	}
	return out
}

// warningsOf are those of the configuration, and of what the system made of it.
func warningsOf(cfg config.Config, maxConns int) []string {
	w := cfg.Warnings(time.Now())
	if maxConns < cfg.Limits.Connections {
		w = append(w, fmt.Sprintf("limits.connections: the limit on open files allows %d and not %d", maxConns, cfg.Limits.Connections))
	}
	return w
}
