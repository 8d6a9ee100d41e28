package proof_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// The shape of a history: POP3 clients and others at work on many maildrops.
const (
	historyMaildrops = 50
	historyClients   = 16
	historyOthers    = 4
	historyRound     = 400 // sessions in one server's life
)

// TestHistory lets many sessions and other programs work on the same maildrops
// at the same time, while connections to the server break, and judges the
// history afterwards.
func TestHistory(t *testing.T) {
	const seed = 1
	sessions := proof.Pick(100, 1200, 10_000)
	var total historyTally
	for round := 0; total.sessions < int64(sessions); round++ {
		kind := matrixKinds()[round%6]
		synctest.Test(t, func(t *testing.T) { historyOf(t, kind, uint64(seed+round), &total) })
	}
	proof.Report(t, "M5", !t.Failed(), "%d sessions (seed %d), %d clients and %d others on %d maildrops, %d of %d upstream connections broken on the way: %d sessions ended in +OK to QUIT, %d in -ERR, the rest were cut; %d messages removed; 0 violations, never two sessions on one maildrop",
		total.sessions, seed, historyClients, historyOthers, historyMaildrops, total.broken.Load(), total.conns.Load(), total.quit.Load(), total.refused.Load(), total.removed.Load())
}

type historyTally struct {
	sessions                              int64
	conns, broken, quit, refused, removed atomic.Int64
}

// historyOf is one round, with a server of one kind.
func historyOf(t *testing.T, kind matrixKind, seed uint64, total *historyTally) {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 5))
	chance := func(n int) int { mu.Lock(); defer mu.Unlock(); return random.IntN(n) }

	guard := &lockWatch{open: map[string]int{}}
	opts := harnessOptions{
		Profile: kind.profile, Policy: kind.policy, Reuse: seed%2 == 1,
		Outermost: func(s upstream.Store) upstream.Store { guard.Store = s; return guard },
		Upstream: func(_ int, c net.Conn) net.Conn {
			total.conns.Add(1)
			if chance(10) < 4 {
				return c
			}
			total.broken.Add(1)
			cut := &imaptest.Cut{Dir: imaptest.Direction(chance(2)), After: int64(chance(4000)), How: []imaptest.Ending{imaptest.FIN, imaptest.RST, imaptest.Stall}[chance(3)]}
			if cut.Dir == imaptest.ToServer {
				cut.After /= 8
			}
			return imaptest.NewCutConn(c, cut)
		},
	}
	for i := range historyMaildrops {
		opts.Server = append(opts.Server, imaptest.User(crowdUser(i), "pw"))
	}
	h := newHarness(t, opts)
	for i := range historyMaildrops {
		box := h.imap.Mailbox(crowdUser(i), "INBOX")
		if kind.policy == imap.Trash {
			h.imap.Mailbox(crowdUser(i), harnessTrash, `\Trash`)
		}
		for n := range 6 {
			box.Append(fmt.Sprintf("Subject: %d of %d\r\n\r\n%s\r\n", n, i, strings.Repeat("text ", chance(60))))
		}
	}
	var visits [historyMaildrops][]*popClient
	var left atomic.Int64
	left.Store(historyRound)
	var clients, others sync.WaitGroup
	for range historyClients {
		clients.Go(func() {
			for left.Add(-1) >= 0 {
				user := chance(historyMaildrops)
				c := historyVisit(h, crowdUser(user), chance, total)
				mu.Lock()
				visits[user] = append(visits[user], c)
				mu.Unlock()
			}
		})
	}
	over := make(chan struct{})
	for range historyOthers {
		others.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(time.Duration(1+chance(500)) * time.Millisecond):
				}
				historyOther(h.imap.Mailbox(crowdUser(chance(historyMaildrops)), "INBOX"), chance)
			}
		})
	}
	clients.Wait()
	close(over)
	others.Wait()
	h.wait()
	for i, list := range visits {
		for _, v := range h.violations(crowdUser(i), list...) {
			t.Errorf("%s, seed %d, %s: %s", kind.name, seed, crowdUser(i), v)
		}
	}
	for _, v := range guard.violations {
		t.Errorf("%s, seed %d: %s", kind.name, seed, v)
	}
	for _, m := range h.imap.Journal().Mutations() {
		if m.Change == imaptest.Expunged {
			total.removed.Add(1)
		}
	}
	total.sessions += historyRound
}

// historyVisit is one session of a client that does this and that.
func historyVisit(h *harness, user string, chance func(int) int, total *historyTally) *popClient {
	c := h.connect(nil, nil)
	defer c.close()
	if r := c.login(user, "pw"); !r.ok {
		return c
	}
	for _, line := range []string{"UIDL", "LIST", "STAT"} {
		if r := c.do(line); r.err != nil {
			return c
		}
	}
	for range chance(8) {
		n := 1 + chance(8)
		lines := [][]string{
			{fmt.Sprintf("RETR %d", n)}, {fmt.Sprintf("DELE %d", n)}, {fmt.Sprintf("TOP %d 1", n)}, {"RSET"}, {"UIDL"}, {"NOOP"},
			{fmt.Sprintf("RETR %d", n), fmt.Sprintf("DELE %d", n)}, // in one write
		}[chance(7)]
		for _, r := range c.doAll(lines...) {
			if r.err != nil {
				return c
			}
		}
		time.Sleep(time.Duration(chance(100)) * time.Millisecond)
	}
	if chance(5) == 0 {
		return c // leaves without QUIT
	}
	switch r := c.do("QUIT"); {
	case r.ok:
		total.quit.Add(1)
	case r.err == nil:
		total.refused.Add(1)
	}
	return c
}

// historyOther is what another program does in a mailbox.
func historyOther(box *imaptest.Mailbox, chance func(int) int) {
	list := box.Messages()
	if len(list) < 4 || chance(3) == 0 {
		box.Append(fmt.Sprintf("Subject: new\r\n\r\n%s\r\n", strings.Repeat("news ", chance(60))))
		return
	}
	m := list[chance(len(list))]
	if chance(2) == 0 {
		box.Expunge(m.UID)
		return
	}
	box.SetFlags(m.UID, append(slices.Clone(m.Flags), `\Deleted`)...)
}

// lockWatch counts who holds a maildrop, from outside of the lock.
type lockWatch struct {
	upstream.Store
	mu         sync.Mutex
	open       map[string]int
	violations []string
}

func (w *lockWatch) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	a, err := w.Store.Login(ctx, c)
	if err != nil {
		return nil, err
	}
	return &watchedAccount{Account: a, watch: w}, nil
}

type watchedAccount struct {
	upstream.Account
	watch *lockWatch
	held  bool
}

func (a *watchedAccount) Open(ctx context.Context) (upstream.Maildrop, error) {
	m, err := a.Account.Open(ctx)
	if err == nil {
		a.held = true
		a.watch.count(a.Key(), 1)
	}
	return m, err
}

func (a *watchedAccount) Close() error {
	if a.held {
		a.held = false
		a.watch.count(a.Key(), -1)
	}
	return a.Account.Close()
}

func (w *lockWatch) count(key string, delta int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[key] += delta; w.open[key] > 1 {
		w.violations = append(w.violations, "two sessions hold "+key)
	}
}
