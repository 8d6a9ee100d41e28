package status_test

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/metrics/status"
)

var update = flag.Bool("update", false, "write the pages of testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const every = 10 * time.Second // between two samples

func sets() metrics.Sets {
	return metrics.Sets{
		Listeners:  []string{"pop3://0.0.0.0:110", "pop3s://0.0.0.0:995"},
		Secure:     []string{"pop3://0.0.0.0:110", "pop3s://0.0.0.0:995"},
		Ends:       []string{"quit", "client-gone", "autologout"},
		Commands:   []string{"RETR", "DELE", "QUIT"},
		Statuses:   []string{"ok", "err"},
		Mechanisms: []string{"user"},
		Logins:     []string{"ok", "refused", "unavailable"},
		Results:    []string{"ok", "refused", "unavailable", "internal"},
		Listings:   []string{"full", "unchanged"},
		Timed:      []string{"RETR", "QUIT"},
		Limits:     []string{"connections", "idle-time"},
		Rejections: []string{"connections", "address", "handshake"},
		Bounds:     []string{"address", "account"},
	}
}

func facts() status.Facts {
	return status.Facts{
		Listeners: []status.Listener{
			{Name: "pop3://0.0.0.0:110", URL: "pop3://0.0.0.0:110", Security: "STLS"},
			{Name: "pop3s://0.0.0.0:995", URL: "pop3s://0.0.0.0:995", Security: "TLS"},
		},
		Upstreams: []status.Upstream{{Name: "upstream", URL: "imaps://imap.example.net:993", Security: "TLS from the first octet"}},
		Limits: []status.Limit{
			{Metric: "popgate_limit_hits_total", Value: "connections", Name: "limits.connections", Setting: "10000"},
			{Metric: "popgate_limit_hits_total", Value: "mailbox-octets", Name: "limits.mailbox-octets"},
			{Metric: "popgate_throttled_total", Value: "address", Name: "throttle.guesses, by address", Setting: "20"},
		},
		Warnings: []string{"lock.enabled: false lets two sessions change one maildrop at the same time"},
	}
}

// newMetrics is a registry with some routes and one mail server.
func newMetrics() (*metrics.Metrics, *metrics.Upstream) {
	m := metrics.New(metrics.Build{Version: "v1.2.3", Revision: "0123456789ab", GoVersion: "go1.26.8"}, sets())
	m.UseRoutes([]string{"none", "office", "scanners"}, false)
	all := m.Upstreams([]metrics.UpstreamOps{{Name: "upstream", Ops: ops()}})
	m.UseUpstreams(all)
	return m, all["upstream"]
}

func ops() []string { return []string{"connect", "login", "fetch", "expunge"} }

// A bench is a page before a registry.
type bench struct {
	m     *metrics.Metrics
	one   *metrics.Upstream // the mail server of the facts
	page  *status.Page
	facts status.Facts
	ready bool
	log   *slog.Logger
	path  string // of the page
}

// newBench starts a page in a bubble of synctest. No sample is due before the clock
// has moved.
func newBench(t *testing.T, f status.Facts, words ...string) *bench {
	t.Helper()
	b := &bench{facts: f, ready: true, path: "/"}
	b.m, b.one = newMetrics()
	b.m.ConnectionsLimit(10000)
	b.page = status.New(status.Options{
		Version: "v1.2.3", Revision: "0123456789ab", GoVersion: "go1.26.8",
		Gatherer: b.m.Gatherer(), Ready: func() bool { return b.ready }, Facts: func() status.Facts { return b.facts },
		Words: words,
	})
	b.log = slog.New(b.page.Watch(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.page.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
	return b
}

// upstreams puts a configuration with these mail servers into use.
func (b *bench) upstreams(names ...string) map[string]*metrics.Upstream {
	var list []metrics.UpstreamOps
	for _, name := range names {
		list = append(list, metrics.UpstreamOps{Name: name, Ops: ops()})
	}
	all := b.m.Upstreams(list)
	b.m.UseUpstreams(all)
	return all
}

// after lets time pass, and the sample that is due then.
func (b *bench) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// get is what a browser gets.
func (b *bench) get(path string) *http.Response {
	w := httptest.NewRecorder()
	b.page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Result()
}

func (b *bench) body(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	r := b.get(b.path)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("GET %s = %s", b.path, r.Status)
	}
	if _, err := io.Copy(&text, r.Body); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// wordy is a page whose texts are long, and have no place where a line may end.
func (b *bench) wordy() {
	long := strings.Repeat("abcdefghij", 30)
	b.facts.Listeners[0].URL, b.facts.Listeners[0].Security = "pop3://"+long+":110", long
	b.facts.Listeners[1].URL = "pop3s://[2001:db8:1111:2222:3333:4444:5555:6666]:995"
	b.facts.Upstreams[0].URL, b.facts.Upstreams[0].Security = "imaps://"+long, long
	b.facts.Limits[0].Name, b.facts.Limits[0].Setting = long, long
	b.facts.Warnings = []string{long}
	b.m.CertificateShown(long, time.Now())
	b.one.Request("expunge", "unavailable", time.Minute)
	b.m.SessionBegan()
	b.m.SessionEnded("pop3://0.0.0.0:110", long)
	for range 123_456 {
		b.m.Retrieved(1<<40, true)
	}
	b.log.Error(long, "cause", long)
	b.after(every)
}

// busy is an hour and more of some load, with a failure now and then.
func (b *bench) busy() {
	expires := time.Now().Add(31 * 24 * time.Hour)
	b.m.CertificateShown("pop3://0.0.0.0:110", expires)
	b.m.CertificateShown("pop3s://0.0.0.0:995", expires.Add(-23*24*time.Hour))
	b.facts.Upstreams[0].URL = "upstream imaps://imap.example.net:993"
	b.facts.Upstreams = append(b.facts.Upstreams, status.Upstream{Name: "archive", URL: "archive jmap+https://mail.example.org:443", Security: "TLS from the first octet"})
	archive := b.upstreams("upstream", "archive")["archive"]
	open := 0
	for i := range 400 {
		load := int(12 + 9*math.Sin(float64(i)/40) + 4*math.Sin(float64(i)/5))
		for ; open < load; open++ {
			b.m.SessionBegan()
			b.m.Connection("pop3s://0.0.0.0:995", 1)
			b.one.Connection(1)
			b.m.Login("user", "ok")
			b.m.RouteLogin([]string{"office", "office", "scanners"}[open%3], metrics.LoginOK)
			b.one.Request("connect", "ok", 4*time.Millisecond)
			b.one.Request("login", "ok", time.Duration(20+i%90)*time.Millisecond)
		}
		for ; open > load; open-- {
			b.m.SessionEnded("pop3s://0.0.0.0:995", []string{"quit", "quit", "client-gone"}[open%3])
			b.m.Connection("pop3s://0.0.0.0:995", -1)
			b.one.Connection(-1)
		}
		for n := range load {
			b.m.Command("RETR", "ok", time.Duration(1+n*n)*time.Millisecond)
			b.one.Request("fetch", "ok", time.Duration(3+n*3)*time.Millisecond)
			b.m.Retrieved(40_000, true)
		}
		switch {
		case i%37 == 0:
			b.m.Login("user", "refused")
			b.m.RouteLogin("office", metrics.LoginRefused)
			b.one.Request("login", "refused", 30*time.Millisecond)
			b.log.Warn("login failed", "cause", "refused", "mechanism", "PLAIN", "user", "alice@example.net", "error", "NO for alice@example.net")
		case i%149 == 0:
			b.m.Login("user", "unavailable")
			b.one.Request("connect", "unavailable", 10*time.Second)
			b.log.Warn("login failed", "cause", "unavailable", "mechanism", "PLAIN", "user", "bob@example.net")
		}
		if i < 380 && i%25 == 0 {
			archive.Request("login", "ok", 90*time.Millisecond)
		} else if i >= 380 && i%7 == 0 {
			archive.Request("login", "unavailable", 10*time.Second)
		}
		if i%9 == 0 {
			b.m.Deletions(metrics.Marked, 3)
			b.m.Deletions(metrics.Removed, 3)
			b.one.Request("expunge", "ok", 60*time.Millisecond)
		}
		if i == 150 {
			b.m.Rejected("connections")
			b.m.LimitHit("connections")
			b.m.Throttled("address")
			b.log.Error("the new certificate is of no use, the last one stays", "error", "no PEM in /etc/key.pem")
		}
		b.after(every)
	}
}

func TestPages(t *testing.T) {
	for name, make := range map[string]func(b *bench){
		"start":  func(*bench) {},
		"minute": func(b *bench) { b.m.SessionBegan(); b.after(7 * every) },
		"wordy":  (*bench).wordy,
		"busy":   (*bench).busy,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := facts()
				if name != "busy" {
					f.Warnings = nil
				}
				b := newBench(t, f, "refused", "unavailable", strings.Repeat("abcdefghij", 30))
				make(b)
				golden(t, name, b.body(t))
			})
		})
	}
}

// golden compares a page with the one of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".html")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s, line %d:\ngot  %s\nwant %s", file, i+1, g[i], w[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", file, len(g), len(w))
}
