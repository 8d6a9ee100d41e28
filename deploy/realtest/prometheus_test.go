package realtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// The rules are those of deploy/prometheus with shorter times: a window for rates
// holds some scrapes, and an alert waits for one more evaluation.
const (
	scrapeInterval = "500ms"
	alertWindow    = "5s"
	alertFor       = "1s"
)

// alertPatience bounds the wait for an alert to come or to go: its window, and
// the ten seconds in which the gateway notices new certificates.
const alertPatience = 40 * time.Second

// A prometheus is a real one that scrapes one target.
type prometheus struct {
	addr    string
	targets string // file that names the target
	target  string
	fired   map[string]raised // by name, what firing has ever seen
}

// prometheus starts one with its data in the lab, for target under the job popgate.
func (b *bench) prometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	dir := filepath.Join(b.Dir(), "prometheus")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil { // of an earlier run nothing counts
		t.Fatal(err)
	}
	p := &prometheus{addr: freePort(t), targets: filepath.Join(dir, "targets.json"), target: target, fired: map[string]raised{}}
	rules, err := os.ReadFile(b.deploy("prometheus/rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	rules = regexp.MustCompile(`\[[0-9]+[mh]\]`).ReplaceAll(rules, []byte("["+alertWindow+"]"))
	rules = regexp.MustCompile(`(?m)^( +for:) .*$`).ReplaceAll(rules, []byte("$1 "+alertFor))
	config := fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s}\nrule_files: [rules.yaml]\n"+
		"scrape_configs:\n  - job_name: popgate\n    file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]\n", scrapeInterval)
	for file, text := range map[string]string{"rules.yaml": string(rules), "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.scrape(t, true)
	s, err := b.Start(context.Background(), "prometheus-server", []string{p.addr}, "prometheus", // outlives the test's context by its cleanup
		"--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", p.addr, "--log.level", "warn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("prometheus: %v", err)
		}
		if t.Failed() {
			text, _ := os.ReadFile(s.LogFile)
			t.Logf("prometheus:\n%s", clip(text))
		}
	})
	return p
}

// deploy is a file of the folder deploy.
func (b *bench) deploy(name string) string { return filepath.Join(b.wd, "..", name) }

// scrape says whether the target is one.
func (p *prometheus) scrape(t *testing.T, on bool) {
	t.Helper()
	text := "[]"
	if on {
		text = fmt.Sprintf(`[{"targets": [%q]}]`, p.target)
	}
	err := os.WriteFile(p.targets+".new", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(p.targets+".new", p.targets)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// get asks the HTTP API, and puts what it answers under data into to.
func (p *prometheus) get(t *testing.T, path string, values url.Values, to any) {
	t.Helper()
	client := http.Client{Timeout: popTimeout}
	resp, err := client.Get("http://" + p.addr + "/api/v1/" + path + "?" + values.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: to}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s %v: %v %s %s", path, values, err, answer.Status, answer.Error)
	}
}

// query runs one instant query and returns how many of its samples are numbers.
func (p *prometheus) query(t *testing.T, query string) (numbers int) {
	t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	p.get(t, "query", url.Values{"query": {query}}, &data)
	for _, r := range data.Result {
		text, _ := r.Value[1].(string)
		if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) {
			numbers++
		}
	}
	return numbers
}

// A raised alert is one that fires.
type raised struct {
	State               string
	Labels, Annotations map[string]string
}

// firing returns the alerts that fire, by name.
func (p *prometheus) firing(t *testing.T) map[string]raised {
	t.Helper()
	var data struct{ Alerts []raised }
	p.get(t, "alerts", nil, &data)
	all := map[string]raised{}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			all[a.Labels["alertname"]] = a
			p.fired[a.Labels["alertname"]] = a
		}
	}
	return all
}

// health is what Prometheus says of its targets.
func (p *prometheus) health(t *testing.T) string {
	t.Helper()
	var data struct {
		ActiveTargets []struct{ Health, LastError string }
	}
	p.get(t, "targets", nil, &data)
	return fmt.Sprintf("%+v", data.ActiveTargets)
}

// await polls until done is true.
func await(t *testing.T, patience time.Duration, done func() bool) bool {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if done() {
			return true
		}
	}
	return false
}
