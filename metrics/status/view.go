package status

import (
	"cmp"
	"fmt"
	"html/template"
	"log/slog"
	"slices"
	"strings"
	"time"
)

const maxRows = 64 // of a table

// What has less time left is worth a word.
const soon = 14 * 24 * time.Hour

// A view is the page as the template takes it: texts, ready to be shown.
type view struct {
	Style   template.CSS
	Refresh int // seconds; 0: not at all

	Version, Revision, GoVersion string
	Ready                        bool
	Up, Over                     string // how long; what "the last hour" is
	Now                          moment

	Attention []notice
	Tiles     []tile
	Plots     []plot
	Listeners []row
	Upstreams []row
	Requests  []row
	Routes    []row
	Expiries  []row
	Limits    []row
	Ends      []row
	Deletions []row
	Lines     []logged
}

// A notice is something to look at.
type notice struct{ Class, Word, Text string }

// A tile is one large number.
type tile struct{ Name, Value, More string }

// A row of a table: what it is about, and its cells.
type row struct {
	Name, More string
	Cells      []cell
}

// A cell is a text, and a smaller one below it.
type cell struct{ Text, More, Class string }

// A logged line of the log.
type logged struct {
	Class, Word, Message, More string
	Last                       moment
	Times                      string
}

func (p *Page) view(now time.Time) view {
	f := p.options.Facts()
	h := p.history
	h.mu.Lock()
	defer h.mu.Unlock()
	all, _ := h.hour()
	v := view{
		Version: clean(p.options.Version), Revision: clean(p.options.Revision), GoVersion: clean(p.options.GoVersion),
		Ready: p.options.Ready(), Up: lasting(now.Sub(p.began)), Over: "the last hour",
		Now: moment{now.UTC().Format("15:04:05") + " UTC", now.UTC().Format(time.RFC3339)},
	}
	if all.from == 0 {
		v.Over = "the time since the start"
	}
	v.Tiles = h.tiles(all)
	v.Plots = h.plots()
	v.Listeners = h.listeners(f)
	v.Upstreams = h.upstreams(all, now, f)
	v.Requests = h.requests(all, now)
	v.Routes = h.routes(all)
	v.Expiries = h.certificates(now)
	v.Limits = h.limits(all, f)
	v.Ends = h.totals(sessionsEnded, all, nil)
	v.Deletions = h.totals(deletions, all, outcomes())
	v.Attention = h.attention(all, now, f)
	for _, l := range p.journal.latest() {
		v.Lines = append(v.Lines, written(l, now))
	}
	return v
}

// sum is how much a metric rose in all, or where label a has one of these values.
func (h *history) sum(s stretch, metric string, values ...string) (n float64) {
	for _, k := range h.keys(metric) {
		if len(values) == 0 || slices.Contains(values, k.a) {
			n += h.rise(k, s)
		}
	}
	return n
}

// without are the keys of a metric where label a has none of these values.
func (h *history) without(metric string, values ...string) (out []key) {
	for _, k := range h.keys(metric) {
		if !slices.Contains(values, k.a) {
			out = append(out, k)
		}
	}
	return out
}

const (
	resultOK      = "ok"
	resultRefused = "refused"
)

// now is what the values of a gauge come to.
func (h *history) now(metric string) (n float64) {
	for _, k := range h.keys(metric) {
		n += h.last(k)
	}
	return n
}

func (h *history) tiles(all stretch) []tile {
	tries, good, bad := h.sum(all, logins), h.sum(all, logins, resultOK), h.sum(all, logins, resultRefused)
	return []tile{
		{"Sessions", count(h.last(key{metric: sessions})), "open now, " + count(h.peak(key{metric: sessions}, all)) + " at most"},
		{"Connections", count(h.now(connections)), "of " + count(h.last(key{metric: connsLimit})) + " at a time"},
		{"To mail servers", count(h.now(upstreamConns)), plural(h.now(upstreamConns), "connection", "connections") + " logged in"},
		{"Logins", count(good), count(bad) + " refused, " + count(tries-good-bad) + " failed"},
		{"Messages", count(h.sum(all, messages)), size(h.sum(all, octets))},
		{"Removed", count(h.sum(all, deletions, "removed")), count(h.sum(all, deletions, "kept")) + " kept, " + count(h.sum(all, deletions, "abandoned")) + " abandoned"},
	}
}

