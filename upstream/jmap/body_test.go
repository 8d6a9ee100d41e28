package jmap_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

const small = "Subject: small\r\n\r\nText.\r\n"

func large(n int) string {
	line := strings.Repeat("0123456789abcdef", 5)[:76] + "\r\n"
	return "Subject: large\r\n\r\n" + strings.Repeat(line, n/len(line))
}

// TestABodyIsWholeOrAnError: at every octet, by every ending, the message ends in
// an error and never in io.EOF.
func TestABodyIsWholeOrAnError(t *testing.T) {
	for _, how := range []jmaptest.Ending{jmaptest.FIN, jmaptest.RST} {
		s := jmaptest.New(t, jmaptest.Options{TCP: true})
		s.Deliver([]byte(small))
		var after atomic.Int64
		s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
			if r.Op != "download" {
				return nil
			}
			return &jmaptest.Fault{End: how, After: after.Load()}
		})
		_, m := open(t, newStore(t, s, nil))
		for k := int64(-2); k < int64(len(small)); k++ {
			after.Store(k)
			got, err := retrieve(t, m, 0, upstream.Extent{})
			if err == nil || !strings.HasPrefix(small, got) {
				t.Errorf("cut after %d octets: %q, %v", k, got, err)
			}
			if err != nil {
				wantKind(t, "Retrieve", err, upstream.Unavailable)
			}
		}
	}
}

// TestWhatIsNotTheListedMessageIsAnError: a page of a proxy with status 200, another
// length, a compressed one.
func TestWhatIsNotTheListedMessageIsAnError(t *testing.T) {
	page := "<html>The service will be back soon.</html>"
	for _, tt := range []struct {
		name string
		o    jmaptest.Options
		f    jmaptest.Fault
	}{
		{"a_web_page", jmaptest.Options{}, jmaptest.Fault{Status: 200, Body: page}},
		{"longer_than_told", jmaptest.Options{}, jmaptest.Fault{Length: fmt.Sprint(len(small) + 1)}},
		{"shorter_than_told", jmaptest.Options{}, jmaptest.Fault{Length: fmt.Sprint(len(small) - 1)}},
		{"hostile_length", jmaptest.Options{}, jmaptest.Fault{Length: "9223372036854775807"}},
		{"negative_length", jmaptest.Options{}, jmaptest.Fault{Length: "-1"}},
		{"short_without_a_length", jmaptest.Options{Chunked: true}, jmaptest.Fault{Change: func(b []byte) []byte { return b[:len(b)-1] }}},
		{"long_without_a_length", jmaptest.Options{Chunked: true}, jmaptest.Fault{Change: func(b []byte) []byte { return append(bytes.Clone(b), 'x') }}},
		{"compressed", jmaptest.Options{}, jmaptest.Fault{Header: http.Header{"Content-Encoding": {"br"}}}},
		{"an_error", jmaptest.Options{}, jmaptest.Fault{Status: 500}},
		{"not_authorized_any_more", jmaptest.Options{}, jmaptest.Fault{Status: 401}},
		{"a_part_that_nobody_asked_for", jmaptest.Options{}, jmaptest.Fault{Status: 206, Body: small}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, tt.o)
			s.Deliver([]byte(small))
			_, m := open(t, newStore(t, s, nil))
			s.Hook(jmaptest.Times(2, jmaptest.Op("download"), tt.f))
			got, err := retrieve(t, m, 0, upstream.Extent{})
			if err == nil {
				t.Fatalf("it is taken for whole: %q", got)
			}
			if k := upstream.KindOf(err); k != upstream.Unavailable && k != upstream.Internal {
				t.Errorf("Retrieve: %v", err)
			}
			if !strings.HasPrefix(small, got) || !tt.o.Chunked && got != "" {
				t.Errorf("shown as a part of the message: %q", got)
			}
			retrieve(t, m, 0, upstream.Extent{}) // uses up the hook
			if got, err := retrieve(t, m, 0, upstream.Extent{}); err != nil || got != small {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

// TestABodyThatStandsStillEnds, and one that a slow client leaves standing does
// not: the time runs while an octet is waited for.
func TestABodyThatStandsStillEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		whole := large(200_000)
		s.Deliver([]byte(whole))
		_, m := open(t, newStore(t, s, nil))
		b, err := m.Retrieve(t.Context(), 0, upstream.Extent{})
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for {
			_, err := io.CopyN(&got, b, 50_000)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("a slow reader's body ends: %v", err)
			}
			time.Sleep(time.Hour)
		}
		b.Close()
		if got.String() != whole {
			t.Errorf("%d octets of %d", got.Len(), len(whole))
		}
		s.Hook(jmaptest.Once(jmaptest.Op("download"), jmaptest.Fault{End: jmaptest.Stall, After: 100_000}))
		start := time.Now()
		text, err := retrieve(t, m, 0, upstream.Extent{})
		wantKind(t, "Retrieve", err, upstream.Unavailable)
		if d := time.Since(start); d != time.Minute || len(text) != 100_000 {
			t.Errorf("%d octets in %v", len(text), d)
		}
		if text, err := retrieve(t, m, 0, upstream.Extent{}); err != nil || text != whole {
			t.Errorf("afterwards: %d octets, %v", len(text), err)
		}
	})
}

