package proof_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// matrixStall is the longest time that a server that falls silent is waited for:
// pop3.Options.UpstreamTime.
const matrixStall = 2 * time.Minute

// matrixGrace is how much later a session has to end.
const matrixGrace = time.Minute

var matrixEndings = []imaptest.Ending{imaptest.FIN, imaptest.RST, imaptest.Stall}

// matrixBaseline is the session without a fault.
func matrixBaseline(t *testing.T, k matrixKind, clear bool) matrixOutcome {
	t.Helper()
	out := matrixRun{kind: k, clear: clear}.play(t)
	if !out.quit.ok || out.deleted != len(matrixMarks) || len(out.conns) != 1 {
		t.Fatalf("%s: the session without a fault: QUIT %q, %d deleted, %d connections", k.name, out.quit.line, out.deleted, len(out.conns))
	}
	return out
}

// TestUpstreamCutMatrix cuts the connection to the IMAP server behind every
// octet of the session.
func TestUpstreamCutMatrix(t *testing.T) {
	var runs []matrixRun
	var twice []matrixRun
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 2))
	for _, k := range matrixKinds() {
		base := matrixBaseline(t, k, false).conns[0]
		cuts := func(f func(imaptest.Cut)) {
			for dir := range 2 {
				for _, how := range matrixEndings {
					for after := range base.Octets(imaptest.Direction(dir)) + 1 {
						f(imaptest.Cut{Dir: imaptest.Direction(dir), After: after, How: how})
					}
				}
			}
		}
		cuts(func(c imaptest.Cut) {
			runs = append(runs, matrixRun{kind: k, cuts: []*imaptest.Cut{&c}})
			// The connection that is made anew is cut too, most often in what it
			// is made for.
			again := imaptest.Cut{Dir: imaptest.Direction(random.IntN(2)), How: matrixEndings[random.IntN(3)]}
			most := base.Octets(again.Dir)
			if random.IntN(4) > 0 {
				most /= 4
			}
			again.After = random.Int64N(most)
			twice = append(twice, matrixRun{kind: k, cuts: []*imaptest.Cut{&c, &again}})
		})
	}
	offsets := len(runs)
	runs = append(runs, twice...)
	var mu sync.Mutex
	var longest time.Duration
	var deleted, reached, second int
	start := time.Now()
	ran := matrixEach(t, runs, proof.Pick(200, 15_000, len(runs)), seed, func(t *testing.T, r matrixRun) bool {
		out := r.play(t)
		if out.took > matrixStall+matrixGrace {
			t.Errorf("%v: took %v", r, out.took)
		}
		mu.Lock()
		defer mu.Unlock()
		longest = max(longest, out.took)
		if out.deleted > 0 {
			deleted++
		}
		if len(out.conns) > 0 && out.conns[0].Reached() {
			reached++
		}
		if len(out.conns) > 1 && out.conns[1].Reached() {
			second++
		}
		return len(out.problems) == 0
	})
	proof.Report(t, "M1", longest <= time.Minute, "%d of %d runs (%d octets x endings, and %d with the new connection cut too; seed %d) in %v: 0 violations; "+
		"%d cuts reached, %d of new connections; %d sessions deleted; the longest took %v simulated, where a silent server is given %v",
		ran, len(runs), offsets, len(twice), seed, time.Since(start).Round(time.Second), reached, second, deleted, longest, matrixStall)
}

// TestClientCutMatrix cuts the client's stream behind every octet.
func TestClientCutMatrix(t *testing.T) {
	const seed = 1
	const tail = 60 // the octets around QUIT are always tried
	var runs, last []matrixRun
	for _, k := range matrixKinds()[:3] {
		for _, clear := range []bool{true, false} {
			base := matrixBaseline(t, k, clear)
			for dir := range imaptest.ToServer + 1 {
				octets := base.front.Octets(dir)
				for _, how := range matrixEndings {
					for after := range octets + 1 {
						r := matrixRun{kind: k, clear: clear, front: &imaptest.Cut{Dir: dir, After: after, How: how}}
						if after > octets-tail {
							last = append(last, r)
						} else {
							runs = append(runs, r)
						}
					}
				}
			}
		}
	}
	var mu sync.Mutex
	var whole, none int
	judge := func(t *testing.T, r matrixRun) bool {
		out := r.play(t)
		complete := out.sent >= 0 && out.front.Octets(imaptest.FromServer) >= out.sent
		want := 0
		if complete {
			want = len(matrixMarks)
		}
		if out.deleted != want {
			t.Errorf("%v: %d messages were deleted, want %d (%d octets with QUIT, %d arrived)", r, out.deleted, want, out.sent, out.front.Octets(imaptest.FromServer))
		}
		mu.Lock()
		defer mu.Unlock()
		if complete {
			whole++
		} else {
			none++
		}
		return len(out.problems) == 0 && out.deleted == want
	}
	all := len(runs) + len(last)
	ran := matrixEach(t, last, proof.Pick(120, len(last), len(last)), seed, judge)
	ran += matrixEach(t, runs, proof.Pick(60, 10_000, len(runs)), seed, judge)
	proof.Report(t, "M2", true, "%d of %d runs (seed %d): %d with a complete QUIT deleted what was marked, %d without one deleted nothing",
		ran, all, seed, whole, none)
}

// TestPipelinedStreamCut sends the whole session in one write that ends behind
// every octet, and reads what comes back.
func TestPipelinedStreamCut(t *testing.T) {
	stream := "USER " + imaptest.DefaultUser + "\r\nPASS " + imaptest.DefaultPassword + "\r\n"
	for _, line := range matrixSession {
		if line != "STLS" && line != "AUTH" {
			stream += line + "\r\n"
		}
	}
	type run struct {
		kind  matrixKind
		after int
	}
	var runs []run
	for _, k := range matrixKinds()[:3] {
		for after := range len(stream) + 1 {
			runs = append(runs, run{k, after})
		}
	}
	var deletions atomic.Int64
	ran := matrixEach(t, runs, proof.Pick(200, len(runs), len(runs)), 1, func(t *testing.T, r run) (ok bool) {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, harnessOptions{Profile: r.kind.profile, Policy: r.kind.policy})
			for _, m := range matrixMessages() {
				h.imap.INBOX().Append(m)
			}
			ids := h.shown()
			client, server := harnessPipe()
			h.served.Go(func() { h.engine.Serve(t.Context(), server, pop3.Via{}) })
			io.WriteString(client, stream[:r.after])
			client.(*harnessEnd).CloseWrite()
			io.Copy(io.Discard, client)
			client.Close()
			h.wait()
			want := slices.Clone(ids)
			if r.after == len(stream) {
				deletions.Add(1)
				for _, n := range slices.Backward(matrixMarks) {
					want = slices.Delete(want, n-1, n)
				}
			}
			var problems []string
			if got := h.shown(); !slices.Equal(got, want) {
				problems = append(problems, fmt.Sprintf("%v are left, want %v", got, want))
			}
			matrixNext(h, &problems)
			problems = append(problems, h.faults...)
			ok = len(problems) == 0
			for _, p := range problems {
				t.Errorf("%s, after %d octets of %d: %s", r.kind.name, r.after, len(stream), p)
			}
		})
		return ok
	})
	proof.Report(t, "M2", true, "in one write, half-closed behind every octet: %d runs, %d deleted, each with the whole of QUIT", ran, deletions.Load())
}
