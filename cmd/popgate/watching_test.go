package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream/oauth"
)

const (
	rulesFile     = "../../deploy/prometheus/rules.yaml"
	ruleTestsFile = "../../deploy/prometheus/rules_test.yaml"
	dashboardFile = "../../deploy/grafana/popgate.json"
)

// An alert is one rule of rulesFile.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []alert } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts in ", rulesFile)
	}
	return all
}

// A panel is a part of the dashboard.
type panel struct {
	Title, Type string
	Datasource  struct{ UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Expr       string
		Datasource struct{ UID string }
	}
}

// panels are those of the dashboard, on which can be chosen what there is.
func panels(t *testing.T, v vocabulary) []panel {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		SchemaVersion int
		Panels        []panel
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	if board.SchemaVersion < 39 || len(board.Panels) == 0 {
		t.Fatalf("schema %d, %d panels", board.SchemaVersion, len(board.Panels))
	}
	for _, c := range board.Templating.List {
		if c.Type == "query" {
			v.check(t, "variable "+c.Name, c.Definition)
		}
	}
	return board.Panels
}

// A vocabulary is what a scrape of a gateway with TLS knows: of each metric the
// labels, and their values.
type vocabulary map[string]map[string][]string

func newVocabulary(t *testing.T) vocabulary {
	t.Helper()
	cfg, err := config.Load("", config.Flags{"listen": {"pop3://127.0.0.1", "pop3s://127.0.0.1"}, "upstream": {"imap://127.0.0.1"},
		"tls-cert": {certFile}, "tls-key": {keyFile}})
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.New(metrics.Build{}, labelSets(cfg))
	m.UseUpstreams(m.Upstreams(upstreamOps(cfg.Upstreams)))
	useRoutes(m, append(cfg.Routes, config.Route{Name: "asked", AuthHTTP: config.AuthHTTP{URL: "https://127.0.0.1"}}))
	m.NewOAuth([]string{"a grant"}, words(oauth.Outcomes()))
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	v := vocabulary{"up": {}, "ALERTS": {}}
	for _, f := range families {
		labels := map[string][]string{}
		for _, x := range f.GetMetric() {
			for _, l := range x.GetLabel() {
				labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
			}
		}
		v[f.GetName()] = labels
		if f.GetMetric()[0].GetHistogram() != nil {
			v[f.GetName()+"_count"], v[f.GetName()+"_sum"] = labels, labels
			buckets := map[string][]string{"le": nil}
			for name, values := range labels {
				buckets[name] = values
			}
			v[f.GetName()+"_bucket"] = buckets
			delete(v, f.GetName()) // no series of a classic histogram has its name
		}
	}
	return v
}

var (
	selectors = regexp.MustCompile(`\b((?:popgate|process|go)_[a-z_]+|up)\b(?:\{([^}]*)\})?`)
	matchers  = regexp.MustCompile(`([a-z]+) *(=~|!~|!=|=) *"([^"]*)"`)
	groupings = regexp.MustCompile(`\b(?:by|without|on|ignoring) *\(([a-z, ]*)\)`)
)

// check tells what of a query does not exist, and which metrics it is about.
func (v vocabulary) check(t *testing.T, where, query string) (about []string) {
	t.Helper()
	known := func(labels map[string][]string, label string) bool {
		_, ok := labels[label]
		return ok || label == "job" || label == "instance" // Prometheus adds them
	}
	for _, s := range selectors.FindAllStringSubmatch(query, -1) {
		labels, ok := v[s[1]]
		if !ok {
			t.Errorf("%s: there is no %s", where, s[1])
			continue
		}
		about = append(about, s[1])
		for _, m := range matchers.FindAllStringSubmatch(s[2], -1) {
			if !known(labels, m[1]) {
				t.Errorf("%s: %s has no label %s", where, s[1], m[1])
			}
			if labels[m[1]] == nil || strings.HasPrefix(m[3], "$") { // a variable of the dashboard
				continue
			}
			for _, value := range strings.Split(m[3], "|") {
				if !slices.Contains(labels[m[1]], value) {
					t.Errorf("%s: %s has no %s %q, but %q", where, s[1], m[1], value, labels[m[1]])
				}
			}
		}
	}
	for _, g := range groupings.FindAllStringSubmatch(query, -1) {
		for _, label := range strings.Split(g[1], ",") {
			if !slices.ContainsFunc(about, func(name string) bool { return known(v[name], strings.TrimSpace(label)) }) {
				t.Errorf("%s: nothing in it has the label %q", where, label)
			}
		}
	}
	if len(about) == 0 {
		t.Errorf("%s: %q asks for nothing of popgate", where, query)
	}
	return about
}

// Alerts ask for what there is, and tell whoever is woken what it means, what to
// look at and what to do.
func TestAlerts(t *testing.T) {
	v := newVocabulary(t)
	tests, err := os.ReadFile(ruleTestsFile)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range alerts(t) {
		v.check(t, a.Alert, a.Expr)
		if seen[a.Alert] || !strings.HasPrefix(a.Alert, "Popgate") {
			t.Errorf("%q is not the name of one alert of popgate", a.Alert)
		}
		seen[a.Alert] = true
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity %q", a.Alert, s)
		}
		if a.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", a.Alert)
		}
		for _, part := range []string{"Means: ", "Look at", "do: "} {
			if !strings.Contains(strings.ReplaceAll(a.Annotations["runbook"], "Do: ", "do: "), part) {
				t.Errorf("%s: the runbook has no %q", a.Alert, part)
			}
		}
		if !strings.Contains(string(tests), "- name: "+a.Alert+"\n") {
			t.Errorf("%s has no test in %s", a.Alert, ruleTestsFile)
		}
	}
	for _, m := range regexp.MustCompile(`Popgate[A-Za-z]+`).FindAllString(string(tests), -1) {
		if !seen[m] {
			t.Errorf("%s tests %s, which is no alert", ruleTestsFile, m)
		}
	}
}

// The dashboard asks for what there is, shows every metric of popgate, and nothing
// of it lies on top of something else.
func TestDashboard(t *testing.T) {
	v := newVocabulary(t)
	shown := map[string]bool{}
	var before []panel
	for _, p := range panels(t, v) {
		for _, q := range p.Targets {
			for _, name := range v.check(t, p.Title, q.Expr) {
				shown[name] = true
			}
			if q.Datasource.UID != "${datasource}" {
				t.Errorf("%s: the data source is %q and not to be chosen", p.Title, q.Datasource.UID)
			}
		}
		if (len(p.Targets) == 0) != (p.Type == "row") {
			t.Errorf("%s: a %s with %d queries", p.Title, p.Type, len(p.Targets))
		}
		g := p.GridPos
		if g.X+g.W > 24 || g.W <= 0 || g.H <= 0 {
			t.Errorf("%s: at %+v", p.Title, g)
		}
		for _, o := range before {
			if h := o.GridPos; g.X < h.X+h.W && h.X < g.X+g.W && g.Y < h.Y+h.H && h.Y < g.Y+g.H {
				t.Errorf("%s lies on %s", p.Title, o.Title)
			}
		}
		before = append(before, p)
	}
	for name := range v {
		if strings.HasPrefix(name, "popgate_") && !shown[name] && !shown[strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_sum")+"_bucket"] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}
