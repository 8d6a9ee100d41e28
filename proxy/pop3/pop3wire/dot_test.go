package pop3wire_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// dotted returns the multi-line response for pieces of a text, and its size.
func dotted(t testing.TB, pieces ...string) (string, int64) {
	t.Helper()
	var out bytes.Buffer
	dst := pop3wire.NewWriter(&out, new(pop3wire.Buffers))
	w := pop3wire.NewDotWriter(dst)
	for _, p := range pieces {
		if n, err := io.WriteString(w, p); n != len(p) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", p, n, err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := dst.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String(), w.Octets()
}

var dotTable = []struct {
	name string
	text string
	want string // without the terminator
	size int64
}{
	{"empty_message_is_the_terminator_alone", "", "", 0},
	{"plain", "a\r\nb\r\n", "a\r\nb\r\n", 6},
	{"missing_final_crlf_is_added", "a", "a\r\n", 3},
	{"bare_cr_at_the_end_is_kept", "a\r", "a\r\r\n", 4},
	{"bare_lf_becomes_crlf", "a\nb\n", "a\r\nb\r\n", 6},
	{"leading_bare_lf", "\na", "\r\na\r\n", 5},
	{"only_lf", "\n\n", "\r\n\r\n", 4},
	{"only_crlf", "\r\n", "\r\n", 2},
	{"dot_alone", ".", "..\r\n", 3},
	{"dot_line", ".\r\n", "..\r\n", 3},
	{"two_dots", "..\r\n", "...\r\n", 4},
	{"dot_after_crlf", "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n", 9},
	{"dot_after_bare_lf_is_stuffed_too", "a\n.\nb\n", "a\r\n..\r\nb\r\n", 9},
	{"lf_dot_crlf", "a\n.\r\nb", "a\r\n..\r\nb\r\n", 9},
	{"bare_cr_begins_no_line", "a\r.\rb\r\n", "a\r.\rb\r\n", 7},
	{"cr_cr_lf", "a\r\r\n.\r\n", "a\r\r\n..\r\n", 7},
	{"dot_in_a_line", "a.b\r\n", "a.b\r\n", 5},
	{"dots_all_over", ".a\r\n.b\n..\n", "..a\r\n..b\r\n...\r\n", 12},
	{"nul_and_8_bit_pass", "\x00\xff\xe2\x82\xac\r\n\x00.\r\n", "\x00\xff\xe2\x82\xac\r\n\x00.\r\n", 11},
	{"a_terminator_inside", "\r\n.\r\n", "\r\n..\r\n", 5},
}

func TestDotWriter(t *testing.T) {
	for _, tt := range dotTable {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want + ".\r\n"
			check := func(pieces ...string) {
				t.Helper()
				if got, size := dotted(t, pieces...); got != want || size != tt.size {
					t.Errorf("%q: got %q of %d octets, want %q of %d", pieces, got, size, want, tt.size)
				}
			}
			check(tt.text)
			check(strings.Split(tt.text, "")...)
			for i := range len(tt.text) + 1 {
				for j := i; j <= len(tt.text); j++ {
					check(tt.text[:i], tt.text[i:j], tt.text[j:])
				}
			}
		})
	}
}

func TestALineOfAMillionOctetsIsNotSplit(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	if got, _ := dotted(t, long, long, "\r\n"); got != long+long+"\r\n.\r\n" {
		t.Error("a long line was changed")
	}
}

func TestNoTerminatorWithoutFinish(t *testing.T) {
	for _, tt := range dotTable {
		var out bytes.Buffer
		dst := pop3wire.NewWriter(&out, new(pop3wire.Buffers))
		io.WriteString(pop3wire.NewDotWriter(dst), tt.text)
		dst.Flush()
		if out.String() == ".\r\n" || strings.Contains(out.String(), "\n.\r\n") {
			t.Errorf("%s: %q ends by itself", tt.name, out.String())
		}
	}
}

// What the writer keeps of an error, the dot writer tells.
func TestATextStopsAtAnError(t *testing.T) {
	broken := errors.New("broken")
	w := pop3wire.NewDotWriter(pop3wire.NewWriter(writerFunc(func([]byte) (int, error) { return 0, broken }), new(pop3wire.Buffers)))
	long := bytes.Repeat([]byte("a\n.\n"), pop3wire.BufferSize)
	if n, err := w.Write(long); err != broken || n == len(long) {
		t.Errorf("Write: %d of %d octets, %v, want %v", n, len(long), err, broken)
	}
	octets := w.Octets()
	if err := w.Finish(); err != broken {
		t.Errorf("Finish: %v, want %v", err, broken)
	}
	if octets > pop3wire.BufferSize || w.Octets() != octets {
		t.Errorf("%d octets at the error, %d behind it", octets, w.Octets())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestDotWriterDoesNotAllocate(t *testing.T) {
	w := pop3wire.NewDotWriter(pop3wire.NewWriter(io.Discard, new(pop3wire.Buffers)))
	p := []byte("line\r\n.dot\r\nbare\n.bare dot\nend")
	if n := testing.AllocsPerRun(100, func() { w.Write(p) }); n != 0 {
		t.Errorf("%v allocations a write", n)
	}
}

// strictDecode ends at CRLF.CRLF alone, as RFC 1939 says.
func strictDecode(r *bufio.Reader) (string, error) { return decode(r, "\r\n") }

// tolerantDecode ends a line at LF, as many clients do.
func tolerantDecode(r *bufio.Reader) (string, error) { return decode(r, "\n") }

func decode(r *bufio.Reader, lineEnd string) (string, error) {
	var text strings.Builder
	for {
		var line string
		for !strings.HasSuffix(line, lineEnd) {
			part, err := r.ReadString('\n')
			line += part
			if err != nil {
				return "", err
			}
		}
		body := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if body == "." {
			return text.String(), nil
		}
		text.WriteString(strings.TrimPrefix(line, "."))
	}
}

// normalised is the text as it is to arrive, made the slow way.
func normalised(text string) string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\r\n"
	}
	return text
}

// FuzzDotRoundTrip: whoever decodes, strict about CRLF or not, gets the text and
// finds the next reply where it is.
func FuzzDotRoundTrip(f *testing.F) {
	for _, tt := range dotTable {
		f.Add(tt.text, byte(1))
	}
	f.Fuzz(func(t *testing.T, text string, step byte) {
		var pieces []string
		for rest := text; len(rest) > 0; {
			n := min(int(step)%32+1, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		wire, size := dotted(t, pieces...)
		want := normalised(text)
		if size != int64(len(want)) {
			t.Errorf("Octets() = %d, want %d", size, len(want))
		}
		for name, dec := range map[string]func(*bufio.Reader) (string, error){"strict": strictDecode, "tolerant": tolerantDecode} {
			r := bufio.NewReader(strings.NewReader(wire + "+OK next\r\n"))
			got, err := dec(r)
			if err != nil || got != want {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
			}
			if next, _ := r.ReadString('\n'); next != "+OK next\r\n" {
				t.Errorf("%s: the next reply reads %q", name, next)
			}
		}
	})
}

func BenchmarkDotWriter(b *testing.B) {
	line := strings.Repeat("x", 74) + "\r\n"
	for _, bb := range []struct{ name, text string }{
		{"crlf", strings.Repeat(line, 1<<15/len(line))},
		{"bare_lf", strings.Repeat(line[:74]+"\n", 1<<15/75)},
		{"dots", strings.Repeat(".\r\n", 1<<15/3)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			w := pop3wire.NewDotWriter(pop3wire.NewWriter(io.Discard, new(pop3wire.Buffers)))
			p := []byte(bb.text)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Write(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
