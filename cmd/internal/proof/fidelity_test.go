package proof_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/proxy/pop3/pop3wire"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// fidelityAsk is one multi-line command and the text that it is to give.
type fidelityAsk struct {
	command string
	class   string
	text    string
	octets  int64 // told in the +OK; -1: none
}

// fidelityCount is what was seen.
type fidelityCount struct {
	messages, readings, differences int
	mismatchesWanted                int
	classes                         map[string]bool
}

// fidelityCheck plays asks in one session and lets every decoder read all that
// came, from the greeting to the reply to QUIT.
func fidelityCheck(t testing.TB, count *fidelityCount, s *pop3.Server, asks []fidelityAsk, list []fidelityMessage) {
	t.Helper()
	var commands strings.Builder
	commands.WriteString(fidelityLogin + "LIST\r\n")
	for _, a := range asks {
		commands.WriteString(a.command + "\r\n")
	}
	sent := fidelityPlay(t, s, commands.String()+"QUIT\r\n")
	var scan strings.Builder
	for i, m := range list {
		fmt.Fprintf(&scan, "%d %d\r\n", i+1, m.size)
	}
	for _, d := range fidelityDecoders {
		if err := fidelityDecode(count, d, sent, scan.String(), asks); err != nil {
			count.differences++
			t.Errorf("%s: %v", d.name, err)
			if count.differences > 10 {
				t.FailNow()
			}
		}
	}
}

