package imapguard_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream/imap/imapguard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stream is a connection that gives fixed octets, in pieces of at most step.
type stream struct {
	net.Conn
	r io.Reader
}

func (s *stream) Read(p []byte) (int, error)       { return s.r.Read(p) }
func (s *stream) Write(p []byte) (int, error)      { return len(p), nil }
func (s *stream) Close() error                     { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

func guard(input string, lim imapguard.Limits, one bool) *imapguard.Conn {
	var r io.Reader = strings.NewReader(input)
	if one {
		r = iotest.OneByteReader(r)
	}
	s := &stream{r: r}
	return imapguard.New(s, s, lim)
}

func TestFilter(t *testing.T) {
	type listed struct {
		number, uid uint32
		size        int64
	}
	type span [2]uint32
	for _, tt := range []struct {
		name   string
		expect string // "", "body", "list", "search"
		in     string
		out    string // what the library gets
		list   []listed
		search []span
	}{
		{name: "tagged_replies_pass", in: "T1 OK done\r\n", out: "T1 OK done\r\n"},
		{name: "codes_are_folded", in: "T1 OK [read-only] done\r\n* ok [uidnext 7] x\r\n", out: "T1 OK [READ-ONLY] done\r\n* ok [UIDNEXT 7] x\r\n"},
		{name: "capabilities_are_hidden", in: "T1 OK [CAPABILITY (x] done\r\nT2 OK [capability(x done\r\nT3 NO [CAPABILITY IMAP4rev1] x\r\n",
			out: "T1 OK [XAPABILITY (x] done\r\nT2 OK [XAPABILITY(X done\r\nT3 NO [XAPABILITY IMAP4rev1] x\r\n"},
		{name: "unknown_responses_are_swallowed", in: "* VANISHED 1:3\r\n* X-FOO {3}\r\nabc bar\r\n\r\n* 3 RECENT\r\n* 3 EXPUNGE\r\n* ID NIL\r\n* 3 EXISTS\r\n", out: "* 3 EXISTS\r\n"},
		{name: "alerts_are_swallowed", in: "* OK [ALERT] hello\r\n* NO hm\r\n* BAD hm\r\n", out: ""},
		{name: "illegal_flags_are_made_legal", in: "* FLAGS (\\Seen a]b $x)\r\n* OK [PERMANENTFLAGS (\\Deleted q\"r \\*)] k\r\n",
			out: "* FLAGS (\\Seen a_b $x)\r\n* OK [PERMANENTFLAGS (\\Deleted q_r \\*)] k\r\n"},
		{name: "flag_updates_do_not_take_a_body's_place", expect: "body",
			in:  "* 1 FETCH (UID 7 FLAGS (\\Seen))\r\n* 1 FETCH (UID 7 BODY[] {3}\r\na\r\n FLAGS ())\r\n",
			out: "* 1 FETCH (UID 7 BODY[] {3}\r\na\r\n FLAGS ())\r\n"},
		{name: "a_uid_behind_the_body_is_put_before", expect: "body",
			in:  "* 1 FETCH (FLAGS () body[] {3}\r\n){4 UID 7)\r\n",
			out: "* 1 FETCH (UID 7 FLAGS () body[] {3}\r\n){4 UID 7)\r\n"},
		{name: "nil_and_quoted_bodies_pass", expect: "body",
			in:  "* 1 FETCH (UID 7 BODY[] NIL)\r\n* 1 FETCH (UID 7 BODY[] \"a (\\\" {9}\")\r\n",
			out: "* 1 FETCH (UID 7 BODY[] NIL)\r\n* 1 FETCH (UID 7 BODY[] \"a (\\\" {9}\")\r\n"},
		{name: "no_body_passes_unasked", in: "* 1 FETCH (UID 7 BODY[] {3}\r\nabc)\r\nT1 OK\r\n", out: "T1 OK\r\n"},
		{name: "a_literal_may_look_like_responses", expect: "body",
			in:  "* 1 FETCH (UID 7 BODY[] {14}\r\n* BYE\r\nT1 OK\r\n)\r\nT1 OK\r\n",
			out: "* 1 FETCH (UID 7 BODY[] {14}\r\n* BYE\r\nT1 OK\r\n)\r\nT1 OK\r\n"},
		{name: "listings_are_tapped", expect: "list",
			in:   "* 1 FETCH (UID 7 RFC822.SIZE 120)\r\n* 2 FETCH (RFC822.SIZE 9223372036854775807 UID 4294967295)\r\n* 2 EXISTS\r\nT1 OK\r\n",
			out:  "* 2 EXISTS\r\nT1 OK\r\n",
			list: []listed{{1, 7, 120}, {2, 4294967295, 9223372036854775807}}},
		{name: "listings_with_other_items_are_tapped", expect: "list",
			in:   "* 1 fetch (FLAGS (\\Seen \"(\") uid 7 MODSEQ (12) rfc822.size 120 X \"a)b\")\r\n* 2 FETCH (UID 8)\r\n* 3 FETCH (UID 9 RFC822.SIZE 5 X {2}\r\nab)\r\nT1 OK\r\n",
			out:  "T1 OK\r\n",
			list: []listed{{1, 7, 120}}},
		{name: "searches_are_tapped", expect: "search", in: "* SEARCH 5 4294967295  7\r\n* SEARCH\r\n* search 1 (MODSEQ 5)\r\nT1 OK\r\n", out: "T1 OK\r\n", search: []span{{5, 5}, {4294967295, 4294967295}, {7, 7}, {1, 1}}},
		{name: "extended_searches_are_tapped", expect: "search",
			in:     "* ESEARCH (TAG \"A)\\\" 1\") UID ALL 1:3,5,9:7 \r\n* esearch (tag {2}\r\n) ) uid count 4 all 4294967295\r\nT1 OK\r\n",
			out:    "T1 OK\r\n",
			search: []span{{1, 3}, {5, 5}, {7, 9}, {4294967295, 4294967295}}},
		{name: "other_results_of_an_extended_search_are_passed_over", expect: "search",
			in:     "* ESEARCH UID MIN 2 X (ALL 3 (4) \"ALL 5\") Y \"ALL 6\" ALLX 7 PARTIAL (1:2 8) ALL 9 MODSEQ 10\r\nT1 OK\r\n",
			out:    "T1 OK\r\n",
			search: []span{{9, 9}}},
		{name: "message_numbers_are_no_uids", expect: "search", in: "* ESEARCH (TAG \"A1\") ALL 1:3\r\nT1 OK\r\n", out: "T1 OK\r\n"},
		{name: "searches_are_swallowed_unasked", in: "* SEARCH 1\r\n* ESEARCH UID ALL x(\r\nT1 OK\r\n", out: "T1 OK\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, one := range []bool{false, true} {
				c := guard(tt.in, imapguard.Limits{}, one)
				var list []listed
				var search []span
				e := imapguard.Expect{}
				switch tt.expect {
				case "body":
					e.Body = 7
				case "list":
					e.List = func(number, uid uint32, size int64) { list = append(list, listed{number, uid, size}) }
				case "search":
					e.Search = func(first, last uint32) { search = append(search, span{first, last}) }
				}
				c.Begin(e)
				got, err := io.ReadAll(c)
				if err != nil {
					t.Fatalf("one octet a read: %v: %v", one, err)
				}
				if string(got) != tt.out {
					t.Errorf("the library got %q, want %q", got, tt.out)
				}
				if fmt.Sprint(list) != fmt.Sprint(tt.list) || fmt.Sprint(search) != fmt.Sprint(tt.search) {
					t.Errorf("tapped %v and %v, want %v and %v", list, search, tt.list, tt.search)
				}
			}
		})
	}
}

func TestLongSearchResponsesAreTappedInPieces(t *testing.T) {
	for name, tt := range map[string]struct{ head, separator string }{
		"SEARCH":  {"* SEARCH ", " "},
		"ESEARCH": {`* ESEARCH (TAG "A1") UID ALL `, ","},
	} {
		t.Run(name, func(t *testing.T) {
			var in strings.Builder
			for i := 1; i <= 200_000; i += 2 {
				in.WriteString(tt.separator)
				fmt.Fprint(&in, i)
				if name == "ESEARCH" && i%3 == 0 {
					fmt.Fprintf(&in, ":%d", i)
				}
			}
			text := tt.head + in.String()[1:] + "\r\nT1 OK\r\n"
			c := guard(text, imapguard.Limits{}, false)
			next := uint32(1)
			c.Begin(imapguard.Expect{Search: func(first, last uint32) {
				if first != next || last != next {
					t.Fatalf("got %d:%d, want %d", first, last, next)
				}
				next += 2
			}})
			if got, err := io.ReadAll(c); err != nil || string(got) != "T1 OK\r\n" || next != 200_001 || !c.SawSearch() {
				t.Errorf("got %q, %v, up to %d, saw a search: %v", got, err, next, c.SawSearch())
			}
		})
	}
}

// An answer is told from none, be there nothing found.
func TestSawSearchMeansAnAnswer(t *testing.T) {
	for in, want := range map[string]bool{
		"T1 OK\r\n": false, "* SEARCH\r\nT1 OK\r\n": true, "* SEARCH 3\r\n": true, "* 3 EXISTS\r\n": false,
		"* ESEARCH (TAG \"A1\") UID\r\n": true, "* ESEARCH (TAG \"A1\")\r\n": false, "* ESEARCH (TAG \"A1\") UID ALL 1\r\n": true,
	} {
		c := guard(in, imapguard.Limits{}, false)
		c.Begin(imapguard.Expect{Search: func(uint32, uint32) {}})
		if io.Copy(io.Discard, c); c.SawSearch() != want {
			t.Errorf("SawSearch() = %v behind %q", !want, in)
		}
	}
}

