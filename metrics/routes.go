package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The outcomes of a login on its route, and of a question to an auth_http service.
const (
	LoginOK      = "ok"
	LoginRefused = "refused" // by the credentials
	LoginFailed  = "failed"  // for any other reason
)

func loginOutcomes() set { return set{LoginOK, LoginRefused, LoginFailed} }

// MaxRoutes is how many routes have series of their own; the others are counted
// under [Other].
const MaxRoutes = 20

// routes counts where logins go.
type routes struct {
	names  set
	logins *prometheus.CounterVec
	asked  *prometheus.HistogramVec
}

// newRoutes registers the collectors. Without an auth_http service its histogram
// has no series.
func newRoutes(f factory, s Sets) routes {
	r := routes{names: s.Routes[:min(len(s.Routes), MaxRoutes)]}
	r.logins = f.counters("route_logins_total", "Logins by the route that took them, and how they ended there.",
		label{"route", r.names}, label{"result", loginOutcomes()})
	var asked set
	if s.AuthHTTP {
		asked = loginOutcomes()
	}
	r.asked = f.histograms("auth_http_duration_seconds", "Time of a question to an auth_http service, by its answer.", label{"result", asked})
	return r
}

// RouteLogin counts a login that ended with one of the outcomes on a route.
func (m *Metrics) RouteLogin(route, outcome string) {
	m.routes.logins.WithLabelValues(m.routes.names.of(route), loginOutcomes().of(outcome)).Inc()
}

// AuthHTTPAsked counts a question to an auth_http service.
func (m *Metrics) AuthHTTPAsked(outcome string, d time.Duration) {
	m.routes.asked.WithLabelValues(loginOutcomes().of(outcome)).Observe(d.Seconds())
}
