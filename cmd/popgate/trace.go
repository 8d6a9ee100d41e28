package main

import (
	"slices"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/route"
	"github.com/popgate/popgate/upstream/wrap"
)

// useRoutes shows the series of the routes of a configuration: of logins that no
// route takes, and then of those.
func useRoutes(m *metrics.Metrics, routes []config.Route) {
	names := []string{route.NoRoute}
	for _, r := range routes {
		names = append(names, r.Name)
	}
	m.UseRoutes(names, slices.ContainsFunc(routes, func(r config.Route) bool { return r.AuthHTTP.Given() }))
}

// outcome is how a login ended on its way, from the result of a trace.
func outcome(result string) string {
	switch result {
	case "ok":
		return metrics.LoginOK
	case upstream.Refused.String():
		return metrics.LoginRefused
	}
	return metrics.LoginFailed
}

func routeTrace(m *metrics.Metrics) route.Trace {
	return route.Trace{Login: func(name, result string) { m.RouteLogin(name, outcome(result)) }}
}

func authHTTPTrace(m *metrics.Metrics) route.AuthHTTPTrace {
	return route.AuthHTTPTrace{Asked: func(result string, d time.Duration) { m.AuthHTTPAsked(outcome(result), d) }}
}

// labelSets collects the closed sets of label values from the packages that
// own the words, and from the configuration.
func labelSets(cfg config.Config) metrics.Sets {
	listeners := listenerNames(cfg.Listen)
	return metrics.Sets{
		Listeners:  listeners,
		Secure:     secure(cfg, listeners),
		Handshakes: handshakes(cfg, listeners),
		Ends:       words(pop3.Ends()),
		Commands:   pop3.Verbs(),
		Timed:      timed(cfg.Listen),
		Statuses:   words(pop3.Results()),
		Mechanisms: mechanisms(cfg.Listen),
		Logins:     loginResults(),
		Results:    requestResults(),
		Listings:   imap.Listings(),
		Rejections: append(words(proxy.Rejections()), rejectedHandshake),
		Limits:     limitNames(),
		Bounds:     words(wrap.Bounds()),
	}
}

// timed lists the verbs that wait for the mail service or, STLS, for the client.
// The others are answered from memory.
func timed(listeners []config.Listen) []string {
	verbs := []string{"PASS", "AUTH", "STLS", "RETR", "TOP", "QUIT"}
	if slices.Contains(mechanisms(listeners), "APOP") {
		verbs = append(verbs, "APOP")
	}
	return verbs
}

// mechanisms lists the ways to log in that some listener offers.
func mechanisms(listeners []config.Listen) []string {
	some := func(offers func(config.Listen) bool) bool { return slices.ContainsFunc(listeners, offers) }
	return slices.DeleteFunc(pop3.Mechanisms(), func(name string) bool {
		switch name {
		case "APOP", "CRAM-MD5", "SCRAM-SHA-256":
			return !some(func(l config.Listen) bool { return l.SharedSecrets })
		case "XOAUTH2", "OAUTHBEARER":
			return !some(func(l config.Listen) bool { return l.Bearer })
		case "EXTERNAL":
			return !some(func(l config.Listen) bool { return l.ClientCA != "" })
		}
		return false
	})
}

// loginResults leaves out what happens to messages alone: a series for each
// mechanism would stay at zero for ever.
func loginResults() []string {
	return slices.DeleteFunc(pop3.LoginResults(), func(r string) bool {
		return r == upstream.Gone.String() || r == upstream.Changed.String()
	})
}

// requestResults are what one request to the mail service may come to. The other
// kinds are of what the gateway makes of the answers.
func requestResults() []string {
	results := []string{string(pop3.OK)}
	for _, k := range []upstream.Kind{upstream.Internal, upstream.Refused, upstream.Unavailable, upstream.Busy, upstream.Gone} {
		results = append(results, k.String())
	}
	return results
}

// upstreamOps are the requests that the store of each upstream traces.
func upstreamOps(upstreams []config.Upstream) (out []metrics.UpstreamOps) {
	for _, u := range upstreams {
		ops := imap.Ops()
		if u.JMAP {
			ops = jmap.Ops()
		}
		out = append(out, metrics.UpstreamOps{Name: u.Name, Ops: ops})
	}
	return out
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}

// rejectedHandshake counts connections whose TLS handshake failed.
const rejectedHandshake = "handshake"

func proxyTrace(m *metrics.Metrics) proxy.Trace {
	return proxy.Trace{
		Open: m.Connection,
		Rejected: func(_ string, why proxy.Rejection) {
			m.Rejected(string(why))
			hit(m, limitOfRejection(why))
		},
		Secured:         func(listener string, version, cipher uint16) { m.Secured(handshake(listener, version, cipher)) },
		HandshakeFailed: func(string) { m.Rejected(rejectedHandshake) },
		Panicked:        func(string) { m.Panicked() },
	}
}

func pop3Trace(m *metrics.Metrics) pop3.Trace {
	return pop3.Trace{
		SessionStarted: func(pop3.Via) { m.SessionBegan() },
		SessionEnded: func(via pop3.Via, end pop3.End, _ time.Duration) {
			m.SessionEnded(via.Listener, string(end))
			hit(m, limitOfEnd(end))
		},
		Secured:   func(via pop3.Via, version, cipher uint16) { m.Secured(handshake(via.Listener, version, cipher)) },
		Command:   func(verb string, r pop3.Result, d time.Duration) { m.Command(verb, string(r), d) },
		Login:     m.Login,
		Opened:    m.Opened,
		Retrieved: m.Retrieved,
		Deletions: func(d pop3.Deletions) {
			m.Deletions(metrics.Marked, d.Marked)
			m.Deletions(metrics.Reset, d.Reset)
			m.Deletions(metrics.Abandoned, d.Abandoned)
			m.Deletions(metrics.Removed, d.Removed)
			m.Deletions(metrics.Missing, d.Missing)
			m.Deletions(metrics.Kept, d.Kept)
		},
		SizeMismatch: func(upstream string, _, _ int64) { m.SizeMismatch(upstream) },
		Panicked:     m.Panicked,
	}
}

func throttleTrace(m *metrics.Metrics) wrap.ThrottleTrace {
	return wrap.ThrottleTrace{Throttled: func(by wrap.Bound) { m.Throttled(string(by)) }}
}

func imapTrace(m *metrics.Metrics, u *metrics.Upstream) imap.Trace {
	return imap.Trace{Request: u.Request, Listed: u.Listed, Connection: u.Connection, SeenFailed: m.SeenFailed,
		ReadAhead: u.ReadAhead, Reused: u.Reused, Renumbered: u.UniqueIDsChanged}
}

func jmapTrace(m *metrics.Metrics, u *metrics.Upstream) jmap.Trace {
	return jmap.Trace{Request: u.Request, Listed: u.Listed, Connection: u.Connection, SeenFailed: m.SeenFailed, ReadAhead: u.ReadAhead}
}
