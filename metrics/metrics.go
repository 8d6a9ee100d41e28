package metrics

import (
	"regexp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Other is the label value for everything outside of a closed set.
const Other = "other"

// Rest is the label value for everything that is not told apart.
const Rest = "rest"

// Sets are the closed sets of label values. Every value of them is there from
// the start, at zero; [Other] appears when something outside of them is counted.
// Upstreams and routes come and go: see [Metrics.UseUpstreams] and [Metrics.UseRoutes].
type Sets struct {
	Listeners  []string    // names of the listeners
	Secure     []string    // those of them that have a certificate
	Handshakes []Handshake // what they may agree on with a client
	Ends       []string    // why a session ended
	Commands   []string    // POP3 verbs
	Timed      []string    // those of them that wait for somebody; the others are timed together, under Rest
	Statuses   []string    // how a command was answered
	Mechanisms []string    // how a client logged in
	Logins     []string    // results of a login
	Results    []string    // results of a request to a mail service
	Listings   []string    // how a mailbox was listed
	Rejections []string    // why a connection was turned away
	Limits     []string    // limits, by their names in the configuration
	Bounds     []string    // what a limit on guesses is kept by
}

// Build tells what is running.
type Build struct{ Version, Revision, GoVersion string }

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

// Metrics is a registry of its own with every collector of popgate. Each part of
// it has a file: what is counted of clients, maildrops, mail services and the
// process.
type Metrics struct {
	registry *prometheus.Registry
	clients
	maildrops
	*upstreams
	process
	routes *routes
}

// New builds the registry: the metrics of popgate, of the Go runtime and of
// the process, and the build information.
func New(b Build, s Sets) *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(runtimeCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := factory{registry}
	return &Metrics{
		registry:  registry,
		clients:   newClients(f, s),
		maildrops: newMaildrops(f),
		upstreams: newUpstreams(registry, s),
		process:   newProcess(f, b, s),
		routes:    newRoutes(f),
	}
}

// runtimeCollector tells of the memory of the Go runtime what it has, what lives
// in it, and how much has been asked of it, in place of two dozen of its books.
func runtimeCollector() prometheus.Collector {
	return collectors.NewGoCollector(
		collectors.WithGoCollectorMemStatsMetricsDisabled(),
		collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{
			Matcher: regexp.MustCompile(`^/(memory/classes/total|memory/classes/heap/objects|gc/heap/allocs):bytes$`),
		}))
}

// Gatherer gives the registry to read.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }
