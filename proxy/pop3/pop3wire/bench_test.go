package pop3wire_test

import (
	"strings"
	"testing"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// BenchmarkReadCommand is a line from a source that gives sixteen at a time, and
// its parts.
func BenchmarkReadCommand(b *testing.B) {
	r := pop3wire.NewReader(repeat(strings.Repeat("RETR 1234\r\n", 16)))
	b.ReportAllocs()
	for b.Loop() {
		line, err := r.ReadCommand()
		if err != nil {
			b.Fatal(err)
		}
		c := pop3wire.ParseCommand(line)
		var array [2][]byte
		args, ok := c.Args(array[:])
		if n, isNumber := pop3wire.ParseNumber(args[0]); !ok || !isNumber || n != 1234 || c.Verb != "RETR" {
			b.Fatalf("%q", line)
		}
	}
}

// repeat is an endless source of the same text.
type repeat string

func (s repeat) Read(p []byte) (int, error) { return copy(p, s), nil }

func BenchmarkTopCut(b *testing.B) {
	text := []byte("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 74)+"\r\n", 430))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		c := pop3wire.NewTopCut(1000)
		if n, _ := c.Take(text); n != len(text) {
			b.Fatal(n)
		}
	}
}
