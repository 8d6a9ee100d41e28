package realtest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// What is watched: a gateway under load before Dovecot, a valve between the two, a
// meter between its metrics and a real Prometheus, which has the rules of
// deploy/prometheus.
type watched struct {
	*station
	*prometheus
	front      *front
	valve      *valve
	meter      *meter
	cert, key  string // files that the gateway follows
	stranger   string // a user whom nobody has seen before
	strangerPw string
	mailboxOf  int // the stranger's number
}

// The connections that the gateway of this test may have. The clients of the load
// have few of them.
const watchedConns = 40

// Every alert is made to fire and to clear, and every query of the dashboard has
// data.
func TestWatching(t *testing.T) {
	b := newBench(t, "Prometheus")
	if b.front != "" {
		t.Skip("the metrics are of the gateway, which is not the front end here")
	}
	report.guard(t, "dovecot", "prometheus", "")
	w := b.watched(t)
	leaf := func(name string, run func(t *testing.T)) { report.leaf(t, "dovecot", "prometheus", "", name, run) }
	leaf("promtool_takes_the_rules", func(t *testing.T) {
		for _, argv := range [][]string{{"check", "rules", b.deploy("prometheus/rules.yaml")}, {"test", "rules", b.deploy("prometheus/rules_test.yaml")}} {
			if out, err := program(t, "", append([]string{"promtool"}, argv...)...); err != nil {
				t.Errorf("promtool %s: %v\n%s", argv, err, out)
			}
		}
	})
	leaf("every_query_of_the_dashboard_has_data", w.dashboard)

	made := map[string]bool{}
	for _, s := range w.stages() {
		clear(w.fired)
		end := s.begin(t)
		for _, name := range s.alerts {
			made[name] = true
			leaf(name+"_fires", func(t *testing.T) { w.fires(t, name) })
		}
		if end != nil {
			end()
		}
		for _, name := range s.alerts {
			leaf(name+"_clears", func(t *testing.T) { w.clears(t, name) })
		}
	}
	leaf("no_alert_is_left_out", func(t *testing.T) {
		text, err := os.ReadFile(b.deploy("prometheus/rules.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(text), -1) {
			if !made[m[1]] {
				t.Errorf("%s is made to fire by no stage", m[1])
			}
		}
	})
	leaf("nothing_fires_in_the_end", func(t *testing.T) {
		if all := w.firing(t); len(all) > 0 {
			t.Errorf("%v", all)
		}
	})
	report.progress("dovecot", "prometheus")
}

func (b *bench) watched(t *testing.T) *watched {
	t.Helper()
	version, err := lab.PackageVersion(t.Context(), "prometheus")
	if err != nil {
		t.Fatal(err)
	}
	report.version("prometheus", version)
	w := &watched{station: b.start(t, "dovecot"), front: &front{pop3: freePort(t), pop3s: freePort(t)}}
	w.valve = newValve(t, w.IMAP)
	dir := filepath.Join(b.Dir(), "watched")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.cert, w.key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	w.certificate(t, 12*time.Hour)
	config := filepath.Join(dir, "popgate.yaml")
	text := fmt.Sprintf("listen: [pop3://%s, pop3s://%s]\ntls: {cert: %q, key: %q}\nupstream: {url: \"imap://%s\"}\n"+
		"limits: {connections: %d}\nthrottle: {guesses: 2, delay: 0s, count-loopback: true}\n",
		w.front.pop3, w.front.pop3s, w.cert, w.key, w.valve.addr, watchedConns)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	b.serve(t, w.front, "watched", "--config", config)
	w.stranger, w.strangerPw, w.mailboxOf = w.account(t)
	// Seen once, from here on nobody's guesses count for this user.
	login(t, w.front.pop3, w.stranger, w.strangerPw).ok(t, "QUIT")
	w.load(t)
	w.meter = newMeter(t, w.front.metrics)
	w.prometheus = b.prometheus(t, w.meter.addr)
	return w
}

// certificate puts a pair of files in the place of those that the gateway follows.
func (w *watched) certificate(t *testing.T, lasts time.Duration) {
	t.Helper()
	cert, key, err := lab.SelfSigned(lasts)
	if err != nil {
		t.Fatal(err)
	}
	w.replace(t, w.key, key)
	w.replace(t, w.cert, cert)
}

func (w *watched) replace(t *testing.T, file string, text []byte) {
	t.Helper()
	err := os.WriteFile(file+".new", text, 0o644)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// dashboard runs the queries as Grafana does.
func (w *watched) dashboard(t *testing.T) {
	text, err := os.ReadFile(w.bench.deploy("grafana/popgate.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			n++
			query := strings.NewReplacer("$__rate_interval", alertWindow, "$instance", ".*", "$upstream", ".*").Replace(q.Expr)
			if !await(t, alertPatience, func() bool { return w.query(t, query) > 0 }) {
				t.Errorf("%s: no data of %s", p.Title, query)
			}
		}
	}
	if n == 0 {
		t.Error("the dashboard has no query")
	}
}

// fires waits for an alert, whose texts must then be filled in. It may have cleared
// again while another was waited for.
func (w *watched) fires(t *testing.T, name string) {
	if !await(t, alertPatience, func() bool { w.firing(t); return w.fired[name].State != "" }) {
		t.Fatalf("%s does not fire", name)
	}
	a := w.fired[name]
	for key, text := range a.Annotations {
		if strings.Contains(text, "{{") || strings.Contains(text, "<no value>") || strings.Contains(text, "<error") {
			t.Errorf("%s: %s", key, text)
		}
	}
}

func (w *watched) clears(t *testing.T, name string) {
	if !await(t, alertPatience, func() bool { _, fires := w.firing(t)[name]; return !fires }) {
		t.Errorf("%s does not clear; the targets: %s", name, w.health(t))
	}
}

// A stage makes some alerts fire. What begin returns, if anything, makes them clear
// again; without it they clear by themselves, because their cause was an event.
type stage struct {
	alerts []string
	begin  func(t *testing.T) (end func())
}

func (w *watched) stages() []stage {
	return []stage{
		{[]string{"PopgateCertificateExpiring", "PopgateCertificateExpired", "PopgateCertificateReloadFails",
			"PopgateDeletionsDoNotBalance", "PopgateConfigReloadFails", "PopgateConnectionsNearLimit",
			"PopgateTokensFailing", "PopgateRefreshTokenExpiring"}, w.states},
		{[]string{"PopgateDeletionsKept", "PopgatePanics", "PopgateSizesWrong", "PopgateLimitHit", "PopgateThrottleActive", "PopgateTokenIssuerDown"}, w.events},
		{[]string{"PopgateUniqueIDsChanged"}, w.renumber},
		{[]string{"PopgateUpstreamErrors", "PopgateNoLogins"}, func(*testing.T) func() {
			w.valve.set(true, 0)
			return func() { w.valve.set(false, 0) }
		}},
		{[]string{"PopgateUpstreamSlow"}, func(*testing.T) func() {
			w.valve.set(false, 1100*time.Millisecond)
			return func() { w.valve.set(false, 0) }
		}},
		{[]string{"PopgateDown"}, func(*testing.T) func() {
			w.meter.fail(true)
			return func() { w.meter.fail(false) }
		}},
		{[]string{"PopgateAbsent"}, func(t *testing.T) func() {
			w.scrape(t, false)
			return func() { w.scrape(t, true) }
		}},
	}
}

// states brings about what lasts until it is cured. The certificate has been about
// to expire from the start; then its files become of no use. Some states are not to
// be had of a gateway that works: the meter tells them.
func (w *watched) states(t *testing.T) (end func()) {
	w.replace(t, w.cert, []byte("no certificate\n"))
	tampered := map[string]float64{
		`popgate_deletions_total{outcome="marked"}`:                       1,
		`popgate_config_last_reload_successful`:                           -1,
		`popgate_oauth_accounts{grant="g",state="failing"}`:               1,
		`popgate_oauth_refresh_token_expiry_timestamp_seconds{grant="g"}`: float64(time.Now().Unix()) - 99000000000 + 86400,
	}
	w.meter.change(tampered)
	idle := w.connect(t, watchedConns*9/10) // the load makes do with the others
	return func() {
		w.certificate(t, 90*24*time.Hour)
		for series := range tampered {
			w.meter.change(map[string]float64{series: 0})
		}
		hangUp(idle)
	}
}

// events brings about what happens at one time: guesses, a limit that is hit, and
// by the meter what no test can make of a real mail server at will.
func (w *watched) events(t *testing.T) (end func()) {
	w.guess(t)
	hangUp(w.connect(t, 2*watchedConns))
	w.meter.change(map[string]float64{
		`popgate_deletions_total{outcome="kept"}`:                1,
		`popgate_deletions_total{outcome="marked"}`:              1,
		`popgate_panics_total`:                                   1,
		`popgate_size_mismatch_total{upstream="upstream"}`:       1,
		`popgate_oauth_requests_total{grant="g",outcome="down"}`: 1000,
	})
	return nil
}

// connect opens n connections, of which the gateway need not take all.
func (w *watched) connect(t *testing.T, n int) []net.Conn {
	t.Helper()
	var all []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", w.front.pop3, popTimeout)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func hangUp(all []net.Conn) {
	for _, c := range all {
		c.Close()
	}
}

// renumber takes from Dovecot what it knows of a mailbox beside the messages, so
// that it gives them other UIDs under another UIDVALIDITY.
func (w *watched) renumber(t *testing.T) (end func()) {
	dir := filepath.Join(w.bench.Dir(), "dovecot", "mail", fmt.Sprintf("user%d", w.mailboxOf), "Maildir")
	files, err := filepath.Glob(filepath.Join(dir, "dovecot*"))
	if err != nil || !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, "uidlist") }) {
		t.Fatalf("%s has no uidlist: %v, %v", dir, files, err)
	}
	for _, file := range files {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
	}
	login(t, w.front.pop3, w.stranger, w.strangerPw).ok(t, "QUIT")
	return nil
}

// guess tries passwords until the throttle has refused more than the alert wants.
func (w *watched) guess(t *testing.T) {
	t.Helper()
	for n := range 30 {
		p := dialPOP(t, w.front.pop3)
		p.ok(t, "USER nobody%d", n)
		p.refused(t, "AUTH", "PASS guess")
		p.conn.Close()
	}
}
