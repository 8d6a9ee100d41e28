package metrics_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/popgate/popgate/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sets() metrics.Sets {
	return metrics.Sets{
		Listeners:  []string{"pop3", "pop3s"},
		Secure:     []string{"pop3", "pop3s"},
		Handshakes: []metrics.Handshake{{Listener: "pop3s", Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256"}},
		Ends:       []string{"quit", "autologout"},
		Commands:   []string{"RETR", "QUIT"},
		Timed:      []string{"RETR"},
		Statuses:   []string{"ok", "err"},
		Mechanisms: []string{"user"},
		Logins:     []string{"ok", "refused"},
		Results:    []string{"ok", "unavailable"},
		Listings:   []string{"full", "unchanged"},
		Rejections: []string{"full"},
		Limits:     []string{"login-time"},
		Bounds:     []string{"address"},
	}
}

func newMetrics() *metrics.Metrics {
	m := metrics.New(metrics.Build{Version: "v0", Revision: "r", GoVersion: "go"}, sets())
	m.UseRoutes([]string{"all", "none"}, true)
	upstream(m)
	return m
}

// upstream counts one mail server.
func upstream(m *metrics.Metrics) *metrics.Upstream {
	all := m.Upstreams([]metrics.UpstreamOps{{Name: "one", Ops: []string{"login", "fetch"}}})
	m.UseUpstreams(all)
	return all["one"]
}

// own lists the metrics of popgate itself.
func own(t *testing.T, m *metrics.Metrics) []*dto.MetricFamily {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "popgate_") })
}

// series counts what one scrape brings of popgate itself: a histogram is one for
// each bucket, the sum and the count.
func series(t *testing.T, m *metrics.Metrics) (n int) {
	t.Helper()
	for _, f := range own(t, m) {
		for _, x := range f.GetMetric() {
			n++
			if h := x.GetHistogram(); h != nil {
				n += len(h.GetBucket()) + 2
			}
		}
	}
	return n
}

var update = flag.Bool("update", false, "write the table of metrics into its page")

// table is what the page says of the metrics. A dashboard or an alert may rest
// on each of them: a change of it is a change for users.
func table(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	b := "| metric | labels | meaning |\n|---|---|---|\n"
	for _, f := range own(t, m) {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		b += fmt.Sprintf("| `%s` | %s | %s |\n", f.GetName(), strings.Join(labels, ", "), strings.TrimSuffix(f.GetHelp(), "."))
	}
	return b
}