func (h *history) plots() []plot {
	one := func(metric, a string) key { return key{metric: metric, a: a} }
	var answered, failed []key
	for _, k := range h.keys(requests) {
		if failure(k.b) {
			failed = append(failed, k)
		} else {
			answered = append(answered, k)
		}
	}
	return []plot{
		amounts("sessions", "Sessions", "most of each minute", brief, h.gauge("open", key{metric: sessions})),
		amounts("logins", "Logins", "a minute", brief,
			h.perMinute("ok", one(logins, resultOK)), h.perMinute("refused", one(logins, resultRefused)), h.perMinute("failed", h.without(logins, resultOK, resultRefused)...)),
		amounts("messages", "Messages", "a minute", brief,
			h.perMinute("sent", key{metric: messages}), h.perMinute("removed", one(deletions, "removed"))),
		h.times("commands", "Time of a command", "No command yet. POP3 commands are timed from their line to the end of the reply.", []key{{metric: commandTime}}),
		amounts("requests", "Requests upstream", "a minute", brief,
			h.perMinute("answered", answered...), h.perMinute("failed", failed...)),
		h.times("upstream", "Time of a request upstream", "No request yet. The first login makes some.", orOne(h.keys(requestTime), requestTime)),
	}
}

// orOne is keys, or where there are none the key of a metric without labels, of
// which nothing is known.
func orOne(keys []key, metric string) []key {
	if len(keys) == 0 {
		return []key{{metric: metric}}
	}
	return keys
}

func (h *history) listeners(f Facts) (out []row) {
	for _, l := range bounded(f.Listeners) {
		out = append(out, row{Name: clean(l.URL), Cells: []cell{
			{Text: clean(l.Security)}, {Text: count(h.last(key{metric: connections, a: l.Name}))}}})
	}
	return out
}

// other is the label of mail servers that have no series of their own.
const other = "other"

// mailServers are those of the facts, and what is known of others together.
func (h *history) mailServers(f Facts) []Upstream {
	all := slices.Clone(bounded(f.Upstreams))
	if h.columns[key{metric: upstreamConns, a: other}] != nil && !slices.ContainsFunc(all, func(u Upstream) bool { return u.Name == other }) {
		all = append(all, Upstream{Name: other, URL: "others, together"})
	}
	return all
}

// upstreams has a row for each mail server, with how the newest requests to it ended.
func (h *history) upstreams(all stretch, now time.Time, f Facts) (out []row) {
	for _, u := range h.mailServers(f) {
		r := row{Name: clean(u.URL), More: clean(u.Security)}
		open := key{metric: upstreamConns, a: u.Name}
		made, _, answers := h.answers(requestsTo, u.Name, all, now)
		health := cell{Text: "not asked yet"}
		switch kinds, _ := h.failing(u.Name); {
		case h.columns[open] == nil:
			health.Text = "not told apart"
		case len(kinds) > 0:
			health = cell{Text: "fails", Class: "bad"}
		case len(answers) > 0:
			health.Text = "answers"
		}
		health.More = clean(strings.Join(answers, "; "))
		r.Cells = []cell{{Text: count(h.last(open))}, {Text: count(made)}, health}
		out = append(out, r)
	}
	return out
}

// requests has a row for each operation that was ever asked for.
func (h *history) requests(all stretch, now time.Time) (out []row) {
	for _, k := range h.keys(requestTime) {
		made, newest, answers := h.answers(requests, k.a, all, now)
		if len(answers) == 0 || len(out) == maxRows {
			continue
		}
		last := cell{Text: answers[0], More: strings.Join(answers[1:], "; ")}
		if failure(newest) {
			last.Class = "bad"
		}
		took := cell{Text: "–"}
		if half, seen := h.quantile(0.5, []key{k}, all); seen {
			most, _ := h.quantile(0.95, []key{k}, all)
			took = cell{Text: half.String(), More: "95" + gap + "%: " + most.String()}
		}
		out = append(out, row{Name: clean(k.a), Cells: []cell{{Text: count(made)}, took, last}})
	}
	return out
}