func TestABlobThatIsNotThereIsAskedForAgain(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	ids := []string{s.Deliver([]byte(small)), s.Deliver([]byte(small + "2")), s.Deliver([]byte(small + "3"))}
	_, m := open(t, newStore(t, s, nil))
	if _, err := retrieve(t, m, 0, upstream.Extent{}); err != nil {
		t.Fatal(err)
	}
	s.Destroy(ids[1]) // whose blob was told of with the first
	_, err := retrieve(t, m, 1, upstream.Extent{})
	wantKind(t, "Retrieve of what is gone", err, upstream.Gone)
	s.Hook(jmaptest.Once(jmaptest.Op("download"), jmaptest.Fault{Status: 404}))
	if got, err := retrieve(t, m, 2, upstream.Extent{}); err != nil || got != small+"3" {
		t.Errorf("404 once: %q, %v", got, err)
	}
	s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
		if r.Op != "download" {
			return nil
		}
		return &jmaptest.Fault{Status: 404}
	})
	_, err = retrieve(t, m, 2, upstream.Extent{})
	wantKind(t, "Retrieve of a blob that is never there", err, upstream.Unavailable)
}

// TestAMessageThatLeftTheMailboxIsGone, though it is in another one.
func TestAMessageThatLeftTheMailboxIsGone(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	id := s.DeliverAt([]byte(small), time.Unix(0, 0), jmaptest.Inbox, jmaptest.Archive)
	_, m := open(t, newStore(t, s, nil))
	s.Put(id, jmaptest.Inbox, false)
	_, err := retrieve(t, m, 0, upstream.Extent{})
	wantKind(t, "Retrieve", err, upstream.Gone)
}

// TestMessagesInARowCostOneRequestEach, up and down: which blobs they are is asked
// for many at a time.
func TestMessagesInARowCostOneRequestEach(t *testing.T) {
	for _, down := range []bool{false, true} {
		s := jmaptest.New(t, jmaptest.Options{})
		const n = 130
		for i := range n {
			s.Deliver(fmt.Appendf(nil, "Subject: %d\r\n\r\n", i))
		}
		_, m := open(t, newStore(t, s, nil))
		before := len(s.Requests())
		for k := range n {
			i := k
			if down {
				i = n - 1 - k
			}
			if got, err := retrieve(t, m, i, upstream.Extent{}); err != nil || got != fmt.Sprintf("Subject: %d\r\n\r\n", i) {
				t.Fatalf("message %d: %q, %v", i, got, err)
			}
		}
		if got := len(s.Requests()) - before; got > n+5 {
			t.Errorf("%d requests for %d messages", got, n)
		}
	}
}