// The table of the page is made of the code: go test ./metrics -run TestTableOfThePage -update
func TestTableOfThePage(t *testing.T) {
	const page, heading = "../deploy/docs/metrics.md", "# Metrics\n\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := strings.CutPrefix(string(text), heading)
	if !ok {
		t.Fatalf("%s does not begin with %q and a table", page, heading)
	}
	rows := regexp.MustCompile(`^(\|.*\n)*`).FindString(rest)
	m := newMetrics()
	m.NewOAuth([]string{"a grant"}, []string{"issued"})
	want := table(t, m)
	if *update {
		if err := os.WriteFile(page, []byte(heading+want+rest[len(rows):]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if rows != want {
		t.Errorf("the page has\n%s\nwant (go test ./metrics -run TestTableOfThePage -update)\n%s", rows, want)
	}
}

// Times are in classic buckets for every Prometheus, and in native ones for those
// that take them.
func TestHistogramsAreClassicAndNative(t *testing.T) {
	m := newMetrics()
	m.Opened(time.Second)
	m.Command("RETR", "ok", time.Second)
	upstream(m).Request("fetch", "ok", time.Second)
	seen := 0
	for _, f := range own(t, m) {
		for _, x := range f.GetMetric() {
			h := x.GetHistogram()
			if h.GetSampleCount() == 0 {
				continue
			}
			seen++
			if len(h.GetBucket()) == 0 || len(h.GetPositiveSpan()) == 0 {
				t.Errorf("%s: %d classic buckets, %d native spans", f.GetName(), len(h.GetBucket()), len(h.GetPositiveSpan()))
			}
		}
	}
	if seen != 3 {
		t.Errorf("%d histograms, want 3", seen)
	}
}

// What waits for nobody is timed together.
func TestCommandsAreTimedByWhoTheyWaitFor(t *testing.T) {
	m := newMetrics()
	m.Command("QUIT", "ok", time.Millisecond)
	m.Command("RETR", "ok", time.Millisecond)
	m.Command("RETR", "err", time.Millisecond)
	counts := map[string]uint64{}
	for _, f := range own(t, m) {
		if f.GetName() == "popgate_command_duration_seconds" {
			for _, x := range f.GetMetric() {
				counts[x.GetLabel()[0].GetValue()] = x.GetHistogram().GetSampleCount()
			}
		}
	}
	if want := map[string]uint64{"RETR": 2, metrics.Rest: 1}; !maps.Equal(counts, want) {
		t.Errorf("timed %v, want %v", counts, want)
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
	before := series(t, m)
	useRoutes(m, "all", metrics.LoginRefused)
	use(m, "pop3", "quit", "RETR", "ok", "user", "refused", "fetch", "unavailable", "unchanged", "full", "login-time",
		metrics.Handshake{Listener: "pop3s", Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256"})
	if after := series(t, m); after != before {
		t.Errorf("%d series at the start, %d after use", before, after)
	}
}

func use(m *metrics.Metrics, listener, end, verb, status, mechanism, login, op, result, how, rejection, limit string, h metrics.Handshake) {
	m.SessionBegan()
	m.SessionEnded(listener, end)
	m.Command(verb, status, time.Millisecond)
	m.Login(mechanism, login)
	m.Opened(time.Second)
	m.Retrieved(10, true)
	m.SeenFailed(1)
	u := upstream(m)
	m.SizeMismatch("one")
	u.Request(op, result, time.Second)
	u.Connection(1)
	u.Reused()
	u.UniqueIDsChanged()
	u.Listed(how)
	u.ReadAhead(1, 1)
	m.Connection(listener, 1)
	m.Rejected(rejection)
	m.CertificateShown(listener, time.Unix(1, 0))
	m.CertificateReloadFailed(listener)
	m.Throttled("address")
	m.LimitHit(limit)
	m.Secured(h)
	m.ConnectionsLimit(1)
	m.ConfigLoaded(time.Unix(1, 0))
	m.ConfigReloadFailed()
	m.Panicked()
}

func useRoutes(m *metrics.Metrics, route, outcome string) {
	m.RouteLogin(route, outcome)
	m.AuthHTTPAsked(outcome, time.Second)
}

func TestHostileValuesMintNoSeries(t *testing.T) {
	m := newMetrics()
	const strange = "what nobody expects"
	useRoutes(m, strange, strange)
	use(m, strange, strange, strange, strange, strange, strange, strange, strange, strange, strange, strange,
		metrics.Handshake{Listener: strange, Version: strange, Cipher: strange})
	before := series(t, m)
	for i := range 999 {
		v := fmt.Sprintf("alice%d@example.com\n\x00\xff", i)
		useRoutes(m, v, v)
		use(m, v, v, v, v, v, v, v, v, v, v, v, metrics.Handshake{Listener: v, Version: v, Cipher: v})
	}
	if after := series(t, m); after != before {
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
	u := upstream(m)
	u.Connection(1)
	u.Reused()
	m.Login("user", "refused")
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
# HELP popgate_upstream_connections Connections to a mail server that are logged in, waiting ones included.
# TYPE popgate_upstream_connections gauge
popgate_upstream_connections{upstream="one"} 1
# HELP popgate_upstream_reused_total Sessions that went on with a connection to a mail server that had waited (setting upstream.reuse).
# TYPE popgate_upstream_reused_total counter
popgate_upstream_reused_total{upstream="one"} 1
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

func TestFilesThatAreFollowed(t *testing.T) {
	m := newMetrics()
	wants := func(step, want string, names ...string) {
		t.Helper()
		if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), names...); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	const help = `
# HELP popgate_config_last_reload_successful Whether the configuration was right when it was last read: 0 while the one before stays.
# TYPE popgate_config_last_reload_successful gauge
popgate_config_last_reload_successful `
	const helpTime = `
# HELP popgate_config_last_reload_success_timestamp_seconds When a configuration was last put into use, in Unix time.
# TYPE popgate_config_last_reload_success_timestamp_seconds gauge
popgate_config_last_reload_success_timestamp_seconds `
	m.ConfigLoaded(time.Unix(1000, 0))
	wants("loaded", help+"1\n", "popgate_config_last_reload_successful")
	m.ConfigReloadFailed()
	wants("wrong", help+"0\n", "popgate_config_last_reload_successful")
	wants("wrong", helpTime+"1000\n", "popgate_config_last_reload_success_timestamp_seconds") // the one in use
	m.ConfigLoaded(time.Unix(2000, 0))
	wants("right again", help+"1\n", "popgate_config_last_reload_successful")
	wants("right again", helpTime+"2000\n", "popgate_config_last_reload_success_timestamp_seconds")
}
