package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// process is the gateway itself: what runs, and the files that it follows.
type process struct {
	secure set

	certExpiry   *prometheus.GaugeVec
	certGood     *prometheus.GaugeVec
	certFailures *prometheus.CounterVec
	configGood   prometheus.Gauge
	configTime   prometheus.Gauge
	panics       prometheus.Counter
}

func newProcess(f factory, b Build, s Sets) process {
	p := process{secure: s.Secure}
	p.certExpiry = f.gauges("certificate_expiry_timestamp_seconds", "When the certificate of a listener expires, in Unix time.",
		label{"listener", p.secure})
	p.certGood = f.gauges("certificate_last_reload_successful", "Whether the certificate that a listener shows is the one in its files: 0 while the files are of no use and the last one stays.",
		label{"listener", p.secure})
	p.certFailures = f.counters("certificate_reload_failures_total", "New certificates of a listener that were of no use; the last one stayed.",
		label{"listener", p.secure})
	p.configGood = f.gauge("config_last_reload_successful", "Whether the configuration was right when it was last read: 0 while the one before stays.")
	p.configTime = f.gauge("config_last_reload_success_timestamp_seconds", "When a configuration was last put into use, in Unix time.")
	p.panics = f.counter("panics_total", "Faults in the program, each of which ended one session.")
	f.info("build_info", "What is running; always 1.", prometheus.Labels{
		"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion})
	return p
}

// CertificateShown says that the certificate of a listener is the one in its
// files, and until when it holds.
func (p *process) CertificateShown(listener string, until time.Time) {
	p.certExpiry.WithLabelValues(p.secure.of(listener)).Set(float64(until.Unix()))
	p.certGood.WithLabelValues(p.secure.of(listener)).Set(1)
}

// CertificateReloadFailed counts new files of a listener's certificate that were
// of no use.
func (p *process) CertificateReloadFailed(listener string) {
	p.certGood.WithLabelValues(p.secure.of(listener)).Set(0)
	p.certFailures.WithLabelValues(p.secure.of(listener)).Inc()
}

// ConfigLoaded says that a configuration was put into use.
func (p *process) ConfigLoaded(at time.Time) {
	p.configGood.Set(1)
	p.configTime.Set(float64(at.UnixNano()) / 1e9)
}

// ConfigReloadFailed says that the configuration was read again and is wrong; the
// one before stays in use.
func (p *process) ConfigReloadFailed() { p.configGood.Set(0) }

// Panicked counts a fault in the program that ended one session.
func (p *process) Panicked() { p.panics.Inc() }
