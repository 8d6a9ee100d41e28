package proof_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// pipelineRun is a client that sends RETR 2, DELE 2 and QUIT in one write,
// while the connection to the server is cut inside RETR.
type pipelineRun struct {
	kind   matrixKind
	cuts   []*imaptest.Cut
	refuse bool // no new connection can be made
}

type pipelineOutcome struct {
	ok            bool
	whole         bool  // the client got the message and its terminator
	deleted       bool  // of the message
	before, after int64 // octets from the server before RETR, and behind it
	conns         []*imaptest.CutConn
}

// pipelineBody is larger than the piece that a failed resumption could hide in.
var pipelineBody = "Subject: pipelined\r\n\r\n" + strings.Repeat(".dots and lines\r\n", 60)

func (r pipelineRun) play(t *testing.T) (out pipelineOutcome) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		h := newHarness(t, harnessOptions{Profile: r.kind.profile, Policy: r.kind.policy,
			Upstream: func(n int, c net.Conn) net.Conn {
				var cut *imaptest.Cut
				if n <= len(r.cuts) {
					cut = r.cuts[n-1]
				}
				cc := imaptest.NewCutConn(c, cut)
				mu.Lock()
				defer mu.Unlock()
				out.conns = append(out.conns, cc)
				return cc
			}})
		h.imap.INBOX().Append("Subject: first\r\n\r\n1\r\n")
		h.imap.INBOX().Append(pipelineBody)
		h.imap.INBOX().Append("Subject: last\r\n\r\n3\r\n")
		ids := h.shown()
		c := h.connect(nil, nil)
		c.login(imaptest.DefaultUser, imaptest.DefaultPassword)
		c.do("UIDL") // so that the judge knows the names
		out.before = out.conns[0].Octets(imaptest.FromServer)
		if len(r.cuts) == 0 {
			c.do("RETR 2")
			out.after = out.conns[0].Octets(imaptest.FromServer)
		}
		if r.refuse {
			h.imap.Refuse(1 << 30)
		}
		c.send("RETR 2", "DELE 2", "QUIT")
		retr := c.reply()
		out.whole = retr.ok && retr.whole
		if retr.err == nil {
			c.reply()
			c.reply()
		}
		c.close()
		h.wait()
		left := h.shown()
		out.deleted = !slices.Contains(left, ids[1])
		problems := h.violations("", c)
		if out.deleted && (r.refuse || !out.whole) {
			problems = append(problems, "a message was deleted that the client did not get whole")
		}
		if !slices.Contains(left, ids[0]) || !slices.Contains(left, ids[2]) {
			problems = append(problems, fmt.Sprintf("%v are left of %v", left, ids))
		}
		for _, p := range problems {
			t.Errorf("%v: %s", matrixRun{kind: r.kind, cuts: r.cuts}, p)
		}
		out.ok = len(problems) == 0
	})
	return out
}

// TestPipelinedRetrieveDeleteQuit cuts the connection inside of RETR behind
// every octet: without a new connection to be had, with one, and with one that is
// cut too.
func TestPipelinedRetrieveDeleteQuit(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 26))
	var refused, once, twice []pipelineRun
	for _, k := range matrixKinds()[:4] {
		base := pipelineRun{kind: k}.play(t)
		if !base.whole || !base.deleted {
			t.Fatalf("%s: without a fault nothing was deleted", k.name)
		}
		anew := base.after // a new connection takes no more than the first
		for _, how := range matrixEndings {
			for after := base.before; after < base.after; after++ {
				first := &imaptest.Cut{Dir: imaptest.FromServer, After: after, How: how}
				refused = append(refused, pipelineRun{k, []*imaptest.Cut{first}, true})
				once = append(once, pipelineRun{k, []*imaptest.Cut{first}, false})
				for range 10 {
					second := &imaptest.Cut{Dir: imaptest.FromServer, After: random.Int64N(anew), How: matrixEndings[random.IntN(3)]}
					twice = append(twice, pipelineRun{k, []*imaptest.Cut{first, second}, false})
				}
			}
		}
	}
	for _, part := range []struct {
		name               string
		runs               []pipelineRun
		smoke, quick, full int
	}{
		{"the transfer cut, no new connection", refused, 80, 3000, len(refused)},
		{"the transfer cut", once, 80, 2000, len(once)},
		{"the transfer and the new connection cut", twice, 80, 4000, len(twice)},
	} {
		var deleted, kept atomic.Int64
		ran := matrixEach(t, part.runs, proof.Pick(part.smoke, part.quick, part.full), seed, func(t *testing.T, r pipelineRun) bool {
			out := r.play(t)
			if out.deleted {
				deleted.Add(1)
			} else {
				kept.Add(1)
			}
			return out.ok
		})
		proof.Report(t, "M26", true, "%s: %d of %d runs (seed %d): %d kept; %d resumed, sent whole, and deleted; 0 deletions of a message that was not sent whole",
			part.name, ran, len(part.runs), seed, kept.Load(), deleted.Load())
	}
}
