package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Other is the label value for everything outside of a closed set.
const Other = "other"

// Sets are the closed sets of label values. Every value of them is there from
// the start, at zero; [Other] appears when something outside of them is counted.
type Sets struct {
	Listeners  []string // names of the listeners
	Secure     []string // those of them that have a certificate
	Ends       []string // why a session ended
	Commands   []string // POP3 verbs
	Statuses   []string // how a command was answered
	Mechanisms []string // how a client logged in
	Logins     []string // results of a login
	Ops        []string // requests to the mail service
	Results    []string // results of such a request
	Listings   []string // how a mailbox was listed
	Rejections []string // why a connection was turned away
	Bounds     []string // what a limit on guesses is kept by
	Routes     []string // names of routes, and of none
	AuthHTTP   bool     // an auth_http service is asked
}

// Build tells what is running.
type Build struct{ Version, Revision, GoVersion string }

// The outcomes of a deletion.
const (
	Marked    = "marked"    // DELE was answered with +OK
	Reset     = "reset"     // unmarked by RSET
	Abandoned = "abandoned" // the session ended without QUIT
	Removed   = "removed"   // out of every later session
	Missing   = "missing"   // already gone at QUIT
	Kept      = "kept"      // still there, against the client's wish
)

// Outcomes lists the outcomes of a deletion.
func Outcomes() []string { return []string{Marked, Reset, Abandoned, Removed, Missing, Kept} }

// A set is a closed set of label values.
type set []string

// of returns v where it belongs to the set, and Other where not. The sets are
// short: a search costs less than a hash.
func (s set) of(v string) string {
	if slices.Contains(s, v) {
		return v
	}
	return Other
}

// Metrics is a registry of its own with every collector of popgate.
type Metrics struct {
	registry *prometheus.Registry

	listeners, secure, ends, commands, statuses, mechanisms, logins, ops, results, listings, rejections, bounds set

	sessions         prometheus.Gauge
	sessionsEnded    *prometheus.CounterVec
	commandsAnswered *prometheus.CounterVec
	commandTime      *prometheus.HistogramVec
	loginsTried      *prometheus.CounterVec
	openTime         prometheus.Histogram
	messages         prometheus.Counter
	octets           prometheus.Counter
	deletions        *prometheus.CounterVec
	seenFailures     prometheus.Counter
	sizeMismatches   prometheus.Counter
	requests         *prometheus.CounterVec
	requestTime      *prometheus.HistogramVec
	mailboxesListed  *prometheus.CounterVec
	upstreamConns    prometheus.Gauge
	readAhead        *prometheus.CounterVec
	upstreamReused   prometheus.Counter
	conns            *prometheus.GaugeVec
	rejected         *prometheus.CounterVec
	certExpiry       *prometheus.GaugeVec
	certFailures     *prometheus.CounterVec
	throttled        *prometheus.CounterVec
	panics           prometheus.Counter

	routes routes
}