// endless gives a prefix and then the same octets for ever.
type endless struct{ prefix, loop string }

func (e *endless) Read(p []byte) (int, error) {
	if e.prefix == "" {
		e.prefix = e.loop
	}
	n := copy(p, e.prefix)
	e.prefix = e.prefix[n:]
	return n, nil
}

func TestViolationsEndTheConnection(t *testing.T) {
	for _, tt := range []struct {
		name   string
		in     io.Reader
		expect imapguard.Expect
	}{
		{"endless_text", &endless{"* OK ", "x"}, imapguard.Expect{}},
		{"endless_tagged_text", &endless{"T1 OK ", "x"}, imapguard.Expect{}},
		{"endless_unknown_response", &endless{"* X ", "x"}, imapguard.Expect{}},
		{"endless_search", &endless{"* SEARCH ", "1 "}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"endless_flood_of_lines", &endless{"", "* 1 EXISTS\r\n"}, imapguard.Expect{}},
		{"endless_flood_of_swallowed_literals", &endless{"", "* X {3}\r\nabc\r\n"}, imapguard.Expect{}},
		{"deep_parentheses", &endless{"* 1 FETCH (UID 7 BODYSTRUCTURE ", "("}, imapguard.Expect{}},
		{"deep_parentheses_beside_a_body", &endless{"* 1 FETCH (UID 7 BODY[] NIL BODYSTRUCTURE ", "("}, imapguard.Expect{Body: 7}},
		{"a_huge_literal_that_is_no_body", &endless{"* LIST () \"/\" {200000000}\r\n", "x"}, imapguard.Expect{}},
		{"a_second_huge_literal_beside_a_body", &endless{"* 1 FETCH (UID 7 BODY[] {1}\r\nx X {200000000}\r\n", "x"}, imapguard.Expect{Body: 7}},
		{"a_literal_of_over_63_bits", &endless{"* 1 FETCH (UID 7 BODY[] {99999999999999999999}\r\n", "x"}, imapguard.Expect{Body: 7}},
		{"a_tagged_line_that_is_no_reply", &endless{"T1 FOO [CAPABILITY (x]\r\n", "x"}, imapguard.Expect{}},
		{"a_line_end_in_a_quoted_string", &endless{"* 1 FETCH (UID 7 BODY[] \"abc\r\n", "x"}, imapguard.Expect{Body: 7}},
		{"uid_zero", &endless{"* 1 FETCH (UID 0 RFC822.SIZE 5)\r\n", "x"}, imapguard.Expect{List: func(uint32, uint32, int64) {}}},
		{"a_size_of_over_63_bits", &endless{"* 1 FETCH (UID 1 RFC822.SIZE 9223372036854775808)\r\n", "x"}, imapguard.Expect{List: func(uint32, uint32, int64) {}}},
		{"a_negative_size", &endless{"* 1 FETCH (UID 1 RFC822.SIZE -5)\r\n", "x"}, imapguard.Expect{List: func(uint32, uint32, int64) {}}},
		{"a_search_result_of_over_32_bits", &endless{"* SEARCH 4294967296\r\n", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"a_search_result_that_is_no_number", &endless{"* SEARCH 1 x\r\n", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"an_endless_extended_search", &endless{"* ESEARCH UID ALL 1", ",1"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"an_endless_name_in_an_extended_search", &endless{"* ESEARCH UID ", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"deep_parentheses_in_an_extended_search", &endless{"* ESEARCH UID X ", "("}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"a_range_to_zero", &endless{"* ESEARCH UID ALL 1:0\r\n", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"a_range_without_an_end", &endless{"* ESEARCH UID ALL 1:\r\n", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"a_range_of_three", &endless{"* ESEARCH UID ALL 1:2:3\r\n", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"a_range_of_over_32_bits", &endless{"* ESEARCH UID ALL 1:4294967296\r\n", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"a_range_to_the_last", &endless{"* ESEARCH UID ALL 1:*\r\n", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
		{"a_message_number_of_over_32_bits", &endless{"* 4294967296 FETCH (UID 1 RFC822.SIZE 5)\r\n", "x"}, imapguard.Expect{List: func(uint32, uint32, int64) {}}},
		{"a_search_result_of_zero", &endless{"* SEARCH 0\r\n", "x"}, imapguard.Expect{Search: func(uint32, uint32) {}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &stream{r: tt.in}
			c := imapguard.New(s, s, imapguard.Limits{Command: 1 << 20})
			c.Begin(tt.expect)
			_, err := io.Copy(io.Discard, c)
			if _, ok := errors.AsType[*imapguard.Violation](err); !ok {
				t.Errorf("Read ended in %v, want a *Violation", err)
			}
			if _, again := c.Read(make([]byte, 1)); again == nil {
				t.Error("Read goes on after the violation")
			}
		})
	}
}

func TestAStreamCutInsideAResponseIsNoCleanEnd(t *testing.T) {
	const whole = "* 1 FETCH (UID 7 BODY[] {10}\r\n0123456789)\r\n"
	for k := 1; k < len(whole); k++ {
		c := guard(whole[:k], imapguard.Limits{}, false)
		c.Begin(imapguard.Expect{Body: 7})
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, imapguard.ErrCut) {
			t.Errorf("cut after %d octets: Read ended in %v, want ErrCut", k, err)
		}
	}
}

func TestNothingCountsBehindBYE(t *testing.T) {
	c := guard("* 1 EXISTS\r\n* BYE gone\r\nT1 OK done\r\n", imapguard.Limits{}, false)
	c.Begin(imapguard.Expect{})
	if got, err := io.ReadAll(c); string(got) != "* 1 EXISTS\r\n" || !errors.Is(err, imapguard.ErrBye) {
		t.Errorf("the library got %q, %v", got, err)
	}
}

func TestStatusKeepsTheLastWord(t *testing.T) {
	c := guard("* OK [ALERT] careful\r\n* OK [UIDNOTSTICKY] x\r\n* BYE [unavailable] so \x1b[1m long\x00\r\n", imapguard.Limits{}, false)
	c.Begin(imapguard.Expect{})
	io.Copy(io.Discard, c)
	if got, want := c.Status().String(), "BYE [UNAVAILABLE] so ?[1m long?"; got != want {
		t.Errorf("Status() = %q, want %q", got, want)
	}
	if !c.Saw("UIDNOTSTICKY") || c.Saw("READ-ONLY") {
		t.Error("the response codes seen are not those that came")
	}
	c.Begin(imapguard.Expect{})
	if c.Status().Type != "" || c.Saw("UIDNOTSTICKY") {
		t.Error("Begin does not forget what came before")
	}
}

// What is withheld last is withheld, and what was so before is forgotten.
func TestAStatusRepeatsNothingThatIsWithheld(t *testing.T) {
	const said = "* NO what is wonderland of alice\r\n"
	c := guard(said+said+said, imapguard.Limits{}, false)
	c.Begin(imapguard.Expect{})
	for _, tt := range []struct {
		withhold []string
		want     string
	}{
		{[]string{"other", "wonderland"}, "NO (the text repeats the credentials)"},
		{nil, "NO what is wonderland of alice"},
		{[]string{"wonderland"}, "NO (the text repeats the credentials)"},
	} {
		c.Withhold(tt.withhold...)
		if _, err := c.ReadLine(); err != nil {
			t.Fatal(err)
		}
		if got := c.Status().String(); got != tt.want {
			t.Errorf("with %q: %q, want %q", tt.withhold, got, tt.want)
		}
	}
}

func TestSilenceDuringACommandIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := imapguard.New(near, near, imapguard.Limits{Progress: time.Minute, Idle: time.Hour})
		defer c.Abort()
		c.End()
		start := time.Now()
		done := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 10))
			done <- err
		}()
		time.Sleep(30 * time.Minute) // idle: nothing happens
		c.Begin(imapguard.Expect{})  // reaches the read that is blocked
		err := <-done
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Errorf("Read ended in %v, want a timeout", err)
		}
		if got := time.Since(start); got != 31*time.Minute {
			t.Errorf("Read ended after %v, want 31m", got)
		}
	})
}

func TestATrickleOfOctetsIsNoProgress(t *testing.T) {
	for _, tt := range []struct {
		pause time.Duration
		cut   bool
	}{{time.Second, true}, {10 * time.Millisecond, false}} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			c := imapguard.New(near, near, imapguard.Limits{Progress: time.Minute, Trickle: 1024})
			c.Begin(imapguard.Expect{Body: 7})
			go func() {
				defer far.Close()
				fmt.Fprintf(far, "* 1 FETCH (UID 7 BODY[] {20000}\r\n")
				for range 20000 {
					if _, err := far.Write([]byte("x")); err != nil {
						return
					}
					time.Sleep(tt.pause)
				}
				fmt.Fprintf(far, ")\r\n")
			}()
			_, err := io.Copy(io.Discard, c)
			if _, cut := errors.AsType[*imapguard.Violation](err); cut != tt.cut {
				t.Errorf("an octet every %v: %v", tt.pause, err)
			}
			c.Abort()
			time.Sleep(tt.pause) // for the writer to find out
			synctest.Wait()
		})
	}
}

func TestASlowReaderTripsNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := imapguard.New(near, near, imapguard.Limits{Progress: time.Minute})
		defer c.Abort()
		c.Begin(imapguard.Expect{Body: 7})
		go fmt.Fprintf(far, "* 1 FETCH (UID 7 BODY[] {20000}\r\n%s)\r\n", strings.Repeat("x", 20000))
		r := bufio.NewReader(c)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		for range 20000 / 1000 {
			time.Sleep(10 * time.Minute)
			if _, err := io.CopyN(io.Discard, r, 1000); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"* 1 FETCH (UID 7 RFC822.SIZE 120)\r\nT1 OK\r\n", "* SEARCH 1 2 3\r\n", "* 1 FETCH (UID 7 BODY[] {3}\r\nabc)\r\n",
		"* OK [PERMANENTFLAGS (\\Deleted \\*)] x\r\n", "* FLAGS (a b)\r\n", "* LIST (\\Trash) \"/\" {5}\r\nTrash\r\n", "+ go on\r\n", "* BYE x\r\n",
		"* ESEARCH (TAG \"A\") UID ALL 1:3,5 COUNT 4\r\n", "* 1 FETCH (BODY[] \"a\\\"b\" UID 7)\r\n", "*", "{5}\r\n", "* 1 FETCH ((((((((((((((((((((((((\r\n",
	} {
		for mode := range 3 {
			f.Add([]byte(s), mode)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, mode int) {
		run := func(one bool) (string, string) {
			c := guard(string(in), imapguard.Limits{Line: 8 << 10, Literal: 4 << 10, Command: 64 << 10}, one)
			var tapped strings.Builder
			e := imapguard.Expect{}
			switch mode {
			case 0:
				e.Body = 7
			case 1:
				e.List = func(number, uid uint32, size int64) {
					if uid == 0 || size < 0 {
						t.Fatalf("listed UID %d of %d octets", uid, size)
					}
					fmt.Fprintln(&tapped, number, uid, size)
				}
			default:
				e.Search = func(first, last uint32) {
					if first == 0 || first > last {
						t.Fatalf("found %d:%d", first, last)
					}
					fmt.Fprintln(&tapped, first, last)
				}
			}
			c.Begin(e)
			var out bytes.Buffer
			io.Copy(&out, c)
			return out.String(), tapped.String()
		}
		out, tapped := run(false)
		out1, tapped1 := run(true)
		if out != out1 || tapped != tapped1 {
			t.Errorf("what is read depends on how it arrives: %q %q, %q %q", out, tapped, out1, tapped1)
		}
	})
}

