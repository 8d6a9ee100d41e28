package metrics_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/popgate/popgate/metrics"
)

func TestHandler(t *testing.T) {
	var ready atomic.Bool
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") })
	m, log := newMetrics(), slog.New(slog.DiscardHandler)
	with, without := m.Handler(ready.Load, page, log), m.Handler(ready.Load, nil, log)
	for _, tt := range []struct {
		name, method, path string
		ready              bool
		status             int
		body               string
	}{
		{"healthy_before_ready", "GET", "/-/healthy", false, 200, "healthy\n"},
		{"not_ready_is_503", "GET", "/-/ready", false, 503, "not ready\n"},
		{"ready", "GET", "/-/ready", true, 200, "ready\n"},
		{"metrics", "GET", "/metrics", true, 200, "\npopgate_sessions 0\n"},
		{"metrics_of_the_process", "GET", "/metrics", true, 200, "\ngo_goroutines "},
		{"nothing_can_be_posted", "POST", "/metrics", true, 405, ""},
		{"no_profiles", "GET", "/debug/pprof/", true, 404, ""},
		{"the_page", "GET", "/", true, 200, "page"},
		{"the_head_of_the_page", "HEAD", "/", true, 200, ""},
		{"the_page_cannot_be_posted", "POST", "/", true, 405, ""},
		{"the_page_is_nowhere_else", "GET", "/index.html", true, 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ready.Store(tt.ready)
			w := httptest.NewRecorder()
			with.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("%s %s = %d %q, want %d with %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.body)
			}
		})
	}
	t.Run("no_page", func(t *testing.T) {
		w := httptest.NewRecorder()
		without.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("GET / without a page = %d, want 404", w.Code)
		}
	})
}

func TestServerHasADeadlineOnEverything(t *testing.T) {
	s := metrics.NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("unbounded: %+v", s)
	}
}
