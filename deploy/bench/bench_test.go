package main

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestACorpusIsTheSameInEveryRun(t *testing.T) {
	a, b := newCorpus("mixed", 50, mixed), newCorpus("mixed", 50, mixed)
	for i, m := range a.messages {
		if !bytes.Equal(m, b.messages[i]) {
			t.Fatalf("message %d differs", i)
		}
		if !bytes.HasSuffix(m, []byte("\r\n")) || bytes.Count(m, []byte("\n")) != bytes.Count(m, []byte("\r\n")) {
			t.Errorf("message %d is no text of CRLF lines", i)
		}
		if place, err := a.place(m[:bytes.IndexByte(m, '\n')]); place != i || err != nil {
			t.Errorf("message %d has the place %d, %v", i, place, err)
		}
		if !bytes.HasSuffix(a.header[i], []byte("\r\n\r\n")) || !bytes.HasPrefix(m, a.header[i]) {
			t.Errorf("the header of message %d: %q", i, a.header[i])
		}
	}
	if sum := bytes.Count(bytes.Join(a.stuffed, nil), []byte("\n..")); sum == 0 {
		t.Error("no line begins with a dot, so that nothing tests the stuffing")
	}
	if n := len(newCorpus("four", 1, sized(4096)).messages[0]); n < 4096 || n > 4100 {
		t.Errorf("a message of 4096 octets has %d", n)
	}
}

// answer is a client that reads text.
func answer(text string) *client {
	ours, theirs := net.Pipe()
	go func() {
		io.WriteString(theirs, text)
		theirs.Close()
	}()
	return &client{conn: ours, in: bufio.NewReader(ours)}
}

func TestEveryOctetIsCompared(t *testing.T) {
	c := newCorpus("four", 3, func(r *rand.Rand) int { return 5000 })
	right := string(c.stuffed[1])
	head := string(c.header[1]) + ".\r\n"
	for _, tt := range []struct {
		name, text string
		header, ok bool
	}{
		{"right", right, false, true},
		{"header", head, true, true},
		{"short", right[:len(right)-10] + ".\r\n", false, false},
		{"without_end", strings.TrimSuffix(right, ".\r\n"), false, false},
		{"one_octet", right[:2000] + "#" + right[2001:], false, false},
		{"not_stuffed", string(c.messages[1]) + ".\r\n", false, bytes.Equal(append(bytes.Clone(c.messages[1]), ".\r\n"...), c.stuffed[1])},
		{"of_no_corpus", "Subject: other 1\r\n" + right, false, false},
		{"of_no_place", "Subject: four 7\r\n" + right, false, false},
		{"whole_for_header", right, true, false},
		{"nothing", "", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := answer(tt.text)
			defer p.conn.Close()
			place, _, err := p.body(c, tt.header)
			if (err == nil) != tt.ok || tt.ok && place != 1 {
				t.Errorf("place %d, %v; want it to be right: %v", place, err, tt.ok)
			}
		})
	}
}

func TestTheLineDelaysAndLimitsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, in := net.Pipe()
		out, server := net.Pipe()
		d := &delayLine{rtt: 20 * time.Millisecond}
		start := time.Now()
		earliest := start.Add(30 * time.Millisecond)
		done := make(chan struct{})
		go func() { defer close(done); d.carry(t.Context(), out, in, earliest) }()
		go func() {
			for range 20 { // more than one chunk at a time
				client.Write(make([]byte, chunk))
			}
			time.Sleep(100 * time.Millisecond)
			client.Write([]byte("late"))
			client.Close()
		}()
		first := make([]byte, 20*chunk)
		if _, err := io.ReadFull(server, first); err != nil {
			t.Error(err)
		}
		if got := time.Since(start); got != 30*time.Millisecond {
			t.Errorf("what was sent at once arrived within %v, want all of it after 30ms", got)
		}
		late := make([]byte, 4)
		if _, err := io.ReadFull(server, late); string(late) != "late" {
			t.Errorf("%q, %v", late, err)
		}
		if got := time.Since(start); got != 110*time.Millisecond {
			t.Errorf("what was sent after 100ms arrived after %v, want half a round trip later", got)
		}
		server.Close()
		<-done
		out.Close()
	})
}

func TestTheTableTellsWhatIsNotReached(t *testing.T) {
	f := figures{}
	for _, v := range []float64{900, 700, 1000} {
		f.tell("popgate")(poll8, v)
	}
	f.tell("imapc")(poll8, 380)
	f.tell("popgate")(idlePSS, 60)
	f.tell("popgate-reuse")(poll8, 1400)
	want := `| work | wire | Dovecot POP3 | Dovecot imapc | popgate | popgate, reuse | aim |
|---|---|---|---|---|---|---|
| polls a second, 8 clients | | | 380 | **900** | 1,400 (not reached) | 830; with reuse 1,500 |
| an idle session, kB | | | | 60.0 (not reached) | | 48.0 |
`
	if got := f.table([]string{poll8, idlePSS}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestThePictureIsWellFormed(t *testing.T) {
	f := figures{}
	for _, row := range []string{poll8, pollFar, downFar} {
		f.tell("imapc")(row, 45)
		f.tell("native")(row, 46)
		f.tell("popgate")(row, 4000)
	}
	f.tell("popgate")(openFirst, 1) // no peer: no bar
	text := f.picture([]string{poll8, pollFar, downFar, openFirst})
	d := xml.NewDecoder(strings.NewReader(text))
	bars := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if want := 3*3 + 3; bars != want { // and the legend
		t.Errorf("%d bars, want %d", bars, want)
	}
	if strings.Contains(text, openFirst) {
		t.Error("a row without a peer is shown")
	}
}

func TestEveryAimIsARowOfAWork(t *testing.T) {
	var rows []string
	for _, w := range works() {
		rows = append(rows, w.rows...)
	}
	for row := range aims {
		if !slices.Contains(rows, row) {
			t.Errorf("%q is no row", row)
		}
	}
}