// answers tells the results of an operation, or of a mail server, the latest first;
// of those that came within one sample, ok. It counts those of the hour, too.
func (h *history) answers(metric, of string, all stretch, now time.Time) (made float64, newest string, texts []string) {
	var results []key
	for _, k := range h.keys(metric) {
		if k.a == of && h.last(k) > 0 {
			results = append(results, k)
		}
	}
	rank := map[bool]int{true: 0, false: 1}
	slices.SortStableFunc(results, func(a, b key) int {
		return cmp.Or(h.changed(b).Compare(h.changed(a)), rank[a.b == resultOK]-rank[b.b == resultOK])
	})
	for i, r := range results {
		if i == 0 {
			newest = r.b
		}
		n := h.rise(r, all)
		made += n
		text := r.b + " " + since(h.changed(r), now).Text
		if n > 0 && r.b != resultOK {
			text += ", " + count(n) + " in the hour"
		}
		texts = append(texts, clean(text))
	}
	return made, newest, texts
}

// failure reports whether a result of a request is the fault of a mail server, or
// of the way to it. A refusal, and a message that is gone, are answers.
func failure(result string) bool { return result == "unavailable" || result == "internal" }

// certificates has a row for everything that is good until some time.
func (h *history) certificates(now time.Time) (out []row) {
	for _, k := range bounded(h.expiries()) {
		what := strings.TrimSuffix(strings.TrimPrefix(k.metric, expiryPrefix), expirySuffix)
		r := row{Name: clean(k.a), More: strings.ReplaceAll(what, "_", " ")}
		if r.Name == "" {
			r.Name, r.More = r.More, ""
		}
		v := h.last(k)
		if v <= 0 {
			out = append(out, row{r.Name, r.More, []cell{{Text: "–"}, {Text: "not known"}}})
			continue
		}
		at := time.Unix(int64(v), 0)
		left := cell{Text: lasting(at.Sub(now))}
		switch {
		case !at.After(now):
			left = cell{Text: "expired", Class: "bad"}
		case at.Sub(now) < soon:
			left.Class, left.More = "warn", "soon"
		}
		r.Cells = []cell{{Text: at.UTC().Format("2006-01-02 15:04")}, left}
		out = append(out, r)
	}
	return out
}

// limits has a row for every limit that is set, in the order of the facts, and for
// every other that was hit.
func (h *history) limits(all stretch, f Facts) (out []row) {
	add := func(k key, name, setting string) {
		if (setting != "" || h.last(k) > 0) && len(out) < maxRows {
			out = append(out, row{Name: clean(name), Cells: []cell{{Text: clean(cmp.Or(setting, "–"))}, hits(h.rise(k, all)), {Text: count(h.last(k))}}})
		}
	}
	var known []key
	for _, l := range f.Limits {
		k := key{metric: l.Metric, a: l.Value}
		known = append(known, k)
		add(k, l.Name, l.Setting)
	}
	for _, k := range append(h.keys(limitHits), h.keys(throttled)...) {
		if !slices.Contains(known, k) {
			add(k, k.a, "")
		}
	}
	return out
}

// routes has a row for each route.
func (h *history) routes(all stretch) (out []row) {
	results := []string{resultOK, resultRefused, "failed"}
	for _, k := range h.keys(routeLogins) {
		if k.b != results[0] || len(out) == maxRows {
			continue
		}
		r := row{Name: clean(k.a)}
		for _, k.b = range results {
			r.Cells = append(r.Cells, cell{Text: count(h.rise(k, all))})
		}
		out = append(out, r)
	}
	return out
}

func hits(n float64) cell {
	if n > 0 {
		return cell{Text: count(n), Class: "warn"}
	}
	return cell{Text: "0"}
}

// outcomes says what the outcomes of a deletion are.
func outcomes() map[string]string {
	return map[string]string{
		"marked": "by DELE", "reset": "unmarked by RSET", "abandoned": "no QUIT came", "removed": "at QUIT",
		"missing": "gone already", "kept": "against the client's wish",
	}
}

// totals has a row for each value of the label of a metric that was ever counted.
func (h *history) totals(metric string, all stretch, about map[string]string) (out []row) {
	for _, k := range bounded(h.keys(metric)) {
		if total := h.last(k); total > 0 {
			out = append(out, row{Name: clean(k.a), More: about[k.a], Cells: []cell{{Text: count(h.rise(k, all))}, {Text: count(total)}}})
		}
	}
	return out
}

