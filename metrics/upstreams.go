package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// upstreams is what passes between the gateway and the mail services.
type upstreams struct {
	ops, results, listings set

	requests    *prometheus.CounterVec
	requestTime *prometheus.HistogramVec
	listed      *prometheus.CounterVec
	readAhead   *prometheus.CounterVec
	logged      prometheus.Gauge
	reused      prometheus.Counter
}

// What became of a message that was fetched before it was asked for.
const (
	readAheadUsed    = "used"
	readAheadDropped = "dropped"
)

func newUpstreams(f factory, s Sets) upstreams {
	u := upstreams{ops: s.Ops, results: s.Results, listings: s.Listings}
	u.requests = f.counters("upstream_requests_total", "Requests to the mail server, by operation and result.",
		label{"op", u.ops}, label{"result", u.results})
	u.requestTime = f.histograms("upstream_request_duration_seconds", "Time of a request to the mail server, by operation.",
		label{"op", u.ops})
	u.listed = f.counters("upstream_listings_total", "Mailboxes listed: `full`, `unchanged` (nothing asked for), `added` (what came), `removed` (what came, and what is left).",
		label{"how", u.listings})
	u.readAhead = f.counters("upstream_read_ahead_messages_total", "Messages fetched before they were asked for: `used`, or `dropped`.",
		label{"result", set{readAheadUsed, readAheadDropped}})
	u.logged = f.gauge("upstream_connections", "Connections to the mail server that are logged in, waiting ones included.")
	u.reused = f.counter("upstream_reused_total", "Sessions that went on with a connection to the mail server that had waited (setting upstream.reuse).")
	return u
}

// Request counts one request to the mail service.
func (u *upstreams) Request(op, result string, d time.Duration) {
	op = u.ops.of(op)
	u.requests.WithLabelValues(op, u.results.of(result)).Inc()
	u.requestTime.WithLabelValues(op).Observe(d.Seconds())
}

// Listed counts a mailbox listed.
func (u *upstreams) Listed(how string) { u.listed.WithLabelValues(u.listings.of(how)).Inc() }

// UpstreamConnection is +1 for a connection to the mail service opened, -1
// for one closed.
func (u *upstreams) UpstreamConnection(delta int) { u.logged.Add(float64(delta)) }

// ReadAhead counts messages that were fetched before they were asked for, by
// whether somebody asked for them in the end.
func (u *upstreams) ReadAhead(used, dropped int) {
	u.readAhead.WithLabelValues(readAheadUsed).Add(float64(max(used, 0)))
	u.readAhead.WithLabelValues(readAheadDropped).Add(float64(max(dropped, 0)))
}

// UpstreamReused counts a session that went on with a connection to the mail
// service that had waited.
func (u *upstreams) UpstreamReused() { u.reused.Inc() }