// New builds the registry: the metrics of popgate, of the Go runtime and of
// the process, and the build information.
func New(b Build, s Sets) *Metrics {
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		listeners: s.Listeners, secure: s.Secure, ends: s.Ends, commands: s.Commands, statuses: s.Statuses,
		mechanisms: s.Mechanisms, logins: s.Logins, ops: s.Ops, results: s.Results,
		listings: s.Listings, rejections: s.Rejections, bounds: s.Bounds,
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	f := factory{m.registry}
	m.sessions = f.gauge("sessions", "POP3 sessions that are open.")
	m.sessionsEnded = f.counters("sessions_total", "POP3 sessions that ended, by listener and reason.",
		label{"listener", m.listeners}, label{"end", m.ends})
	m.commandsAnswered = f.counters("commands_total", "POP3 commands answered, by verb and status.",
		label{"command", m.commands}, label{"status", m.statuses})
	m.commandTime = f.histograms("command_duration_seconds", "Time from a POP3 command to the end of its reply, by verb.",
		label{"command", m.commands})
	m.loginsTried = f.counters("logins_total", "Logins tried, by mechanism and result.",
		label{"mechanism", m.mechanisms}, label{"result", m.logins})
	m.openTime = f.histogram("open_duration_seconds", "Time to take a maildrop and list it.")
	m.messages = f.counter("retrieved_messages_total", "Messages sent to POP3 clients whole.")
	m.octets = f.counter("retrieved_bytes_total", "Octets of messages sent to POP3 clients, whole or in part.")
	m.deletions = f.counters("deletions_total", "Deletions by outcome: marked = reset + abandoned + removed + missing + kept.",
		label{"outcome", Outcomes()})
	m.seenFailures = f.counter("seen_failures_total", "Messages that could not be marked as read.")
	m.sizeMismatches = f.counter("size_mismatch_total", "Messages whose size in the list was not the size that was sent.")
	m.requests = f.counters("upstream_requests_total", "Requests to the mail service, by operation and result.",
		label{"op", m.ops}, label{"result", m.results})
	m.requestTime = f.histograms("upstream_request_duration_seconds", "Time of a request to the mail service, by operation.",
		label{"op", m.ops})
	m.mailboxesListed = f.counters("upstream_listings_total", "Mailboxes listed, by how much of them had to be asked for.",
		label{"how", m.listings})
	m.upstreamConns = f.gauge("upstream_connections", "Connections to the mail service that are logged in.")
	m.readAhead = f.counters("upstream_read_ahead_messages_total", "Messages fetched before they were asked for: used, or dropped unused.",
		label{"result", set{readAheadUsed, readAheadDropped}})
	m.upstreamReused = f.counter("upstream_reused_total", "Sessions that went on with a connection to the mail service that had waited.")
	m.conns = f.gauges("connections", "Connections of POP3 clients that are open, by listener.", label{"listener", m.listeners})
	m.rejected = f.counters("rejected_total", "Connections of POP3 clients that were turned away, by reason.",
		label{"reason", m.rejections})
	m.certExpiry = f.gauges("certificate_expiry_timestamp_seconds", "When the certificate of a listener expires, in Unix time.",
		label{"listener", m.secure})
	m.certFailures = f.counters("certificate_reload_failures_total", "New certificates of a listener that were of no use; the last one stayed.",
		label{"listener", m.secure})
	m.throttled = f.counters("throttled_total", "Logins refused without asking the mail service after too many wrong passwords, by what they were counted by.",
		label{"by", m.bounds})
	m.routes = newRoutes(f, s)
	m.panics = f.counter("panics_total", "Faults in the program that ended one session.")
	f.info("build_info", "What is running; always 1.", prometheus.Labels{
		"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion})
	return m
}

// SessionBegan counts a session as open.
func (m *Metrics) SessionBegan() { m.sessions.Inc() }

// SessionEnded counts a session that was open as ended.
func (m *Metrics) SessionEnded(listener, end string) {
	m.sessions.Dec()
	m.sessionsEnded.WithLabelValues(m.listeners.of(listener), m.ends.of(end)).Inc()
}

// Command counts one answered command.
func (m *Metrics) Command(verb, status string, d time.Duration) {
	verb = m.commands.of(verb)
	m.commandsAnswered.WithLabelValues(verb, m.statuses.of(status)).Inc()
	m.commandTime.WithLabelValues(verb).Observe(d.Seconds())
}

// Login counts one try to log in.
func (m *Metrics) Login(mechanism, result string) {
	m.loginsTried.WithLabelValues(m.mechanisms.of(mechanism), m.logins.of(result)).Inc()
}

// Opened counts a maildrop taken and listed.
func (m *Metrics) Opened(d time.Duration) { m.openTime.Observe(d.Seconds()) }

// Retrieved counts octets of a message that went to a client, and the message
// too where it went whole.
func (m *Metrics) Retrieved(octets int64, whole bool) {
	m.octets.Add(float64(max(octets, 0)))
	if whole {
		m.messages.Inc()
	}
}

// Deletions counts n deletions that had one of [Outcomes]. Any other outcome
// is a fault of the caller and panics: the balance would be lost.
func (m *Metrics) Deletions(outcome string, n int) {
	if !slices.Contains(Outcomes(), outcome) {
		panic("metrics: unknown outcome of a deletion: " + outcome)
	}
	m.deletions.WithLabelValues(outcome).Add(float64(max(n, 0)))
}

// SeenFailed counts n messages that could not be marked as read.
func (m *Metrics) SeenFailed(n int) { m.seenFailures.Add(float64(max(n, 0))) }

// SizeMismatch counts a message whose size in the list was not its size.
func (m *Metrics) SizeMismatch() { m.sizeMismatches.Inc() }

// Request counts one request to the mail service.
func (m *Metrics) Request(op, result string, d time.Duration) {
	op = m.ops.of(op)
	m.requests.WithLabelValues(op, m.results.of(result)).Inc()
	m.requestTime.WithLabelValues(op).Observe(d.Seconds())
}

// Listed counts a mailbox listed.
func (m *Metrics) Listed(how string) {
	m.mailboxesListed.WithLabelValues(m.listings.of(how)).Inc()
}

// UpstreamConnection is +1 for a connection to the mail service opened, -1
// for one closed.
func (m *Metrics) UpstreamConnection(delta int) { m.upstreamConns.Add(float64(delta)) }

// What became of a message that was fetched before it was asked for.
const (
	readAheadUsed    = "used"
	readAheadDropped = "dropped"
)

// ReadAhead counts messages that were fetched before they were asked for, by
// whether somebody asked for them in the end.
func (m *Metrics) ReadAhead(used, dropped int) {
	m.readAhead.WithLabelValues(readAheadUsed).Add(float64(max(used, 0)))
	m.readAhead.WithLabelValues(readAheadDropped).Add(float64(max(dropped, 0)))
}

// UpstreamReused counts a session that went on with a connection to the mail
// service that had waited.
func (m *Metrics) UpstreamReused() { m.upstreamReused.Inc() }

// Connection is +1 for a connection of a client opened, -1 for one closed.
func (m *Metrics) Connection(listener string, delta int) {
	m.conns.WithLabelValues(m.listeners.of(listener)).Add(float64(delta))
}

// Rejected counts a connection that was turned away.
func (m *Metrics) Rejected(reason string) { m.rejected.WithLabelValues(m.rejections.of(reason)).Inc() }

// CertificateExpires says until when the certificate of a listener holds.
func (m *Metrics) CertificateExpires(listener string, at time.Time) {
	m.certExpiry.WithLabelValues(m.secure.of(listener)).Set(float64(at.Unix()))
}

// CertificateReloadFailed counts new files of a listener's certificate that were
// of no use.
func (m *Metrics) CertificateReloadFailed(listener string) {
	m.certFailures.WithLabelValues(m.secure.of(listener)).Inc()
}

// Throttled counts a login that was refused because of too many guesses.
func (m *Metrics) Throttled(by string) { m.throttled.WithLabelValues(m.bounds.of(by)).Inc() }

// Panicked counts a fault in the program that ended one session.
func (m *Metrics) Panicked() { m.panics.Inc() }

// Gatherer gives the registry to read.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }
