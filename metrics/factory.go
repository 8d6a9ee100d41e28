package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const namespace = "popgate"

// Every histogram is classic and native in one. The classic buckets are in every
// scrape and cost a series each: there are few, of what is answered from memory
// up to what a person notices. A Prometheus that takes native histograms gets
// buckets 10 % apart, as many as there are different times, bounded here.
const (
	nativeFactor  = 1.1
	nativeBuckets = 160
	nativeReset   = time.Hour // the least time between two resets, where there are too many
)

func buckets() []float64 { return []float64{0.005, 0.05, 0.25, 1, 5} }

// A label is a name and all of its values.
type label struct {
	name   string
	values []string
}

// A factory registers collectors and creates all of their children.
type factory struct{ r prometheus.Registerer }

func (f factory) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	f.r.MustRegister(c)
	return c
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	f.r.MustRegister(g)
	return g
}

func (f factory) info(name, help string, labels prometheus.Labels) {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels})
	g.Set(1)
	f.r.MustRegister(g)
}

func (f factory) histogram(name, help string) prometheus.Histogram {
	h := prometheus.NewHistogram(histogramOpts(name, help))
	f.r.MustRegister(h)
	return h
}

func (f factory) counters(name, help string, labels ...label) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labelNames(labels))
	f.r.MustRegister(v)
	eachChild(labels, nil, func(values []string) { v.WithLabelValues(values...) })
	return v
}

func (f factory) gauges(name, help string, labels ...label) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labelNames(labels))
	f.r.MustRegister(v)
	eachChild(labels, nil, func(values []string) { v.WithLabelValues(values...) })
	return v
}

func (f factory) histograms(name, help string, labels ...label) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(histogramOpts(name, help), labelNames(labels))
	f.r.MustRegister(v)
	eachChild(labels, nil, func(values []string) { v.WithLabelValues(values...) })
	return v
}

func histogramOpts(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets(),
		NativeHistogramBucketFactor:     nativeFactor,
		NativeHistogramMaxBucketNumber:  nativeBuckets,
		NativeHistogramMinResetDuration: nativeReset,
	}
}

func labelNames(labels []label) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = l.name
	}
	return out
}

// eachChild calls f with every combination of label values.
func eachChild(labels []label, chosen []string, f func([]string)) {
	if len(labels) == 0 {
		f(chosen)
		return
	}
	for _, v := range labels[0].values {
		eachChild(labels[1:], append(chosen[:len(chosen):len(chosen)], v), f)
	}
}
