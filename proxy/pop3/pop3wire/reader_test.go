package pop3wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// readAll returns every command line of in and the error at the end.
func readAll(in io.Reader) (lines []string, err error) {
	r := pop3wire.NewReader(in)
	for {
		line, err := r.ReadCommand()
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(line))
	}
}

func TestReadCommand(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		name string
		in   string
		want []string
		err  error
	}{
		{"crlf_ends_a_line", "NOOP\r\nQUIT\r\n", []string{"NOOP", "QUIT"}, io.EOF},
		{"bare_lf_ends_a_line", "NOOP\nQUIT\n", []string{"NOOP", "QUIT"}, io.EOF},
		{"empty_lines", "\r\n\n", []string{"", ""}, io.EOF},
		{"bare_cr_ends_nothing", "NOOP\rQUIT\r\r\n", []string{"NOOP\rQUIT\r"}, io.EOF},
		{"a_cut_line_is_no_command", "NOOP\r\nQUIT", []string{"NOOP"}, io.ErrUnexpectedEOF},
		{"a_line_cut_before_lf_is_no_command", "QUIT\r", nil, io.ErrUnexpectedEOF},
		{"nothing", "", nil, io.EOF},
		{"512_octets_fit", x(510) + "\r\nQUIT\r\n", []string{x(510), "QUIT"}, io.EOF},
		{"513_octets_do_not", x(511) + "\r\nQUIT\r\n", nil, pop3wire.ErrLineTooLong},
		{"512_octets_with_bare_lf", x(511) + "\nQUIT\r\n", []string{x(511), "QUIT"}, io.EOF},
		{"the_tail_is_never_a_command", "NOOP\r\n" + x(600) + "\nQUIT\r\n", []string{"NOOP"}, pop3wire.ErrLineTooLong},
		{"pass_may_be_long", "pAsS " + x(16<<10-7) + "\r\n", []string{"pAsS " + x(16<<10-7)}, io.EOF},
		{"pass_too_long", "PASS " + x(16<<10-6) + "\r\nQUIT\r\n", nil, pop3wire.ErrLineTooLong},
		{"auth_may_be_long", "NOOP\r\nauth " + x(9000) + "\r\nNOOP\r\n", []string{"NOOP", "auth " + x(9000), "NOOP"}, io.EOF},
		{"passx_may_not", "PASSX " + x(600) + "\r\n", nil, pop3wire.ErrLineTooLong},
		{"user_may_not", "USER " + x(600) + "\r\n", nil, pop3wire.ErrLineTooLong},
		{"long_s_is_not_an_s", "PA\u017f\u017f " + x(600) + "\r\n", nil, pop3wire.ErrLineTooLong},
		{"after_a_long_line_the_limit_is_back", "PASS " + x(9000) + "\r\n" + x(600) + "\r\n", []string{"PASS " + x(9000)}, pop3wire.ErrLineTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for how, in := range map[string]io.Reader{
				"whole":  strings.NewReader(tt.in),
				"octets": iotest.OneByteReader(strings.NewReader(tt.in)),
				"halves": iotest.HalfReader(strings.NewReader(tt.in)),
				"eof":    iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				got, err := readAll(in)
				if strings.Join(got, "|") != strings.Join(tt.want, "|") || len(got) != len(tt.want) || err != tt.err {
					t.Errorf("%s: got %q, %v, want %q, %v", how, got, err, tt.want, tt.err)
				}
			}
		})
	}
}

func TestTooLongIsForEver(t *testing.T) {
	r := pop3wire.NewReader(strings.NewReader(strings.Repeat("x", 600) + "\r\nQUIT\r\nQUIT\r\n"))
	for range 5 {
		if line, err := r.ReadCommand(); !errors.Is(err, pop3wire.ErrLineTooLong) {
			t.Fatalf("ReadCommand() = %q, %v", line, err)
		}
		if line, err := r.ReadResponse(); !errors.Is(err, pop3wire.ErrLineTooLong) {
			t.Fatalf("ReadResponse() = %q, %v", line, err)
		}
	}
}

func TestReadResponseIsLongWhateverItBeginsWith(t *testing.T) {
	long := strings.Repeat("A", pop3wire.MaxResponse-2)
	r := pop3wire.NewReader(strings.NewReader(long + "\r\n" + long + "A\r\n"))
	if got, err := r.ReadResponse(); err != nil || string(got) != long {
		t.Errorf("ReadResponse() = %d octets, %v", len(got), err)
	}
	if _, err := r.ReadResponse(); !errors.Is(err, pop3wire.ErrLineTooLong) {
		t.Errorf("ReadResponse() of one octet more: %v", err)
	}
}

