package demo

import (
	"context"
	"io"
	"net"
	"sync"
)

// Sample is one message of the demonstration.
type Sample struct {
	What string
	Raw  []byte
}

// once spares the tests to build the large message again and again.
var once = sync.OnceValue(samples)

// Samples lists them.
func Samples() []Sample { return exported(once()) }

// BuildSamples lists them, built again.
func BuildSamples() []Sample { return exported(samples()) }

func exported(list []sample) []Sample {
	var out []Sample
	for _, s := range list {
		out = append(out, Sample{s.what, s.raw})
	}
	return out
}

// Play plays the session against a POP3 server.
func Play(ctx context.Context, address string, out io.Writer) error {
	_, err := play(ctx, address, once(), out)
	return err
}

// Patient wraps a listener.
func Patient(ln net.Listener) net.Listener { return patient{ln} }
