package status

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Refresh is how often a browser asks for the page anew, in seconds; ?refresh=off
// stops it. It is a meta element, and no header, so that it is seen to be there and
// a reader can stop it.
const refresh = 30

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// Options is what the page is made of. All of it is required, but for Words.
type Options struct {
	Version, Revision, GoVersion string

	Gatherer prometheus.Gatherer
	// Ready reports whether new sessions are served.
	Ready func() bool
	// Facts tells what the registry does not know. It is called for every page, while
	// others are made too.
	Facts func() Facts
	// Words are the closed sets of which attributes of the log may be shown.
	Words []string
}

// Facts are what the operator set. It names no user.
type Facts struct {
	Listeners []Listener
	Upstreams []Upstream
	Limits    []Limit
	Warnings  []string // about the configuration that is in use
	// Wrong is where the configuration that was read last is wrong, so that the one
	// before stays; "" while it is in use.
	Wrong string
}

// A Listener is where clients connect.
type Listener struct {
	Name     string // in the metrics
	URL      string // with the address that it is bound to
	Security string // in words
}

// An Upstream is where mailboxes are.
type Upstream struct {
	Name     string // in the metrics
	URL      string
	Security string // in words
}

// A Limit says what a reason to turn somebody away is called, and what it is set to;
// "" where it is off. Metric and Value are its counter and the value of the label.
type Limit struct{ Metric, Value, Name, Setting string }

// Page is the page, and the samples that it is made from.
type Page struct {
	options  Options
	began    time.Time
	history  *history
	journal  *journal
	template *template.Template
	policy   string
	turn     sync.Mutex // one page is made at a time
}

// New returns a page without samples: see [Page.Run].
func New(o Options) *Page {
	digest := sha256.Sum256([]byte(pageCSS))
	return &Page{
		options: o, began: time.Now(), history: newHistory(), journal: &journal{words: o.Words},
		template: template.Must(template.New("status").Funcs(template.FuncMap{"pieces": pieces}).Parse(pageHTML)),
		policy: "default-src 'none'; img-src data:; style-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
}

// Watch returns a handler that hands everything on to next, and keeps for the page
// the warnings and errors: the message, numbers under known names, and words of
// closed sets. Messages must be constant.
func (p *Page) Watch(next slog.Handler) slog.Handler { return &watcher{journal: p.journal, next: next} }

// Run takes a sample at once and then every ten seconds, until ctx ends.
func (p *Page) Run(ctx context.Context) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		// Where a part could not be gathered, there is the rest.
		families, _ := p.options.Gatherer.Gather()
		p.history.record(time.Now(), families)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// ServeHTTP answers with the page. The caller sees to method and path.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := p.render(r.URL.Query().Get("refresh") != "off")
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if err != nil { // a fault in the template
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(b) // a browser that left is no concern of ours
}

func (p *Page) render(again bool) ([]byte, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	v := p.view(time.Now())
	v.Style = template.CSS(pageCSS)
	if again {
		v.Refresh = refresh
	}
	var b bytes.Buffer
	err := p.template.Execute(&b, v)
	return b.Bytes(), err
}
