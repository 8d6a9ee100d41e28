package metrics_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/popgate/popgate/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sets() metrics.Sets {
	return metrics.Sets{
		Listeners:  []string{"pop3", "pop3s"},
		Secure:     []string{"pop3", "pop3s"},
		Ends:       []string{"quit", "autologout"},
		Commands:   []string{"RETR", "QUIT"},
		Statuses:   []string{"ok", "err"},
		Mechanisms: []string{"user"},
		Logins:     []string{"ok", "refused"},
		Ops:        []string{"login", "fetch"},
		Results:    []string{"ok", "unavailable"},
		Listings:   []string{"full", "unchanged"},
		Rejections: []string{"full"},
		Bounds:     []string{"address"},
		Routes:     []string{"all", "none"},
		AuthHTTP:   true,
	}
}

func newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Build{Version: "v0", Revision: "r", GoVersion: "go"}, sets())
}

// names is every metric of popgate with its labels. A dashboard or an alert
// may rest on each of them: a change here is a change for users.
func names() map[string]string {
	return map[string]string{
		"popgate_build_info":                           "goversion,revision,version",
		"popgate_command_duration_seconds":             "command",
		"popgate_commands_total":                       "command,status",
		"popgate_connections":                          "listener",
		"popgate_deletions_total":                      "outcome",
		"popgate_logins_total":                         "mechanism,result",
		"popgate_open_duration_seconds":                "",
		"popgate_panics_total":                         "",
		"popgate_rejected_total":                       "reason",
		"popgate_retrieved_bytes_total":                "",
		"popgate_retrieved_messages_total":             "",
		"popgate_seen_failures_total":                  "",
		"popgate_sessions":                             "",
		"popgate_sessions_total":                       "end,listener",
		"popgate_size_mismatch_total":                  "",
		"popgate_upstream_connections":                 "",
		"popgate_upstream_read_ahead_messages_total":   "result",
		"popgate_upstream_request_duration_seconds":    "op",
		"popgate_upstream_requests_total":              "op,result",
		"popgate_upstream_listings_total":              "how",
		"popgate_upstream_reused_total":                "",
		"popgate_certificate_expiry_timestamp_seconds": "listener",
		"popgate_certificate_reload_failures_total":    "listener",
		"popgate_throttled_total":                      "by",
		"popgate_route_logins_total":                   "result,route",
		"popgate_auth_http_duration_seconds":           "result",
		"popgate_routes_loaded_timestamp_seconds":      "",
		"popgate_routes_reload_failures_total":         "",
	}
}

// registered lists what the registry shows.
func registered(t *testing.T, m *metrics.Metrics) (labels map[string]string, series int) {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	labels = map[string]string{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "popgate_") {
			continue
		}
		series += len(f.GetMetric())
		var names []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		slices.Sort(names)
		labels[f.GetName()] = strings.Join(names, ",")
	}
	return labels, series
}

func TestNames(t *testing.T) {
	if got, _ := registered(t, newMetrics()); !maps.Equal(got, names()) {
		t.Errorf("registered:\n%v\nwant:\n%v", got, names())
	}
}

var row = regexp.MustCompile("^\\| *`(popgate_[a-z_]+)")

