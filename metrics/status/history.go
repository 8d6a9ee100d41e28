package status

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// What is kept.
const (
	every      = 10 * time.Second
	span       = time.Hour
	samples    = int(span/every) + 1
	maxColumns = 512
)

// The metrics that the page rests on.
const (
	sessions      = "popgate_sessions"
	sessionsEnded = "popgate_sessions_total"
	connections   = "popgate_connections"
	connsLimit    = "popgate_connections_limit"
	upstreamConns = "popgate_upstream_connections"
	logins        = "popgate_logins_total"
	routeLogins   = "popgate_route_logins_total"
	messages      = "popgate_retrieved_messages_total"
	octets        = "popgate_retrieved_bytes_total"
	deletions     = "popgate_deletions_total"
	limitHits     = "popgate_limit_hits_total"
	rejected      = "popgate_rejected_total"
	throttled     = "popgate_throttled_total"
	commandTime   = "popgate_command_duration_seconds"
	requests      = "popgate_upstream_requests_total"
	requestTime   = "popgate_upstream_request_duration_seconds"
	sizeMismatch  = "popgate_size_mismatch_total"
	idsChanged    = "popgate_unique_ids_changed_total"
	certGood      = "popgate_certificate_last_reload_successful"
	configGood    = "popgate_config_last_reload_successful"
	configTime    = "popgate_config_last_reload_success_timestamp_seconds"
	tokenAccounts = "popgate_oauth_accounts"
	panics        = "popgate_panics_total"

	// Every gauge with such a name is a time that something is good until.
	expiryPrefix = "popgate_"
	expirySuffix = "_expiry_timestamp_seconds"

	certificateExpiry = expiryPrefix + "certificate" + expirySuffix
)

// requestsTo is what requests are kept as by mail server, and not by operation.
const requestsTo = requests + " by upstream"

// A keeping says by which labels a metric is kept, and as what; it is summed over
// all others.
type keeping struct {
	as     string
	labels []string
}

// watched says how a metric is kept.
func watched(name string) []keeping {
	by := func(labels ...string) []keeping { return []keeping{{name, labels}} }
	switch name {
	case sessions, connsLimit, messages, octets, commandTime, configGood, configTime, panics:
		return by()
	case sessionsEnded:
		return by("end")
	case connections, certGood:
		return by("listener")
	case upstreamConns, idsChanged, sizeMismatch:
		return by("upstream")
	case logins:
		return by("result")
	case routeLogins:
		return by("route", "result")
	case deletions:
		return by("outcome")
	case limitHits:
		return by("limit")
	case rejected:
		return by("reason")
	case throttled:
		return by("by")
	case requests:
		return append(by("op", "result"), keeping{requestsTo, []string{"upstream", "result"}})
	case tokenAccounts:
		return by("grant", "state")
	case requestTime:
		return by("op")
	}
	if strings.HasPrefix(name, expiryPrefix) && strings.HasSuffix(name, expirySuffix) {
		return by(everyLabel)
	}
	return nil
}

// A key names a column: a metric, the values of up to two labels, and in a
// histogram the bucket, where 0 is the count of all.
type key struct {
	metric, a, b string
	bucket       int
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.metric, other.metric), cmp.Compare(k.a, other.a), cmp.Compare(k.b, other.b), k.bucket-other.bucket)
}

// A column is what one number was, sample by sample.
type column struct {
	values  [samples]float64
	changed time.Time // of the last sample in which it was another number; zero: never
}

// A history is a ring of samples. Sample i is in slot i % samples.
type history struct {
	mu      sync.Mutex
	count   int // of samples taken, ever
	at      [samples]time.Time
	columns map[key]*column
	bounds  map[string][]float64 // of the buckets of a histogram
}

func newHistory() *history {
	return &history{columns: map[key]*column{}, bounds: map[string][]float64{}}
}

