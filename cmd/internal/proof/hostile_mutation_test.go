package proof_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
)

// hostileWords are what mutations put in between.
var hostileWords = []string{"\r\n", "\n", "\r", "\x00", " ", "  ", "(", ")", "((((((((((((((((((", `"`, `\`, "{0}\r\n", "{1}\r\n", "{4294967295}\r\n", "{99999999999999999999}\r\n",
	"{5+}\r\n", "NIL", "*", "+ ", "* ", "0", "-1", "4294967296", "18446744073709551616", "BYE", "OK ", "NO ", "BAD ", "[", "]", "* BYE x\r\n", "* 0 EXISTS\r\n", "* 2 EXPUNGE\r\n",
	"* 1 FETCH (UID 1 FLAGS (\\Deleted))\r\n", "* SEARCH 1 2 3\r\n", "* OK [UIDVALIDITY 8] x\r\n", "T1 OK x\r\n", ".\r\n", "\xff\xfe", "\x16\x03\x01\x00\xff", "RETR 1", "QUIT\r\n", "USER x",
	"AUTH PLAIN ", "PASS ", "DELE 1", "TOP 1 99", "*\r\n", "STLS\r\n", "====", "AGEAYg=="}

// hostileMutate changes text in a few places.
func hostileMutate(r *rand.Rand, text string) string {
	b := []byte(text)
	for range 1 + r.IntN(4) {
		at := 0
		if len(b) > 0 {
			at = r.IntN(len(b))
		}
		end := min(len(b), at+1+r.IntN(1+r.IntN(40)))
		switch r.IntN(8) {
		case 0: // one bit
			if len(b) > 0 {
				b[at] ^= 1 << r.IntN(8)
			}
		case 1: // gone
			b = append(b[:at:at], b[end:]...)
		case 2: // twice
			b = append(b[:end:end], b[at:]...)
		case 3: // the end
			b = b[:at:at]
		case 4: // many times
			b = append(append(b[:end:end], bytes.Repeat(b[at:end], r.IntN(200))...), b[end:]...)
		case 5: // another octet
			if len(b) > 0 {
				b[at] = byte(r.UintN(256))
			}
		default: // a word
			b = append(append(b[:at:at], hostileWords[r.IntN(len(hostileWords))]...), b[at:]...)
		}
	}
	return string(b)
}

// hostileSeeds are sessions as mail programs have them.
var hostileSeeds = []string{
	"CAPA\r\nUSER alice\r\nPASS secret\r\nSTAT\r\nUIDL\r\nLIST\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n",
	"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nSTAT\r\nTOP 1 0\r\nTOP 2 20\r\nRETR 2\r\nRSET\r\nNOOP\r\nQUIT\r\n",
	"AUTH\r\nAUTH LOGIN\r\nYWxpY2U=\r\nc2VjcmV0\r\nLIST 1\r\nUIDL 2\r\nLAST\r\nDELE 3\r\nDELE 2\r\nQUIT\r\n",
	"AUTH PLAIN\r\nAGFsaWNlAHNlY3JldA==\r\nLIST\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nDELE 1\r\nDELE 2\r\nDELE 3\r\nQUIT\r\n",
	"STLS\r\nUSER alice\r\nPASS wrong\r\nUSER alice\r\nPASS secret\r\nUIDL\r\nQUIT\r\n",
	"APOP alice 00000000000000000000000000000000\r\nAUTH PLAIN *\r\nAUTH LOGIN\r\n*\r\nCAPA\r\nNOOP\r\nQUIT\r\n",
	"USER alice\r\nPASS secret\r\nXTND XMIT\r\nRPOP\r\nHELP\r\nRETR 99\r\nTOP 1 4294967296\r\nDELE 1\r\nRETR 1\r\nRSET\r\nQUIT\r\n",
}

// hostileBatch is what one bubble of testing/synctest does.
const hostileBatch = 50

// hostileLimit is far above every time that a session of these may take: idle
// for ten minutes is the longest wait there is.
const hostileLimit = 30 * time.Minute

// TestMutatedInput feeds mutated sessions of clients to a gateway whose server is
// in order, and mutated replies of a server to one whose client is.
func TestMutatedInput(t *testing.T) {
	t.Run("clients", func(t *testing.T) {
		hostileMeasure(t, "client inputs", func(t *testing.T, r *rand.Rand, panics *atomic.Int64) (sent int64) {
			srv := newHostileServer(nil)
			for moment, text := range srv.polite {
				srv.polite[moment] = strings.ReplaceAll(text, hostileText, "x")
			}
			engine := hostileEngine(t, hostileStore(t, srv, imap.Options{}), pop3.Options{Trace: hostileCounter(panics)})
			input := hostileMutate(r, hostileSeeds[r.IntN(len(hostileSeeds))])
			if len(input) > 0 && r.IntN(4) == 0 { // a client that stays, in pieces, and goes silent
				hostilePieces(engine, r, input)
			} else {
				got := fidelityPlay(t, engine, input)
				if err := hostileSane(string(got)); err != nil {
					t.Errorf("input %q: %v in %q", input, err, got)
				}
			}
			srv.conns.Wait()
			return int64(len(input))
		})
	})
	t.Run("servers", func(t *testing.T) {
		moments := []string{"GREETING", "AUTHENTICATE", "EXAMINE", "SIZES", "BODY1", "BODY2", "SELECT", "STORE", "EXPUNGE", "SEARCH"}
		hostileMeasure(t, "server responses", func(t *testing.T, r *rand.Rand, panics *atomic.Int64) (sent int64) {
			srv := newHostileServer(map[string]hostileSay{})
			for range 1 + r.IntN(2) {
				moment := moments[r.IntN(len(moments))]
				text, ok := srv.polite[moment]
				if !ok {
					text = srv.polite[""]
				}
				srv.say[moment] = hostileRaw(hostileMutate(r, text))
				switch r.IntN(3) {
				case 0:
					srv.say[moment] = hostileSeq(srv.say[moment], hostileBye)
				case 1:
					srv.say[moment] = hostileSeq(srv.say[moment], hostileStall)
				}
			}
			engine := hostileEngine(t, hostileStore(t, srv, imap.Options{}), pop3.Options{Trace: hostileCounter(panics)})
			got := fidelityPlay(t, engine, strings.Join(hostileCommands, "\r\n")+"\r\n")
			srv.conns.Wait()
			hostileReplies(t, string(got), hostileCommands)
			return srv.sent.Load()
		})
	})
}

// hostileMeasure runs one thing many times, in bubbles, and reports.
func hostileMeasure(t *testing.T, what string, one func(*testing.T, *rand.Rand, *atomic.Int64) int64) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(192 << 20))
	want := proof.Pick(250, 2_000, 100_000)
	var panics atomic.Int64
	var octets int64
	hangs, runs := 0, 0
	stop, cpu := hostileMemory(), hostileCPU()
	for seed := uint64(1); runs < want && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			for range hostileBatch {
				start := time.Now()
				octets += one(t, r, &panics)
				if took := time.Since(start); took > hostileLimit {
					hangs++
					t.Errorf("a session took %v", took)
				}
				runs++
			}
			if t.Failed() || panics.Load() > 0 {
				t.Errorf("seed %d, %d panics", seed, panics.Load())
			}
		})
	}
	used, held := hostileCPU()-cpu, stop()
	if held > 256<<20 {
		t.Errorf("the process grew by %d MiB", held>>20)
	}
	proof.Report(t, "M7", held <= 256<<20, "%d mutated %s, %d octets: %d panics, %d hangs, at most %.1f MiB more memory in all, %v of CPU for a session with both of its peers (%.2f µs an octet)",
		runs, what, octets, panics.Load(), hangs, float64(held)/(1<<20), (used / time.Duration(runs)).Round(time.Microsecond), float64(used.Microseconds())/float64(max(octets, 1)))
}

// hostilePieces is a client that sends input in pieces and then nothing more.
func hostilePieces(engine *pop3.Server, r *rand.Rand, input string) {
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); engine.Serve(context.Background(), server, pop3.Via{Listener: "proof"}) }()
	go io.Copy(io.Discard, client)
	for len(input) > 0 {
		n := 1 + r.IntN(len(input))
		if _, err := io.WriteString(client, input[:n]); err != nil {
			break
		}
		input = input[n:]
		time.Sleep(time.Duration(r.IntN(30)) * time.Second)
	}
	<-done
	client.Close()
}

// hostileSane checks what holds of any output: lines of printable ASCII ended by
// CRLF, no longer than RFC 2449 allows.
func hostileSane(got string) error {
	for line := range strings.SplitAfterSeq(got, "\n") {
		if line == "" {
			continue
		}
		text, whole := strings.CutSuffix(line, "\r\n")
		if !whole || len(line) > 512 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fmt.Errorf("a line %.100q", line)
		}
	}
	return nil
}
