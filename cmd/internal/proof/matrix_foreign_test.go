package proof_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// foreignRun is a row of sessions on one server without UIDPLUS, beside another
// client that flags messages as \Deleted, takes that back, and delivers, whenever
// the server is told something.
type foreignRun struct {
	seed    uint64
	profile imaptest.Profile
	policy  imap.Policy
}

const foreignSessions = 10 // of a run

// play reports whether all is well, and how many messages the other client and
// the sessions flagged.
func (f foreignRun) play(t *testing.T) (ok bool, foreign, own int) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(f.seed, 25))
		h := newHarness(t, harnessOptions{Profile: f.profile, Policy: f.policy, Reuse: f.seed%2 == 1})
		box := h.imap.INBOX()
		for i := range 12 {
			box.Append(modelBody(i))
		}
		var marked sync.Map // unique-ids
		other := rand.New(rand.NewPCG(f.seed, 26))
		var mu sync.Mutex // the session that is going and the one that comes are served at the same time
		h.imap.Before("", 0, imaptest.Do(func(imaptest.Command) {
			mu.Lock()
			defer mu.Unlock()
			list := box.Messages()
			one := list[other.IntN(len(list))]
			switch other.IntN(6) {
			case 0, 1:
				if !one.Has(`\Deleted`) {
					foreign++
				}
				box.SetFlags(one.UID, append(one.Flags, `\Deleted`)...)
			case 2: // not where a session wants it gone: it would be back by this client's will
				if _, wanted := marked.Load(fmt.Sprintf("%d.%d", box.UIDValidity(), one.UID)); !wanted {
					box.SetFlags(one.UID)
				}
			case 3:
				box.Append(modelBody(other.IntN(100)))
			}
		}))
		var clients []*popClient
		for range foreignSessions {
			c := h.connect(nil, nil)
			clients = append(clients, c)
			c.login(imaptest.DefaultUser, imaptest.DefaultPassword)
			shown := strings.Fields(string(c.do("UIDL").text)) // numbers and unique-ids in turn
			for n := 1; n <= len(shown)/2; n++ {
				if r.IntN(3) == 0 {
					c.do(fmt.Sprint("RETR ", n))
				}
				if r.IntN(3) == 0 {
					marked.Store(shown[2*n-1], true)
					c.do(fmt.Sprint("DELE ", n))
				}
			}
			if r.IntN(5) == 0 {
				h.imap.Disconnect(imaptest.FIN)
			}
			if r.IntN(5) > 0 {
				c.do("QUIT")
			}
			c.close()
			h.wait()
		}
		problems := h.violations("", clients...)
		there := box.UIDs()
		for _, e := range h.imap.Journal().Entries() {
			m := e.Mutation
			switch {
			case e.Kind != imaptest.Mutated || m.Mailbox != "INBOX":
			case m.Change == imaptest.Appended && !slices.Contains(there, m.UID):
				problems = append(problems, fmt.Sprintf("message %d is gone", m.UID))
			case e.Conn != 0 && len(m.Removed) > 0:
				problems = append(problems, fmt.Sprintf("a session took a flag away: %v", m))
			case e.Conn != 0 && m.Change == imaptest.Flagged:
				own++
			}
		}
		for _, p := range problems {
			t.Errorf("%s, policy %d, seed %d: %s", f.profile.Name, f.policy, f.seed, p)
		}
		ok = len(problems) == 0
	})
	return ok, foreign, own
}

// TestForeignDeleted lets another client flag messages as \Deleted at random,
// on servers where only EXPUNGE of all of them could remove one.
func TestForeignDeleted(t *testing.T) {
	var runs []foreignRun
	for n := range proof.Pick(200, 2000, 10_000) / foreignSessions {
		runs = append(runs, foreignRun{uint64(n), []imaptest.Profile{imaptest.WithoutUIDPLUS(), imaptest.Minimal()}[n%2],
			[]imap.Policy{imap.Expunge, imap.Trash}[n/2%2]})
	}
	var foreign, own atomic.Int64
	ran := matrixEach(t, runs, len(runs), 0, func(t *testing.T, r foreignRun) bool {
		ok, theirs, ours := r.play(t)
		foreign.Add(int64(theirs))
		own.Add(int64(ours))
		return ok
	})
	proof.Report(t, "M25", true, "%d sessions without UIDPLUS: another client flagged \\Deleted %d times and the sessions %d times: 0 messages lost, 0 of its flags taken away",
		ran*foreignSessions, foreign.Load(), own.Load())
}