func fidelityDecode(count *fidelityCount, d fidelityDecoder, sent []byte, scan string, asks []fidelityAsk) error {
	var in io.Reader = bytes.NewReader(sent)
	if len(sent) < 10_000 {
		in = iotest.OneByteReader(in)
	}
	r := bufio.NewReader(in)
	for _, what := range []string{"the greeting", "USER", "PASS", "LIST"} {
		if _, err := fidelityStatus(r); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if text, err := d.read(r); err != nil || text != d.want(scan) {
		return fmt.Errorf("LIST gave %.200q, %v, want %.200q", text, err, d.want(scan))
	}
	for _, a := range asks {
		status, err := fidelityStatus(r)
		if err != nil {
			return fmt.Errorf("%s (%s): %w", a.command, a.class, err)
		}
		if a.octets >= 0 && status != fmt.Sprintf("+OK %d octets", a.octets) {
			return fmt.Errorf("%s (%s): %q, want %d octets", a.command, a.class, status, a.octets)
		}
		text, err := d.read(r)
		if err != nil || text != d.want(a.text) {
			return fmt.Errorf("%s (%s) gave %.300q, %v, want %.300q", a.command, a.class, text, err, d.want(a.text))
		}
		count.readings++
	}
	if _, err := fidelityStatus(r); err != nil {
		return fmt.Errorf("QUIT: %w", err)
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		return fmt.Errorf("%.200q behind the reply to QUIT", rest)
	}
	return nil
}

// fidelityDeliver makes a server that holds the messages.
func fidelityDeliver(t testing.TB, p imaptest.Profile, list []fidelityMessage) *imaptest.Server {
	t.Helper()
	srv := imaptest.New(t, p)
	for _, m := range list {
		srv.INBOX().AppendBody(strings.NewReader(m.body), m.size)
	}
	return srv
}

// retrieve asks for message n as it is.
func (m fidelityMessage) retrieve(n int) fidelityAsk {
	return fidelityAsk{fmt.Sprintf("RETR %d", n), m.class, m.normalised(), int64(len(m.body))}
}

// TestFidelity sends messages of every class through the whole gateway and reads
// them with clients of every kind: the same octets for all, the next reply where
// it belongs, and no end before the end.
func TestFidelity(t *testing.T) {
	total := fidelityCount{classes: map[string]bool{}}
	t.Run("wire", func(t *testing.T) { fidelityWire(t, &total) })
	t.Run("splits", func(t *testing.T) { fidelitySplits(t, &total) })
	t.Run("tops", func(t *testing.T) { fidelityTops(t, &total) })
	mismatches := 0
	t.Run("batches", func(t *testing.T) { mismatches = fidelityBatches(t, &total) })
	var clients []string
	t.Run("clients", func(t *testing.T) { clients = fidelityClients(t, &total) })
	proof.Report(t, "M11", !t.Failed() && total.differences == 0 && len(fidelityDecoders)+len(clients) >= 7,
		"%d messages of %d classes, %d decoders in this process and %d real ones (%s), %d readings: %d differences; %d sizes that LIST could not know, each counted",
		total.messages, len(total.classes), len(fidelityDecoders), len(clients), strings.Join(clients, ", "), total.readings, total.differences, mismatches)
}

// fidelityWire holds every short text against the dot writer alone, cut in two
// at every place and octet by octet.
func fidelityWire(t *testing.T, total *fidelityCount) {
	var buffers pop3wire.Buffers
	list := append(fidelityTable(), fidelityExhaustive(proof.Pick(5, 6, 8))...)
	for _, m := range list {
		total.messages++
		total.classes[m.class] = true
		want := m.normalised()
		for split := range len(m.body) + 1 {
			var wire bytes.Buffer
			out := pop3wire.NewWriter(&wire, &buffers)
			w := pop3wire.NewDotWriter(out)
			io.WriteString(w, m.body[:split])
			if split == 0 {
				for i := range len(m.body) {
					io.WriteString(w, m.body[i:i+1])
				}
			} else {
				io.WriteString(w, m.body[split:])
			}
			w.Finish()
			out.Flush()
			if w.Octets() != int64(len(want)) {
				t.Fatalf("%q is told to be %d octets, want %d", m.body, w.Octets(), len(want))
			}
			wire.WriteString("+OK next\r\n")
			for _, d := range fidelityDecoders {
				r := bufio.NewReader(bytes.NewReader(wire.Bytes()))
				got, err := d.read(r)
				next, _ := fidelityStatus(r)
				if err != nil || got != d.want(want) || next != "+OK next" {
					total.differences++
					t.Fatalf("%s: %q cut at %d gave %q, %v, and then %q", d.name, m.body, split, got, err, next)
				}
				total.readings++
			}
		}
	}
}

// fidelitySplits lets the server's reply come in two pieces, cut at every octet,
// through the whole gateway.
func fidelitySplits(t *testing.T, total *fidelityCount) {
	list := fidelityTable()
	step := proof.Pick(7, 2, 1) // every so many octets
	srv := fidelityDeliver(t, imaptest.Full(), list)
	var mu sync.Mutex
	first := 0 // octets of the first piece
	next := func(n int) int {
		if n > 1 {
			return 1 << 20
		}
		mu.Lock()
		defer mu.Unlock()
		first += step
		return first
	}
	dial := srv.DialWith(func(_ int, c net.Conn) net.Conn { return &fidelitySplit{Conn: c, piece: next} })
	s := fidelityEngine(t, srv, pop3.Options{}, imap.Options{Dial: dial})
	for i, m := range list {
		var asks []fidelityAsk
		for range (len(m.body) + 80) / step { // the literal with what is around it
			asks = append(asks, m.retrieve(i+1))
		}
		mu.Lock()
		first = -6 * step // what login and listing take
		mu.Unlock()
		fidelityCheck(t, total, s, asks, list)
	}
}

// fidelityTops asks for the top of every short message at every count of lines.
func fidelityTops(t *testing.T, total *fidelityCount) {
	list := append(fidelityTable(), fidelityExhaustive(proof.Pick(3, 4, 6))...)
	srv := fidelityDeliver(t, imaptest.Courier(), list)
	s := fidelityEngine(t, srv, pop3.Options{}, imap.Options{})
	var asks []fidelityAsk
	for i, m := range list {
		for n := range m.lines() + 2 {
			asks = append(asks, fidelityAsk{fmt.Sprintf("TOP %d %d", i+1, n), m.class, m.top(n), -1})
		}
	}
	fidelityCheck(t, total, s, asks, list)
}

// fidelityBatches sends generated messages, a mailbox at a time, from servers of
// every profile and in pieces of every size.
func fidelityBatches(t *testing.T, total *fidelityCount) (mismatches int) {
	count, batch := proof.Pick(150, 1500, 50_000), 150
	profiles := imaptest.Profiles()
	for n := 0; n*batch < count; n++ {
		r := rand.New(rand.NewPCG(uint64(n), 11))
		list := make([]fidelityMessage, batch)
		asks := make([]fidelityAsk, 0, batch)
		wanted := 0
		for i := range list {
			list[i] = fidelityRandom(r)
			total.classes[list[i].class] = true
			asks = append(asks, list[i].retrieve(i+1))
			if int64(len(list[i].normalised())) != list[i].size {
				wanted++
			}
		}
		total.messages += batch
		t.Run(fmt.Sprint(n), func(t *testing.T) { // so that each server ends with its batch
			srv := fidelityDeliver(t, profiles[n%len(profiles)], list)
			pieces := rand.New(rand.NewPCG(uint64(n), 12))
			var mu sync.Mutex
			dial := srv.DialWith(func(_ int, c net.Conn) net.Conn {
				return &fidelitySplit{Conn: c, piece: func(int) int { mu.Lock(); defer mu.Unlock(); return 1 << pieces.IntN(15) }}
			})
			seen := 0
			engine := pop3.Options{Trace: pop3.Trace{SizeMismatch: func(_ string, _, _ int64) { seen++ }}}
			fidelityCheck(t, total, fidelityEngine(t, srv, engine, imap.Options{Dial: dial}), asks, list)
			if seen != wanted {
				t.Errorf("%d sizes were counted as different, want %d", seen, wanted)
			}
			mismatches += seen
		})
	}
	return mismatches
}