// record takes one sample.
func (h *history) record(at time.Time, families []*dto.MetricFamily) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := map[key]float64{}
	for _, f := range families {
		for _, by := range watched(f.GetName()) {
			for _, m := range f.GetMetric() {
				k := key{metric: by.as, a: labelOf(m, by.labels, 0), b: labelOf(m, by.labels, 1)}
				if hist := m.GetHistogram(); hist != nil {
					h.buckets(now, k, hist)
					continue
				}
				now[k] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	slot := h.count % samples
	h.at[slot] = at
	for _, k := range slices.SortedFunc(maps.Keys(now), key.compare) { // the same are left out each time
		if h.columns[k] == nil && len(h.columns) < maxColumns {
			h.columns[k] = new(column)
		}
	}
	before := (h.count + samples - 1) % samples // of nothing but zeros, the first time
	for k, c := range h.columns {
		if _, told := now[k]; !told { // a mail server or a route that is gone
			delete(h.columns, k)
			continue
		}
		if c.values[slot] = now[k]; c.values[slot] != c.values[before] {
			c.changed = at
		}
	}
	h.count++
}

// everyLabel stands for all labels in one.
const everyLabel = "*"

// labelOf is the value of label i.
func labelOf(m *dto.Metric, labels []string, i int) string {
	var values []string
	for _, l := range m.GetLabel() {
		if i < len(labels) && (labels[i] == everyLabel || l.GetName() == labels[i]) {
			values = append(values, l.GetValue())
		}
	}
	return strings.Join(values, " ")
}

// buckets adds the classic buckets of a histogram.
func (h *history) buckets(now map[key]float64, k key, hist *dto.Histogram) {
	now[k] += float64(hist.GetSampleCount())
	buckets := hist.GetBucket()
	if h.bounds[k.metric] == nil {
		for _, b := range buckets {
			h.bounds[k.metric] = append(h.bounds[k.metric], b.GetUpperBound())
		}
	}
	for i, b := range buckets {
		k.bucket = i + 1
		now[k] += float64(b.GetCumulativeCount())
	}
}

// A stretch is the time between two samples.
type stretch struct{ from, to int }

// hour is the whole of what is kept; ok is false before the first sample.
func (h *history) hour() (s stretch, ok bool) {
	return stretch{max(0, h.count-samples), h.count - 1}, h.count > 0
}

// steps cuts the hour into minutes, the oldest first. The oldest may be shorter.
func (h *history) steps() (out []stretch) {
	const step = int(time.Minute / every)
	all, ok := h.hour()
	for to := all.to; ok && to > all.from; to -= step {
		out = append(out, stretch{max(all.from, to-step), to})
	}
	slices.Reverse(out)
	return out
}

func (h *history) seconds(s stretch) float64 {
	return h.at[s.to%samples].Sub(h.at[s.from%samples]).Seconds()
}

// value is a number as it was in sample i; unknown ones are 0.
func (h *history) value(k key, i int) float64 {
	if c := h.columns[k]; c != nil && i >= 0 {
		return c.values[i%samples]
	}
	return 0
}

// last is a number as it is.
func (h *history) last(k key) float64 { return h.value(k, h.count-1) }

// rise is how much a counter rose.
func (h *history) rise(k key, s stretch) float64 {
	return max(0, h.value(k, s.to)-h.value(k, s.from))
}

// peak is the highest value in a stretch.
func (h *history) peak(k key, s stretch) (most float64) {
	for i := s.from; i <= s.to; i++ {
		most = max(most, h.value(k, i))
	}
	return most
}

// changed is when a number last became another; zero: never.
func (h *history) changed(k key) time.Time {
	if c := h.columns[k]; c != nil {
		return c.changed
	}
	return time.Time{}
}

// keys lists the keys of a metric but for its buckets, in order.
func (h *history) keys(metric string) (out []key) {
	for k := range h.columns {
		if k.metric == metric && k.bucket == 0 {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, key.compare)
	return out
}

// expiries lists the metrics that are times that something is good until.
func (h *history) expiries() (out []key) {
	for k := range h.columns {
		if strings.HasSuffix(k.metric, expirySuffix) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, key.compare)
	return out
}
