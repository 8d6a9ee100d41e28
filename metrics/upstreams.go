package metrics

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MaxUpstreams is how many upstreams have series of their own; the others are
// counted together under [Other].
const MaxUpstreams = 20

// UpstreamOps is an upstream by its name, and the requests that are made of it.
type UpstreamOps struct {
	Name string
	Ops  []string
}

// upstreams is what passes between the gateway and the mail services.
type upstreams struct {
	registry          *prometheus.Registry
	results, listings set

	mu    sync.Mutex
	used  map[string]*Upstream // by the name
	shown map[string]*Upstream // the same by the label
}

// What became of a message that was fetched before it was asked for.
const (
	readAheadUsed    = "used"
	readAheadDropped = "dropped"
)

func newUpstreams(r *prometheus.Registry, s Sets) *upstreams {
	return &upstreams{registry: r, results: s.Results, listings: s.Listings}
}

// SizeMismatch counts a message whose size in the list of the mail service with
// this name was not its size. Where none has the name now, nothing comes of it.
func (u *upstreams) SizeMismatch(name string) {
	u.mu.Lock()
	one := u.used[name]
	u.mu.Unlock()
	if one != nil {
		one.sizeMismatches.Inc()
	}
}

// Upstreams returns what counts each of the upstreams of a configuration, by its
// name. Those that are shown and have the same requests go on; the series of a
// new one are shown from [Metrics.UseUpstreams] on.
func (u *upstreams) Upstreams(list []UpstreamOps) map[string]*Upstream {
	u.mu.Lock()
	defer u.mu.Unlock()
	labels, ops := map[string]string{}, map[string]set{}
	for i, l := range list {
		name := l.Name
		if i >= MaxUpstreams {
			name = Other
		}
		labels[l.Name] = name
		for _, op := range l.Ops {
			if !slices.Contains(ops[name], op) {
				ops[name] = append(ops[name], op)
			}
		}
	}
	counts := map[string]*Upstream{}
	for name, ops := range ops {
		if counts[name] = u.shown[name]; counts[name] == nil || !slices.Equal(counts[name].ops, ops) {
			counts[name] = newUpstream(name, ops, u.results, u.listings)
		}
	}
	out := map[string]*Upstream{}
	for name, label := range labels {
		out[name] = counts[label]
	}
	return out
}

// UseUpstreams shows the series of these upstreams, and of no others.
func (u *upstreams) UseUpstreams(next map[string]*Upstream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	shown := map[string]*Upstream{}
	for _, one := range next {
		shown[one.name] = one
	}
	for name, one := range u.shown {
		if shown[name] != one {
			u.registry.Unregister(one.series)
		}
	}
	for name, one := range shown {
		if u.shown[name] != one {
			u.registry.MustRegister(one.series)
		}
	}
	u.used, u.shown = maps.Clone(next), shown
}

// An Upstream counts what passes between the gateway and one mail service. It
// can be told of more, and nothing comes of it, when its series are gone.
type Upstream struct {
	name                   string // the label
	ops, results, listings set
	series                 prometheus.Collector

	requests       *prometheus.CounterVec
	requestTime    *prometheus.HistogramVec
	logged         prometheus.Gauge
	reused         prometheus.Counter
	listed         *prometheus.CounterVec
	readAhead      *prometheus.CounterVec
	idsChanged     prometheus.Counter
	sizeMismatches prometheus.Counter
}

func newUpstream(name string, ops, results, listings set) *Upstream {
	own := prometheus.NewRegistry()
	f := factory{own}
	return &Upstream{
		name: name, ops: ops, results: results, listings: listings,
		series: prometheus.WrapCollectorWith(prometheus.Labels{"upstream": name}, own),
		requests: f.counters("upstream_requests_total", "Requests to a mail server, by operation and result.",
			label{"op", ops}, label{"result", results}),
		requestTime: f.histograms("upstream_request_duration_seconds", "Time of a request to a mail server, by operation.",
			label{"op", ops}),
		logged: f.gauge("upstream_connections", "Connections to a mail server that are logged in, waiting ones included."),
		reused: f.counter("upstream_reused_total", "Sessions that went on with a connection to a mail server that had waited (setting upstream.reuse)."),
		listed: f.counters("upstream_listings_total", "Mailboxes listed: `full`, `unchanged` (nothing asked for), `added` (what came), `removed` (what came, and what is left).",
			label{"how", listings}),
		readAhead: f.counters("upstream_read_ahead_messages_total", "Messages fetched before they were asked for: `used`, or `dropped`.",
			label{"result", set{readAheadUsed, readAheadDropped}}),
		idsChanged: f.counter("unique_ids_changed_total",
			"Mailboxes whose messages a mail server has given other UIDs since the session before, so that clients take all mail for new. Known of mailboxes in the list cache."),
		sizeMismatches: f.counter("size_mismatch_total",
			"Messages whose size in the list was not the size that was sent."),
	}
}

// Request counts one request to the mail service.
func (u *Upstream) Request(op, result string, d time.Duration) {
	op = u.ops.of(op)
	u.requests.WithLabelValues(op, u.results.of(result)).Inc()
	u.requestTime.WithLabelValues(op).Observe(d.Seconds())
}

// Connection is +1 for a connection to the mail service opened, -1 for one closed.
func (u *Upstream) Connection(delta int) { u.logged.Add(float64(delta)) }

// Reused counts a session that went on with a connection to the mail service that
// had waited.
func (u *Upstream) Reused() { u.reused.Inc() }

// Listed counts a mailbox listed.
func (u *Upstream) Listed(how string) { u.listed.WithLabelValues(u.listings.of(how)).Inc() }

// ReadAhead counts messages that were fetched before they were asked for, by
// whether somebody asked for them in the end.
func (u *Upstream) ReadAhead(used, dropped int) {
	u.readAhead.WithLabelValues(readAheadUsed).Add(float64(max(used, 0)))
	u.readAhead.WithLabelValues(readAheadDropped).Add(float64(max(dropped, 0)))
}

// UniqueIDsChanged counts a mailbox whose unique-ids are others than before.
func (u *Upstream) UniqueIDsChanged() { u.idsChanged.Inc() }