func BenchmarkList(b *testing.B) {
	const line = "* 1 FETCH (UID 123456 RFC822.SIZE 45678)\r\n"
	in := strings.Repeat(line, 10_000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		c := guard(in, imapguard.Limits{}, false)
		n := 0
		c.Begin(imapguard.Expect{List: func(uint32, uint32, int64) { n++ }})
		if io.Copy(io.Discard, c); n != 10_000 {
			b.Fatal(n)
		}
	}
}

func BenchmarkExtendedSearch(b *testing.B) {
	in := "* ESEARCH (TAG \"A1\") UID ALL " + strings.TrimSuffix(strings.Repeat("123456:123999,", 10_000), ",") + "\r\n"
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		c := guard(in, imapguard.Limits{}, false)
		n := 0
		c.Begin(imapguard.Expect{Search: func(uint32, uint32) { n++ }})
		if io.Copy(io.Discard, c); n != 10_000 {
			b.Fatal(n)
		}
	}
}

// Each limit holds by itself, where the others are far away.
func TestEachLimitHoldsByItself(t *testing.T) {
	const far = 1 << 30
	for _, tt := range []struct {
		name string
		in   string
		lim  imapguard.Limits
	}{
		{"line", "* OK " + strings.Repeat("x", 9<<10) + "\r\n", imapguard.Limits{Line: 8 << 10, Literal: far, Depth: far, Command: far}},
		{"literal", "* LIST () \"/\" {9000}\r\n" + strings.Repeat("x", 9000) + "\r\n", imapguard.Limits{Line: far, Literal: 8 << 10, Depth: far, Command: far}},
		{"depth", "* X " + strings.Repeat("(", 40) + strings.Repeat(")", 40) + "\r\n", imapguard.Limits{Line: far, Literal: far, Depth: 39, Command: far}},
		{"command", strings.Repeat("* 1 EXISTS\r\n", 1000), imapguard.Limits{Line: far, Literal: far, Depth: far, Command: 8 << 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := guard(tt.in, tt.lim, false)
			c.Begin(imapguard.Expect{})
			_, err := io.Copy(io.Discard, c)
			if _, ok := errors.AsType[*imapguard.Violation](err); !ok {
				t.Errorf("Read ended in %v, want a *Violation", err)
			}
			near := guard(tt.in, imapguard.Limits{Line: far, Literal: far, Depth: far, Command: far}, false)
			near.Begin(imapguard.Expect{})
			if _, err := io.Copy(io.Discard, near); err != nil {
				t.Errorf("without the limit Read ended in %v", err)
			}
		})
	}
}

// What is there behind the reply to STARTTLS was said by anybody: it ends the
// connection, before an octet of TLS is sent.
func TestOctetsBehindSTARTTLSEndTheConnection(t *testing.T) {
	const reply = "A1 OK begin\r\n"
	for _, behind := range []string{"x", "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", "A2 OK logged in\r\n"} {
		c := guard(reply+behind, imapguard.Limits{}, false)
		if line, err := c.ReadLine(); string(line)+"\r\n" != reply || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		err := c.StartTLS(t.Context(), &tls.Config{ServerName: "imap.example.test"})
		if _, ok := errors.AsType[*imapguard.Violation](err); !ok {
			t.Errorf("with %q behind it StartTLS ended in %v, want a *Violation", behind, err)
		}
	}
}
