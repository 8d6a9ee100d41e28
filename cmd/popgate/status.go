package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/metrics/status"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/wrap"
)

// openPage makes the status page, where there is to be one, and lets it look at the
// log from here on. What net/http and the Prometheus client log stays out, because
// their messages hold addresses.
func (g *gateway) openPage(build metrics.Build) {
	g.facts.Store(g.factsOf(g.cfg))
	if g.cfg.Metrics == "" || !g.cfg.Status {
		return
	}
	sets := labelSets(g.cfg)
	g.page = status.New(status.Options{
		Version: build.Version, Revision: build.Revision, GoVersion: build.GoVersion,
		Gatherer: g.metrics.Gatherer(),
		Ready:    g.ready.Load,
		Facts: func() status.Facts {
			f := *g.facts.Load()
			f.Listeners = g.listenersOnPage()
			return f
		},
		Words: slices.Concat(sets.Listeners, sets.Results, imap.Ops(), jmap.Ops(), sets.Rejections, sets.Mechanisms, sets.Ends),
	})
	g.log = slog.New(g.page.Watch(g.log.Handler()))
}

// factsOf is what the page says of a configuration.
func (g *gateway) factsOf(cfg config.Config) *status.Facts {
	f := &status.Facts{Limits: limitsOf(cfg, g.maxConns), Warnings: warningsOf(cfg, g.maxConns)}
	for _, u := range cfg.Upstreams {
		f.Upstreams = append(f.Upstreams, status.Upstream{Name: u.Name, URL: label(u), Security: upstreamTLS(u)})
	}
	return f
}

// wrongAt is what the page says of a configuration that is of no use: where it is
// wrong, or which settings cannot change. The words of a problem can hold a value of
// the file, and that can be a user: the log has them.
func wrongAt(err error) string {
	var problems config.Problems
	var fixed fixedSettings
	switch {
	case errors.As(err, &problems):
		var places []string
		for _, p := range problems {
			place := p.Where
			if p.Line > 0 {
				place += ":" + strconv.Itoa(p.Line)
			}
			places = append(places, place)
		}
		return strings.Join(slices.Compact(places), ", ")
	case errors.As(err, &fixed):
		return fixed.Error()
	}
	return ""
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

// The counters of limits that were hit.
const (
	limitHitsTotal = "popgate_limit_hits_total"
	rejectedTotal  = "popgate_rejected_total"
	throttledTotal = "popgate_throttled_total"
)

// limitsOf says what the limits are called and set to.
func limitsOf(cfg config.Config, maxConns int) (out []status.Limit) {
	l, settings := cfg.Limits, map[string]string{}
	number := func(name string, n int64, unit string) {
		if n > 0 {
			settings[name] = strconv.FormatInt(n, 10) + unit
		}
	}
	number("connections", int64(maxConns), "")
	number("connections-per-address", int64(l.ConnectionsPerAddress), "")
	number("rate-per-address", int64(l.RatePerAddress), " a minute")
	number("bad-commands", int64(l.BadCommands), "")
	number("login-tries", int64(l.LoginTries), "")
	number("sessions-per-account", int64(l.SessionsPerAccount), "")
	number("mailbox-messages", int64(l.MailboxMessages), "")
	number("mailbox-octets", l.MailboxOctets, "")
	for name, d := range map[string]time.Duration{"handshake-time": l.HandshakeTime, "login-time": l.LoginTime, "idle-time": l.IdleTime, "login-delay": l.LoginDelay} {
		if d > 0 {
			settings[name] = brief(d)
		}
	}
	for _, name := range limitNames() {
		full := "limits." + name
		if name == lockName {
			full, settings[name] = "lock.wait", brief(cfg.Lock.Wait)
			if !cfg.Lock.Enabled {
				settings[name] = ""
			}
		}
		out = append(out, status.Limit{Metric: limitHitsTotal, Value: name, Name: full, Setting: settings[name]})
	}
	for _, by := range wrap.Bounds() {
		setting := ""
		if cfg.Throttle.Enabled {
			setting = strconv.Itoa(cfg.Throttle.Guesses * guessesOf(by))
		}
		out = append(out, status.Limit{Metric: throttledTotal, Value: string(by), Name: "throttle.guesses, by " + string(by), Setting: setting})
	}
	return append(out,
		status.Limit{Metric: rejectedTotal, Value: rejectedHandshake, Name: "TLS handshakes that failed"},
		status.Limit{Metric: rejectedTotal, Value: string(proxy.NotListed), Name: "networks that are not listed"},
		status.Limit{Metric: rejectedTotal, Value: string(proxy.BadHeader), Name: "PROXY headers that are not right"})
}

// brief is a time without the zero seconds at its end.
func brief(d time.Duration) string {
	if s, ok := strings.CutSuffix(d.String(), "m0s"); ok {
		return s + "m"
	}
	return d.String()
}

// guessesOf is how many times throttle.guesses a bound holds.
func guessesOf(by wrap.Bound) int {
	switch by {
	case wrap.ByNetwork:
		return 4
	case wrap.ByBlock:
		return 16
	}
	return 1
}

// warningsOf are those of the configuration, and of what the system made of it.
func warningsOf(cfg config.Config, maxConns int) []string {
	w := cfg.Warnings(time.Now())
	if maxConns < cfg.Limits.Connections {
		w = append(w, fmt.Sprintf("limits.connections: the limit on open files allows %d and not %d", maxConns, cfg.Limits.Connections))
	}
	return w
}