// TestTopLeavesTheRestWhereItIs where the server knows ranges; where not, the rest
// is not waited for.
func TestTopLeavesTheRestWhereItIs(t *testing.T) {
	whole := large(4 << 20)
	for _, ranges := range []bool{true, false} {
		t.Run(fmt.Sprintf("ranges_%v", ranges), func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{Ranges: ranges, TCP: true})
			s.Deliver([]byte(whole))
			s.Deliver([]byte(small))
			_, m := open(t, newStore(t, s, nil))
			for range 2 {
				b, err := m.Retrieve(t.Context(), 0, upstream.Extent{Top: true, Lines: 3})
				if err != nil {
					t.Fatal(err)
				}
				p := make([]byte, 500)
				if _, err := io.ReadFull(b, p); err != nil || string(p) != whole[:500] || b.Octets() != int64(len(whole)) {
					t.Errorf("%.40q of %d octets, %v", p, b.Octets(), err)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
				if got, err := retrieve(t, m, 1, upstream.Extent{}); err != nil || got != small {
					t.Errorf("afterwards: %q, %v", got, err)
				}
			}
			// To the end, piece after piece.
			if got, err := retrieve(t, m, 0, upstream.Extent{Top: true, Lines: 100_000}); err != nil || got != whole {
				t.Errorf("the whole by pieces: %d octets, %v", len(got), err)
			}
			downloads := 0
			for _, r := range s.Requests() {
				if r == "download" {
					downloads++
				}
			}
			want := 2 + 2 + 1
			if ranges {
				want = 2 + 2 + 5 // 16 KiB, 64, 256, 1 MiB, the rest
			}
			if downloads != want {
				t.Errorf("%d downloads, want %d", downloads, want)
			}
		})
	}
}

// TestRangesThatAreNotWhatWasAskedForAreErrors: RFC 9110 section 14.4.
func TestRangesThatAreNotWhatWasAskedForAreErrors(t *testing.T) {
	whole := large(100_000)
	for name, told := range map[string]string{
		"another_place": fmt.Sprintf("bytes 1-16384/%d", len(whole)),
		"another_size":  fmt.Sprintf("bytes 0-16383/%d", len(whole)+1),
		"no_size":       "bytes 0-16383/*",
		"nothing":       "",
	} {
		t.Run(name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{Ranges: true})
			s.Deliver([]byte(whole))
			s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
				if r.Op != "download" {
					return nil
				}
				return &jmaptest.Fault{Header: http.Header{"Content-Range": {told}}}
			})
			_, m := open(t, newStore(t, s, nil))
			_, err := retrieve(t, m, 0, upstream.Extent{Top: true})
			wantKind(t, "Retrieve", err, upstream.Unavailable)
		})
	}
}

func TestTraceAndConnections(t *testing.T) {
	// In a bubble: net/http gives a connection up if the writer of a request did not
	// get its turn for 50 ms.
	synctest.Test(t, func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		for range 5 {
			s.Deliver([]byte(small))
		}
		got := map[string]int{}
		var opened, closed atomic.Int32
		store := newStore(t, s, func(o *jmap.Options) {
			o.Trace = jmap.Trace{
				Request: func(op, result string, _ time.Duration) { got[op+" "+result]++ },
				Connection: func(delta int) {
					if delta > 0 {
						opened.Add(1)
					} else {
						closed.Add(1)
					}
				},
			}
		})
		a, m := open(t, store)
		for i := range 5 {
			retrieve(t, m, i, upstream.Extent{})
		}
		if r, err := m.Update(context.Background(), upstream.Changes{Remove: []int{1}, Seen: []int{0}}); err != nil || r.Removed != 1 {
			t.Errorf("Update: %v, %v", r, err)
		}
		a.Close()
		want := map[string]int{"login ok": 1, "mailboxes ok": 1, "list ok": 1, "look ok": 3, "fetch ok": 5, "store ok": 2}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("traced %v, want %v", got, want)
		}
		if opened.Load() != 1 || closed.Load() != 0 {
			t.Errorf("%d connections opened, %d closed; want one for all", opened.Load(), closed.Load())
		}
	})
}
