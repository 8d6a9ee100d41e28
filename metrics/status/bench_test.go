package status_test

import (
	"context"
	"testing"

	"github.com/popgate/popgate/metrics/status"
)

// BenchmarkSample is what the page costs every ten seconds, and BenchmarkPage what
// it costs when somebody looks.
func BenchmarkSample(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	cancel() // Run takes one sample and ends
	p := newPage()
	b.ReportAllocs()
	for b.Loop() {
		p.Run(ctx)
	}
}

func BenchmarkPage(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	p := newPage()
	for range 361 {
		p.Run(ctx)
	}
	at := &bench{page: p, path: "/"}
	b.ReportAllocs()
	for b.Loop() {
		at.get("/")
	}
}

func newPage() *status.Page {
	m, _ := newMetrics()
	return status.New(status.Options{Gatherer: m.Gatherer(), Ready: func() bool { return true }, Facts: facts})
}
