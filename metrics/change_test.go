package metrics_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/popgate/popgate/metrics"
)

// valuesOf lists the values that a label has anywhere.
func valuesOf(t *testing.T, m *metrics.Metrics, label string) []string {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range own(t, m) {
		for _, x := range f.GetMetric() {
			for _, l := range x.GetLabel() {
				if l.GetName() == label {
					seen[l.GetValue()] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// connectionsOf is the gauge of open connections to each upstream.
func connectionsOf(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, f := range own(t, m) {
		if f.GetName() == "popgate_upstream_connections" {
			for _, x := range f.GetMetric() {
				out[x.GetLabel()[0].GetValue()] = x.GetGauge().GetValue()
			}
		}
	}
	return out
}

func upstreamOps(names ...string) (out []metrics.UpstreamOps) {
	for _, name := range names {
		out = append(out, metrics.UpstreamOps{Name: name, Ops: []string{"login", "fetch"}})
	}
	return out
}

// An upstream that stays keeps its counts, a new one begins at zero, and one that
// went leaves nothing, whatever its last sessions still do. When it comes back, what
// they do does not disturb it.
func TestUpstreamsComeAndGo(t *testing.T) {
	m := metrics.New(metrics.Build{}, sets())
	use := func(names ...string) map[string]*metrics.Upstream {
		all := m.Upstreams(upstreamOps(names...))
		m.UseUpstreams(all)
		return all
	}
	wants := func(step string, want map[string]float64) {
		t.Helper()
		if got := connectionsOf(t, m); !maps.Equal(got, want) {
			t.Errorf("%s: connections %v, want %v", step, got, want)
		}
	}
	first := use("stays", "goes")
	first["stays"].Connection(2)
	first["goes"].Connection(1)
	wants("at the start", map[string]float64{"stays": 2, "goes": 1})

	m.Upstreams(upstreamOps("never")) // of a configuration that is not put into use
	wants("a wrong configuration", map[string]float64{"stays": 2, "goes": 1})

	second := use("comes", "stays")
	wants("after a reload", map[string]float64{"stays": 2, "comes": 0})
	first["goes"].Request("login", "ok", time.Second)
	first["stays"].Connection(-1) // of a session that began before
	second["stays"].Connection(1)
	wants("old sessions", map[string]float64{"stays": 2, "comes": 0})

	use("goes", "stays")
	first["goes"].Connection(-1)
	wants("when it is back", map[string]float64{"stays": 2, "goes": 0})
}

// The engine knows a mail server by its name alone: what it tells of one that has
// gone, or of none, is counted for no other.
func TestSizesAreCountedForTheMailServerOfThatName(t *testing.T) {
	m := metrics.New(metrics.Build{}, sets())
	wants := func(step, series string) {
		t.Helper()
		want := "# HELP popgate_size_mismatch_total Messages whose size in the list was not the size that was sent.\n# TYPE popgate_size_mismatch_total counter\n" + series
		if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), "popgate_size_mismatch_total"); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	m.SizeMismatch("one")
	m.UseUpstreams(m.Upstreams(upstreamOps("one", "two")))
	for _, name := range []string{"one", "two", "two", "", "nobody"} {
		m.SizeMismatch(name)
	}
	wants("of two", "popgate_size_mismatch_total{upstream=\"one\"} 1\npopgate_size_mismatch_total{upstream=\"two\"} 2\n")
	m.UseUpstreams(m.Upstreams(upstreamOps("two")))
	m.SizeMismatch("one")
	wants("one is gone", "popgate_size_mismatch_total{upstream=\"two\"} 2\n")

	var many []string
	for i := range metrics.MaxUpstreams + 2 {
		many = append(many, fmt.Sprint("u", i))
	}
	m.UseUpstreams(m.Upstreams(upstreamOps(many...)))
	m.SizeMismatch(many[metrics.MaxUpstreams])
	m.SizeMismatch(many[metrics.MaxUpstreams+1])
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := map[string]float64{}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			if f.GetName() == "popgate_size_mismatch_total" && x.GetCounter().GetValue() > 0 {
				sum[x.GetLabel()[0].GetValue()] = x.GetCounter().GetValue()
			}
		}
	}
	if !maps.Equal(sum, map[string]float64{metrics.Other: 2}) {
		t.Errorf("counted for %v, want both for %s", sum, metrics.Other)
	}
}

// An upstream that has become another service has the requests of that.
func TestUpstreamsHaveTheRequestsOfTheirKind(t *testing.T) {
	m := metrics.New(metrics.Build{}, sets())
	m.UseUpstreams(m.Upstreams([]metrics.UpstreamOps{{Name: "a", Ops: []string{"login", "look"}}, {Name: "b", Ops: []string{"connect"}}}))
	if n := len(ops(t, m)); n != 3 {
		t.Errorf("%d pairs of upstream and operation, want 3: %v", n, ops(t, m))
	}
	m.UseUpstreams(m.Upstreams([]metrics.UpstreamOps{{Name: "a", Ops: []string{"connect"}}}))
	if got := ops(t, m); !slices.Equal(got, []string{"a connect"}) {
		t.Errorf("operations %q, want those of the new kind", got)
	}
}

// ops lists the pairs of upstream and operation that have series.
func ops(t *testing.T, m *metrics.Metrics) (out []string) {
	t.Helper()
	for _, f := range own(t, m) {
		if f.GetName() == "popgate_upstream_request_duration_seconds" {
			for _, x := range f.GetMetric() {
				out = append(out, x.GetLabel()[1].GetValue()+" "+x.GetLabel()[0].GetValue())
			}
		}
	}
	return out
}

// A new route has series of its own, one that went has none, and one that stays
// keeps its counts. A login that ends on a route that is gone does not bring it back.
func TestRoutesComeAndGo(t *testing.T) {
	m := metrics.New(metrics.Build{}, sets())
	m.UseRoutes([]string{"none", "stays", "goes"}, false)
	m.RouteLogin("stays", metrics.LoginOK)
	m.RouteLogin("goes", metrics.LoginOK)
	m.UseRoutes([]string{"none", "stays", "comes"}, true)
	if got, want := valuesOf(t, m, "route"), []string{"comes", "none", "stays"}; !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
	m.RouteLogin("goes", metrics.LoginOK)
	m.RouteLogin("stays", metrics.LoginOK)
	m.AuthHTTPAsked(metrics.LoginOK, time.Second)
	if got, want := valuesOf(t, m, "route"), []string{"comes", "none", metrics.Other, "stays"}; !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
	counts, asked := map[string]float64{}, 0
	for _, f := range own(t, m) {
		for _, x := range f.GetMetric() {
			switch {
			case f.GetName() == "popgate_auth_http_duration_seconds":
				asked++
			case f.GetName() == "popgate_route_logins_total" && x.GetCounter().GetValue() > 0:
				counts[x.GetLabel()[1].GetValue()] = x.GetCounter().GetValue()
			}
		}
	}
	if want := map[string]float64{"stays": 2, metrics.Other: 1}; !maps.Equal(counts, want) {
		t.Errorf("logins %v, want %v", counts, want)
	}
	if asked != 3 {
		t.Errorf("%d answers of an auth_http service are told, want 3", asked)
	}
	m.UseRoutes([]string{"none"}, false)
	for _, f := range own(t, m) {
		if f.GetName() == "popgate_auth_http_duration_seconds" {
			t.Error("there are series of an auth_http service that nobody asks any more")
		}
	}
}

// Many routes and upstreams are no reason for many series: neither at one time nor
// one after the other.
func TestReloadsAddNoSeries(t *testing.T) {
	many := func(name string, n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint(name, "-", i))
		}
		return out
	}
	m := metrics.New(metrics.Build{}, sets())
	base := series(t, m)
	m.UseUpstreams(m.Upstreams(upstreamOps("one")))
	m.UseRoutes([]string{"one"}, false)
	one := series(t, m) - base
	for i := range 100 {
		all := m.Upstreams(upstreamOps(many(fmt.Sprint("upstream-", i), 100)...))
		m.UseUpstreams(all)
		routes := many(fmt.Sprint("route-", i), 1000)
		m.UseRoutes(routes, false)
		for _, name := range routes[:50] {
			m.RouteLogin(name, metrics.LoginOK)
		}
		for _, u := range all {
			u.Request("login", "ok", time.Second)
		}
	}
	if got, most := series(t, m)-base, (metrics.MaxUpstreams+1)*one; got > most {
		t.Errorf("%d series after 100 reloads, want %d at most: %d of one upstream and one route", got, most, one)
	}
	if n := len(valuesOf(t, m, "upstream")); n != metrics.MaxUpstreams+1 {
		t.Errorf("%d upstreams have series, want %d and the others together", n, metrics.MaxUpstreams)
	}
}

// Reloads, logins and scrapes do not wait for each other.
func TestReloadsAreSafeWhileAllIsCounted(t *testing.T) {
	m := metrics.New(metrics.Build{}, sets())
	u := upstream(m)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for n := range 50 {
				name := fmt.Sprint(i, n%2)
				m.UseUpstreams(m.Upstreams(upstreamOps(name, "one")))
				m.UseRoutes([]string{name}, n%2 == 0)
			}
		})
		wg.Go(func() {
			for range 50 {
				u.Request("login", "ok", time.Second)
				m.RouteLogin("0", metrics.LoginOK)
			}
		})
		wg.Go(func() {
			for range 20 {
				if _, err := m.Gatherer().Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
