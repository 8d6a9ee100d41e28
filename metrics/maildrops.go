package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

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

// maildrops is what becomes of messages.
type maildrops struct {
	openTime     prometheus.Histogram
	messages     prometheus.Counter
	octets       prometheus.Counter
	deletions    *prometheus.CounterVec
	seenFailures prometheus.Counter
}

func newMaildrops(f factory) maildrops {
	return maildrops{
		openTime:  f.histogram("open_duration_seconds", "Time to take a maildrop and list it."),
		messages:  f.counter("retrieved_messages_total", "Messages sent to POP3 clients whole."),
		octets:    f.counter("retrieved_bytes_total", "Octets of messages sent to POP3 clients, whole or in part."),
		deletions: f.counters("deletions_total", "Deletions by outcome: marked = reset + abandoned + removed + missing + kept.", label{"outcome", Outcomes()}),
		seenFailures: f.counter("seen_failures_total",
			"Messages that could not be marked as read."),
	}
}

// Opened counts a maildrop taken and listed.
func (m *maildrops) Opened(d time.Duration) { m.openTime.Observe(d.Seconds()) }

// Retrieved counts octets of a message that went to a client, and the message
// itself where the client has all of it.
func (m *maildrops) Retrieved(octets int64, whole bool) {
	m.octets.Add(float64(max(octets, 0)))
	if whole {
		m.messages.Inc()
	}
}

// Deletions counts n deletions that had one of [Outcomes]. Any other outcome
// is a fault of the caller and panics: the balance would be lost.
func (m *maildrops) Deletions(outcome string, n int) {
	if !slices.Contains(Outcomes(), outcome) {
		panic("metrics: unknown outcome of a deletion: " + outcome)
	}
	m.deletions.WithLabelValues(outcome).Add(float64(max(n, 0)))
}

// SeenFailed counts n messages that could not be marked as read.
func (m *maildrops) SeenFailed(n int) { m.seenFailures.Add(float64(max(n, 0))) }
