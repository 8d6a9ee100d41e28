package main

import (
	"time"

	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/wrap"
)

// labelSets collects the closed sets of label values from the packages that
// own the words. ops are those of the store.
func labelSets(listeners, secure, ops []string) metrics.Sets {
	results := []string{"ok"}
	for _, k := range upstream.Kinds() {
		results = append(results, k.String())
	}
	return metrics.Sets{
		Listeners:  listeners,
		Secure:     secure,
		Ends:       words(pop3.Ends()),
		Commands:   pop3.Verbs(),
		Statuses:   words(pop3.Results()),
		Mechanisms: pop3.Mechanisms(),
		Logins:     pop3.LoginResults(),
		Ops:        ops,
		Results:    results,
		Listings:   imap.Listings(),
		Rejections: append(words(proxy.Rejections()), rejectedHandshake),
		Bounds:     words(wrap.Bounds()),
	}
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
		Open:            m.Connection,
		Rejected:        func(_ string, why proxy.Rejection) { m.Rejected(string(why)) },
		HandshakeFailed: func(string) { m.Rejected(rejectedHandshake) },
		Panicked:        func(string) { m.Panicked() },
	}
}

func pop3Trace(m *metrics.Metrics) pop3.Trace {
	return pop3.Trace{
		SessionStarted: func(pop3.Via) { m.SessionBegan() },
		SessionEnded:   func(via pop3.Via, end pop3.End, _ time.Duration) { m.SessionEnded(via.Listener, string(end)) },
		Command:        func(verb string, r pop3.Result, d time.Duration) { m.Command(verb, string(r), d) },
		Login:          m.Login,
		Opened:         m.Opened,
		Retrieved:      m.Retrieved,
		Deletions: func(d pop3.Deletions) {
			m.Deletions(metrics.Marked, d.Marked)
			m.Deletions(metrics.Reset, d.Reset)
			m.Deletions(metrics.Abandoned, d.Abandoned)
			m.Deletions(metrics.Removed, d.Removed)
			m.Deletions(metrics.Missing, d.Missing)
			m.Deletions(metrics.Kept, d.Kept)
		},
		SizeMismatch: func(_, _ int64) { m.SizeMismatch() },
		Panicked:     m.Panicked,
	}
}

func throttleTrace(m *metrics.Metrics) wrap.ThrottleTrace {
	return wrap.ThrottleTrace{Throttled: func(by wrap.Bound) { m.Throttled(string(by)) }}
}

func imapTrace(m *metrics.Metrics) imap.Trace {
	return imap.Trace{Request: m.Request, Listed: m.Listed, Connection: m.UpstreamConnection, SeenFailed: m.SeenFailed, ReadAhead: m.ReadAhead, Reused: m.UpstreamReused}
}

func jmapTrace(m *metrics.Metrics) jmap.Trace {
	return jmap.Trace{Request: m.Request, Listed: m.Listed, Connection: m.UpstreamConnection, SeenFailed: m.SeenFailed, ReadAhead: m.ReadAhead}
}
