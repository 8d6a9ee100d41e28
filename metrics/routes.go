package metrics

import (
	"slices"
	"sync"
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
	logins *prometheus.CounterVec
	asked  *prometheus.HistogramVec

	mu    sync.RWMutex // a login must not bring back the series of a route that is gone
	names set
}

// newRoutes registers the collectors. They have no series yet.
func newRoutes(f factory) *routes {
	return &routes{
		logins: f.counters("route_logins_total", "Logins by the route that took them, and how they ended there.",
			label{"route", nil}, label{"result", nil}),
		asked: f.histograms("auth_http_duration_seconds", "Time of a question to an auth_http service, by its answer.",
			label{"result", nil}),
	}
}

// UseRoutes shows the series of these routes and of no others, and those of an
// auth_http service where one is asked. A name that is there already goes on.
func (m *Metrics) UseRoutes(names []string, authHTTP bool) {
	r := m.routes
	r.mu.Lock()
	defer r.mu.Unlock()
	next := set(names[:min(len(names), MaxRoutes)])
	for _, name := range r.names {
		if !slices.Contains(next, name) {
			r.logins.DeletePartialMatch(prometheus.Labels{"route": name})
		}
	}
	r.names = slices.Clone(next)
	eachChild([]label{{"route", next}, {"result", loginOutcomes()}}, nil, func(values []string) { r.logins.WithLabelValues(values...) })
	if !authHTTP {
		r.asked.Reset()
		return
	}
	for _, outcome := range loginOutcomes() {
		r.asked.WithLabelValues(outcome)
	}
}

// RouteLogin counts a login that ended with one of the outcomes on a route.
func (m *Metrics) RouteLogin(route, outcome string) {
	r := m.routes
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.logins.WithLabelValues(r.names.of(route), loginOutcomes().of(outcome)).Inc()
}

// AuthHTTPAsked counts a question to an auth_http service.
func (m *Metrics) AuthHTTPAsked(outcome string, d time.Duration) {
	m.routes.asked.WithLabelValues(loginOutcomes().of(outcome)).Observe(d.Seconds())
}
