package proof_test

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// tortureErrors are the ways in which a call fails.
func tortureErrors() []imaptest.Fault {
	reset := func(op string) error { return &net.OpError{Op: op, Net: "tcp", Err: syscall.ECONNRESET} }
	return []imaptest.Fault{
		{Err: io.EOF},
		{Err: reset("read")},
		{Err: os.ErrDeadlineExceeded},
		{Err: io.ErrShortWrite, Short: true},
	}
}

// tortureFaults are all faults of a connection that made so many calls as c.
func tortureFaults(c *imaptest.CutConn) (faults []imaptest.Fault) {
	for op := range imaptest.OpSetDeadline + 1 {
		for nth := range c.Calls(op) {
			for _, f := range tortureErrors() {
				f.Op, f.Nth = op, nth+1
				faults = append(faults, f)
			}
		}
	}
	return faults
}

// TestTorture fails every call on the connection to the IMAP server and on the
// client's connection once, in each way; and for a sample, a call on the new
// connection as well.
func TestTorture(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 3))
	var runs, twice []matrixRun
	for _, k := range matrixKinds() {
		base := matrixBaseline(t, k, false)
		for _, f := range tortureFaults(base.front) {
			runs = append(runs, matrixRun{kind: k, frontFaults: []imaptest.Fault{f}})
		}
		upstream := tortureFaults(base.conns[0])
		for _, f := range upstream {
			runs = append(runs, matrixRun{kind: k, faults: []imaptest.Fault{f}})
			if f.Op != imaptest.OpClose {
				for range 4 {
					again := upstream[random.IntN(len(upstream))]
					again.Nth = 1 + random.IntN(again.Nth)
					twice = append(twice, matrixRun{kind: k, faults: []imaptest.Fault{f}, again: []imaptest.Fault{again}})
				}
			}
		}
	}
	var mu sync.Mutex
	var longest time.Duration
	var deleted, anew int
	judge := func(t *testing.T, r matrixRun) bool {
		out := r.play(t)
		bound := matrixStall + matrixGrace
		if slices.ContainsFunc(r.frontFaults, func(f imaptest.Fault) bool { return f.Op == imaptest.OpSetDeadline }) {
			bound *= 2 // a deadline that was not set leaves the one before it: that of the login
		}
		if out.took > bound {
			t.Errorf("%v: took %v", r, out.took)
		}
		mu.Lock()
		defer mu.Unlock()
		longest = max(longest, out.took)
		if out.deleted > 0 {
			deleted++
		}
		if len(out.conns) > 1 {
			anew++
		}
		return len(out.problems) == 0
	}
	once := len(runs)
	ran := matrixEach(t, runs, proof.Pick(200, 8000, once), seed, judge)
	pairs := matrixEach(t, twice, proof.Pick(80, 2000, len(twice)), seed, judge)
	proof.Report(t, "M3", true, "%d of %d calls x errors, and %d of %d pairs with a call of the new connection (seed %d): 0 violations, 0 leaks; "+
		"%d sessions made a connection anew, %d deleted; the longest took %v simulated", ran, once, pairs, len(twice), seed, anew, deleted, longest)
}