// attention lists what somebody should look at, the worst first.
func (h *history) attention(all stretch, now time.Time, f Facts) (out []notice) {
	add := func(class, word, format string, args ...any) {
		out = append(out, notice{class, word, clean(fmt.Sprintf(format, args...))})
	}
	for _, u := range h.mailServers(f) {
		if kinds, at := h.failing(u.Name); len(kinds) > 0 {
			add("bad", "Problem", "The last requests all failed, %s: %s. They went to %s.", since(at, now).Text, strings.Join(kinds, ", "), u.URL)
		}
	}
	if n := h.last(key{metric: panics}); n > 0 {
		add("bad", "Problem", "%s in the program since the start, each of which ended one session. The log has where.", plural(n, "fault", "faults"))
	}
	if n := h.sum(all, deletions, "kept"); n > 0 {
		add("bad", "Problem", "%s did not take effect; the clients were told so.", plural(n, "deletion", "deletions"))
	}
	for _, k := range bounded(h.expiries()) {
		at := time.Unix(int64(h.last(k)), 0)
		what := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(k.metric, expiryPrefix), expirySuffix), "_", " ")
		switch {
		case h.last(k) <= 0:
		case !at.After(now):
			add("bad", "Problem", "The %s of %s has expired.", what, k.a)
		case at.Sub(now) < soon:
			add("warn", "Warning", "The %s of %s expires in %s.", what, k.a, lasting(at.Sub(now)))
		}
	}
	for _, k := range bounded(h.keys(certGood)) {
		if h.last(k) == 0 && h.last(key{metric: certificateExpiry, a: k.a}) > 0 {
			add("warn", "Warning", "The certificate files of %s are of no use; the last certificate is used on.", k.a)
		}
	}
	if h.last(key{metric: configGood}) == 0 && h.last(key{metric: configTime}) > 0 {
		where := f.Wrong
		if where != "" {
			where = " (" + where + ")"
		}
		add("warn", "Warning", "The configuration was wrong when it was last read%s; the one before is used on.", where)
	}
	for _, k := range bounded(h.keys(tokenAccounts)) {
		if n := h.last(k); n > 0 && k.b != "good" {
			add("bad", "Problem", "%s of the grant %s cannot get an access token (%s): see popgate oauth status.", plural(n, "account", "accounts"), k.a, k.b)
		}
	}
	for _, u := range h.mailServers(f) {
		if n := h.sum(all, idsChanged, u.Name); n > 0 {
			add("warn", "Warning", "%s renumbered: clients fetch all of the mail there again. The mail server is %s.", plural(n, "mailbox was", "mailboxes were"), u.URL)
		}
		if n := h.sum(all, sizeMismatch, u.Name); n > 0 {
			add("warn", "Warning", "%s had another size than %s listed.", plural(n, "message", "messages"), u.URL)
		}
	}
	if open, most := h.now(connections), h.last(key{metric: connsLimit}); most > 0 && open >= 0.8*most {
		add("warn", "Warning", "%s of %s connections are open.", count(open), count(most))
	}
	if n := h.sum(all, rejected, "connections"); n > 0 {
		add("warn", "Warning", "%s turned away because so many are open.", plural(n, "connection was", "connections were"))
	}
	for _, w := range bounded(f.Warnings) {
		add("note", "Configuration", "%s", w)
	}
	return out
}

// failing tells how the newest requests to a mail server failed, and when, if none
// of them was answered.
func (h *history) failing(upstream string) (kinds []string, latest time.Time) {
	for _, k := range h.keys(requestsTo) {
		if at := h.changed(k); k.a == upstream && at.After(latest) {
			latest = at
		}
	}
	for _, k := range h.keys(requestsTo) {
		switch {
		case k.a != upstream || latest.IsZero() || !h.changed(k).Equal(latest):
		case !failure(k.b):
			return nil, latest
		case !slices.Contains(kinds, k.b):
			kinds = append(kinds, k.b)
		}
	}
	return kinds, latest
}

func written(l line, now time.Time) logged {
	out := logged{Class: "warn", Word: "Warning", Message: l.message, Last: since(l.last, now), Times: count(float64(l.times))}
	if l.level >= slog.LevelError {
		out.Class, out.Word = "bad", "Error"
	}
	out.More = join(l.words, l.numbers)
	return out
}

func bounded[T any](s []T) []T { return s[:min(len(s), maxRows)] }