// The table under the heading "Metrics" of the README names them all.
func TestReadmeTable(t *testing.T) {
	f, err := os.Open("../README.md")
	if err != nil {
		t.Skip("no README here: ", err)
	}
	defer f.Close()
	inside, found := false, map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if heading, ok := strings.CutPrefix(line, "#"); ok {
			inside = strings.TrimLeft(heading, "# ") == "Metrics"
		}
		if m := row.FindStringSubmatch(line); m != nil && inside {
			found[m[1]] = true
		}
	}
	if len(found) == 0 {
		t.Skip("the README has no table under a heading \"Metrics\"")
	}
	for name := range names() {
		if !found[name] {
			t.Errorf("the README's table lacks %s", name)
		}
	}
	for name := range found {
		if _, ok := names()[name]; !ok {
			t.Errorf("the README's table has %s, which does not exist", name)
		}
	}
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(newMetrics().Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEverySeriesExistsFromTheStart(t *testing.T) {
	m := newMetrics()
	_, before := registered(t, m)
	useRoutes(m, "all", metrics.LoginRefused)
	use(m, "pop3", "quit", "RETR", "ok", "user", "refused", "fetch", "unavailable", "unchanged", "full")
	if _, after := registered(t, m); after != before {
		t.Errorf("%d series at the start, %d after use", before, after)
	}
}

func use(m *metrics.Metrics, listener, end, verb, status, mechanism, login, op, result, how, rejection string) {
	m.SessionBegan()
	m.SessionEnded(listener, end)
	m.Command(verb, status, time.Millisecond)
	m.Login(mechanism, login)
	m.Opened(time.Second)
	m.Retrieved(10, true)
	m.SeenFailed(1)
	m.SizeMismatch()
	m.Request(op, result, time.Second)
	m.UpstreamConnection(1)
	m.UpstreamReused()
	m.Connection(listener, 1)
	m.Listed(how)
	m.Rejected(rejection)
	m.CertificateExpires(listener, time.Unix(1, 0))
	m.CertificateReloadFailed(listener)
	m.Throttled("address")
	m.Panicked()
}

func useRoutes(m *metrics.Metrics, route, outcome string) {
	m.RouteLogin(route, outcome)
	m.AuthHTTPAsked(outcome, time.Second)
	m.RoutesLoaded(time.Unix(1, 0))
	m.RoutesReloadFailed()
}

// Many routes are no reason for many series.
func TestOnlySoManyRoutesHaveSeries(t *testing.T) {
	few, many := sets(), sets()
	few.Routes = nil
	for i := range 10_000 {
		many.Routes = append(many.Routes, fmt.Sprint("route-", i))
	}
	_, before := registered(t, metrics.New(metrics.Build{}, few))
	if _, after := registered(t, metrics.New(metrics.Build{}, many)); after-before > 3*metrics.MaxRoutes {
		t.Errorf("%d series without a route, %d with 10,000", before, after)
	}
}

func TestHostileValuesMintNoSeries(t *testing.T) {
	m := newMetrics()
	const strange = "what nobody expects"
	useRoutes(m, strange, strange)
	use(m, strange, strange, strange, strange, strange, strange, strange, strange, strange, strange)
	_, before := registered(t, m)
	for i := range 999 {
		v := fmt.Sprintf("alice%d@example.com\n\x00\xff", i)
		use(m, v, v, v, v, v, v, v, v, v, v)
		useRoutes(m, v, v)
	}
	if _, after := registered(t, m); after != before {
		t.Errorf("%d series with one strange value, %d after hostile values", before, after)
	}
	const want = `
# HELP popgate_commands_total POP3 commands answered, by verb and status.
# TYPE popgate_commands_total counter
popgate_commands_total{command="QUIT",status="err"} 0
popgate_commands_total{command="QUIT",status="ok"} 0
popgate_commands_total{command="RETR",status="err"} 0
popgate_commands_total{command="RETR",status="ok"} 0
popgate_commands_total{command="other",status="other"} 1000
`
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), "popgate_commands_total"); err != nil {
		t.Error(err)
	}
}

func TestValues(t *testing.T) {
	m := newMetrics()
	m.SessionBegan()
	m.SessionBegan()
	m.SessionEnded("pop3", "quit")
	m.Retrieved(100, true)
	m.Retrieved(20, false)
	m.Retrieved(-1, false) // a count that is not known adds nothing
	for i, outcome := range metrics.Outcomes() {
		m.Deletions(outcome, i+1)
	}
	m.Connection("pop3s", 1)
	m.Connection("pop3s", 1)
	m.Connection("pop3s", -1)
	m.UpstreamConnection(1)
	m.UpstreamReused()
	m.Login("user", "refused")
	m.Request("fetch", "ok", time.Second)
	const want = `
# HELP popgate_connections Connections of POP3 clients that are open, by listener.
# TYPE popgate_connections gauge
popgate_connections{listener="pop3"} 0
popgate_connections{listener="pop3s"} 1
# HELP popgate_deletions_total Deletions by outcome: marked = reset + abandoned + removed + missing + kept.
# TYPE popgate_deletions_total counter
popgate_deletions_total{outcome="abandoned"} 3
popgate_deletions_total{outcome="kept"} 6
popgate_deletions_total{outcome="marked"} 1
popgate_deletions_total{outcome="missing"} 5
popgate_deletions_total{outcome="removed"} 4
popgate_deletions_total{outcome="reset"} 2
# HELP popgate_retrieved_bytes_total Octets of messages sent to POP3 clients, whole or in part.
# TYPE popgate_retrieved_bytes_total counter
popgate_retrieved_bytes_total 120
# HELP popgate_retrieved_messages_total Messages sent to POP3 clients whole.
# TYPE popgate_retrieved_messages_total counter
popgate_retrieved_messages_total 1
# HELP popgate_sessions POP3 sessions that are open.
# TYPE popgate_sessions gauge
popgate_sessions 1
# HELP popgate_upstream_connections Connections to the mail service that are logged in.
# TYPE popgate_upstream_connections gauge
popgate_upstream_connections 1
# HELP popgate_upstream_reused_total Sessions that went on with a connection to the mail service that had waited.
# TYPE popgate_upstream_reused_total counter
popgate_upstream_reused_total 1
`
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), "popgate_connections", "popgate_deletions_total",
		"popgate_retrieved_bytes_total", "popgate_retrieved_messages_total", "popgate_sessions", "popgate_upstream_connections", "popgate_upstream_reused_total"); err != nil {
		t.Error(err)
	}
}

func TestAnOutcomeOfNoSetPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Deletions(\"lost\") did not panic")
		}
	}()
	newMetrics().Deletions("lost", 1)
}
