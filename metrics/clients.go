package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Handshake is what a TLS handshake with a client came to.
type Handshake struct{ Listener, Version, Cipher string }

// clients is what clients do and what is done to them.
type clients struct {
	listeners, ends, commands, timed, statuses, mechanisms, logins, rejections, limits, bounds set

	handshakes []Handshake

	conns            *prometheus.GaugeVec
	connsLimit       prometheus.Gauge
	rejected         *prometheus.CounterVec
	secured          *prometheus.CounterVec
	sessions         prometheus.Gauge
	sessionsEnded    *prometheus.CounterVec
	loginsTried      *prometheus.CounterVec
	throttled        *prometheus.CounterVec
	limitsHit        *prometheus.CounterVec
	commandsAnswered *prometheus.CounterVec
	commandTime      *prometheus.HistogramVec
}

func newClients(f factory, s Sets) clients {
	c := clients{
		listeners: s.Listeners, ends: s.Ends, commands: s.Commands, statuses: s.Statuses, mechanisms: s.Mechanisms,
		logins: s.Logins, rejections: s.Rejections, limits: s.Limits, bounds: s.Bounds, handshakes: s.Handshakes,
		timed: s.Timed,
	}
	c.conns = f.gauges("connections", "Connections of POP3 clients that are open, by listener.", label{"listener", c.listeners})
	c.connsLimit = f.gauge("connections_limit", "How many connections of POP3 clients may be open, over all listeners: `limits.connections`, or what the limit on open files allows.")
	c.rejected = f.counters("rejected_total", "Connections of POP3 clients that were turned away: by a limit (`connections`, `address`, `rate`, `handshakes`), from a `network` that is not listed, without a right PROXY `header`, by a failed `handshake`.",
		label{"reason", c.rejections})
	c.secured = f.counters("tls_handshakes_total", "TLS handshakes with POP3 clients that succeeded, STLS too, by what both sides agreed on.",
		label{"listener", nil}, label{"version", nil}, label{"cipher", nil})
	for _, h := range c.handshakes {
		c.secured.WithLabelValues(h.Listener, h.Version, h.Cipher)
	}
	c.sessions = f.gauge("sessions", "POP3 sessions that are open.")
	c.sessionsEnded = f.counters("sessions_total", "POP3 sessions that ended, by listener and reason.",
		label{"listener", c.listeners}, label{"end", c.ends})
	c.loginsTried = f.counters("logins_total", "Logins tried, by mechanism and result; `refused` is a wrong password.",
		label{"mechanism", c.mechanisms}, label{"result", c.logins})
	c.throttled = f.counters("throttled_total", "Logins refused without asking the mail server after too many wrong passwords, by what they were counted by: `address`, `network`, `block`, `account` or `pair`.",
		label{"by", c.bounds})
	c.limitsHit = f.counters("limit_hits_total", "How often a limit of the section `limits`, or the `lock`, ended or refused something, by its name in the configuration.",
		label{"limit", c.limits})
	c.commandsAnswered = f.counters("commands_total", "POP3 commands answered, by verb and status.",
		label{"command", c.commands}, label{"status", c.statuses})
	c.commandTime = f.histograms("command_duration_seconds", "Time from a POP3 command to the end of its reply, by verb; what is answered from memory is together under `rest`.",
		label{"command", append(slices.Clone(c.timed), Rest)})
	return c
}

// Connection is +1 for a connection of a client opened, -1 for one closed.
func (c *clients) Connection(listener string, delta int) {
	c.conns.WithLabelValues(c.listeners.of(listener)).Add(float64(delta))
}

// ConnectionsLimit says how many connections of clients may be open.
func (c *clients) ConnectionsLimit(n int) { c.connsLimit.Set(float64(n)) }

// Rejected counts a connection that was turned away.
func (c *clients) Rejected(reason string) { c.rejected.WithLabelValues(c.rejections.of(reason)).Inc() }

// Secured counts a TLS handshake with a client that succeeded.
func (c *clients) Secured(h Handshake) {
	if !slices.Contains(c.handshakes, h) {
		h = Handshake{c.listeners.of(h.Listener), Other, Other}
	}
	c.secured.WithLabelValues(h.Listener, h.Version, h.Cipher).Inc()
}

// SessionBegan counts a session as open.
func (c *clients) SessionBegan() { c.sessions.Inc() }

// SessionEnded counts a session that was open as ended.
func (c *clients) SessionEnded(listener, end string) {
	c.sessions.Dec()
	c.sessionsEnded.WithLabelValues(c.listeners.of(listener), c.ends.of(end)).Inc()
}

// Login counts one try to log in.
func (c *clients) Login(mechanism, result string) {
	c.loginsTried.WithLabelValues(c.mechanisms.of(mechanism), c.logins.of(result)).Inc()
}

// Throttled counts a login that was refused because of too many guesses.
func (c *clients) Throttled(by string) { c.throttled.WithLabelValues(c.bounds.of(by)).Inc() }

// LimitHit counts what a limit ended or refused.
func (c *clients) LimitHit(limit string) { c.limitsHit.WithLabelValues(c.limits.of(limit)).Inc() }

// Command counts one answered command.
func (c *clients) Command(verb, status string, d time.Duration) {
	c.commandsAnswered.WithLabelValues(c.commands.of(verb), c.statuses.of(status)).Inc()
	if !slices.Contains(c.timed, verb) {
		verb = Rest
	}
	c.commandTime.WithLabelValues(verb).Observe(d.Seconds())
}