func TestReadingGoesOnAfterATimeout(t *testing.T) {
	r := pop3wire.NewReader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("NOOP\r\n"))))
	if _, err := r.ReadCommand(); err != iotest.ErrTimeout {
		t.Fatalf("got %v, want a timeout", err)
	}
	if line, err := r.ReadCommand(); err != nil || string(line) != "NOOP" {
		t.Errorf("ReadCommand() after a timeout = %q, %v", line, err)
	}
}

func TestASilentSourceIsNotAskedForEver(t *testing.T) {
	r := pop3wire.NewReader(readerFunc(func([]byte) (int, error) { return 0, nil }))
	if _, err := r.ReadCommand(); err != io.ErrNoProgress {
		t.Errorf("got %v, want %v", err, io.ErrNoProgress)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestWhatIsBuffered(t *testing.T) {
	r := pop3wire.NewReader(strings.NewReader("STLS\r\nCAPA\r\nUS"))
	if b, err := r.Peek(); b != 'S' || err != nil {
		t.Fatalf("Peek() = %q, %v", b, err)
	}
	type place struct {
		buffered int
		received int64
		line     bool
	}
	at := func() place { return place{r.Buffered(), r.Received(), r.HasLine()} }
	if got, want := at(), (place{14, 14, true}); got != want {
		t.Errorf("before the first line: %+v, want %+v", got, want)
	}
	for _, want := range []place{{8, 14, true}, {2, 14, false}} {
		if _, err := r.ReadCommand(); err != nil {
			t.Fatal(err)
		}
		if got := at(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// What a stream without line end can make the reader hold is bounded.
func TestAnEndlessLineIsRefusedEarly(t *testing.T) {
	for _, tt := range []struct {
		head string
		max  int64
	}{{"NOOP ", pop3wire.MaxCommand}, {"PASS ", pop3wire.MaxResponse}} {
		r := pop3wire.NewReader(io.MultiReader(strings.NewReader(tt.head), readerFunc(func(p []byte) (int, error) {
			return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
		})))
		if _, err := r.ReadCommand(); !errors.Is(err, pop3wire.ErrLineTooLong) {
			t.Errorf("%q without end: %v", tt.head, err)
		}
		if r.Received() > tt.max {
			t.Errorf("%q without end: %d octets were taken, over %d", tt.head, r.Received(), tt.max)
		}
	}
}

// FuzzReadCommand: lines do not depend on how the stream is cut, none is over
// its limit, and put together again they are the stream.
func FuzzReadCommand(f *testing.F) {
	for _, s := range []string{
		"USER mrose\r\nPASS secret\r\nSTAT\r\nQUIT\r\n", "NOOP\nQUIT", "\r\r\n\n", "PASS  a b \r\n",
		"AUTH PLAIN AHRlc3QAdGVzdA==\r\n*\r\n", strings.Repeat("x", 513) + "\nQUIT\r\n", "auth " + strings.Repeat("y", 2000) + "\r\n",
	} {
		f.Add([]byte(s), byte(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, step byte) {
		whole, wholeErr := readAll(bytes.NewReader(in))
		cut, cutErr := readAll(&stepReader{in, int(step)%64 + 1})
		if strings.Join(whole, "\n") != strings.Join(cut, "\n") || len(whole) != len(cut) || wholeErr != cutErr {
			t.Fatalf("%q, %v when read at once; %q, %v in pieces", whole, wholeErr, cut, cutErr)
		}
		rest := in
		for _, line := range whole {
			raw, after, found := bytes.Cut(rest, []byte("\n"))
			if !found || line != strings.TrimSuffix(string(raw), "\r") {
				t.Fatalf("line %q is not at %q", line, rest)
			}
			limit := pop3wire.MaxCommand
			if c := pop3wire.ParseCommand([]byte(line)); c.Verb == "PASS" || c.Verb == "AUTH" {
				limit = pop3wire.MaxResponse
			}
			if len(raw)+1 > limit {
				t.Fatalf("a line of %d octets was let through", len(raw)+1)
			}
			rest = after
		}
		switch wholeErr {
		case io.EOF:
			if len(rest) != 0 {
				t.Fatalf("%q was lost", rest)
			}
		case io.ErrUnexpectedEOF:
			if len(rest) == 0 || bytes.IndexByte(rest, '\n') >= 0 {
				t.Fatalf("%q is no cut line", rest)
			}
		case pop3wire.ErrLineTooLong:
			if i := bytes.IndexByte(rest, '\n'); i >= 0 && i < pop3wire.MaxCommand {
				t.Fatalf("%q is not too long", rest[:i])
			}
		default:
			t.Fatal(wholeErr)
		}
	})
}

type stepReader struct {
	rest []byte
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.step)], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
