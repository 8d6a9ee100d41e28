package proof_test

import (
	"context"
	"fmt"
	"maps"
	"math"
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
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
	"github.com/popgate/popgate/upstream/readahead"
	"github.com/popgate/popgate/upstream/wrap"
)

// jmapKind is one JMAP server and one way to delete.
type jmapKind struct {
	name   string
	server jmaptest.Options
	policy jmap.Policy
	ahead  bool // messages are fetched ahead, and lists kept
}

func jmapKinds() []jmapKind {
	return []jmapKind{
		{"jmap/expunge", jmaptest.Options{MaxSet: 2}, jmap.Expunge, false},
		{"jmap/trash", jmaptest.Options{NoJump: true}, jmap.Trash, false},
		{"jmap/hide", jmaptest.Options{MaxGet: 3}, jmap.Hide, false},
		{"jmap/without_lengths", jmaptest.Options{Chunked: true, NoJump: true}, jmap.Expunge, false},
		{"jmap/ranges", jmaptest.Options{Ranges: true}, jmap.Expunge, false},
		{"jmap/ahead", jmaptest.Options{Ranges: true, NoJump: true}, jmap.Expunge, true},
	}
}

// jmapAlso is the message, by index, that is in another mailbox too.
const jmapAlso = 4

// jmapRun is one run of the session over JMAP.
type jmapRun struct {
	kind jmapKind
	cuts []*imaptest.Cut // of the connections to the server, in order
}

func (r jmapRun) String() string {
	text := r.kind.name
	for i, c := range r.cuts {
		text += fmt.Sprintf(", connection %d %s", i+1, matrixCutText(c))
	}
	return text
}

// play is the session in a bubble of its own, a second session behind it, and
// everything that can be judged.
func (r jmapRun) play(t *testing.T) (out matrixOutcome) {
	defer func() {
		if p := recover(); p != nil {
			panic(fmt.Sprintf("%v: %v", r, p)) // a goroutine that stayed
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		out = r.inBubble(t)
		for _, p := range out.problems {
			t.Errorf("%v: %s", r, p)
		}
	})
	return out
}

func (r jmapRun) inBubble(t *testing.T) (out matrixOutcome) {
	var mu sync.Mutex
	var calm atomic.Bool
	out.sent = -1
	s := jmaptest.New(t, r.kind.server)
	o := jmap.Options{URL: s.URL, Delete: r.kind.policy, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := s.Dial(ctx, network, address)
		if err != nil || calm.Load() {
			return conn, err
		}
		mu.Lock()
		defer mu.Unlock()
		var cut *imaptest.Cut
		if n := len(out.conns); n < len(r.cuts) {
			cut = r.cuts[n]
		}
		cc := imaptest.NewCutConn(conn, cut)
		out.conns = append(out.conns, cc)
		return cc, nil
	}}
	if r.kind.ahead {
		o.ReadAhead, o.Cache = readahead.NewPool(1<<20, 1<<20), jmap.NewCache(1<<20)
	}
	store, err := jmap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, harnessOptions{Profile: imaptest.Full(), Engine: pop3.Options{}, Outermost: func(upstream.Store) upstream.Store {
		return wrap.Lock(wrap.Contract(store), wrap.LockOptions{})
	}})
	var ids []string
	for _, m := range matrixMessages() {
		ids = append(ids, s.Deliver([]byte(m)))
	}
	s.Put(ids[jmapAlso], jmaptest.Archive, true)
	say := func(format string, a ...any) { out.problems = append(out.problems, fmt.Sprintf(format, a...)) }

	start := time.Now()
	c := h.connect(nil, func(conn net.Conn) net.Conn { return imaptest.NewCutConn(conn, nil) })
	for _, line := range matrixSession {
		var reply popReply
		switch {
		case c.lost != nil:
			reply = popReply{err: c.lost}
		case line == "STLS":
			continue
		case line == "AUTH":
			if reply = c.auth(); reply.err == nil && !reply.ok {
				c.do("QUIT")
				c.lost = net.ErrClosed
			}
		case line == "QUIT":
			c.send(line)
			if out.sent = c.raw.(*imaptest.CutConn).Octets(imaptest.ToServer); c.lost != nil {
				out.sent = math.MaxInt64 // the last of it was never on its way
			}
			reply = c.reply()
			out.quit = reply
		default:
			reply = c.do(line)
			jmapJudge(line, reply, ids, say)
		}
		if reply.err != nil {
			break
		}
	}
	c.close()
	h.wait()
	out.took = time.Since(start)
	calm.Store(true)
	for _, c := range out.conns {
		if !c.Reached() { // it may be kept, and would bring its cut into the next session
			c.Close()
		}
	}
	synctest.Wait()

	shown := r.shown(s)
	for i, id := range ids {
		there, marked := shown[id], slices.Contains(matrixMarks, i+1)
		switch {
		case there:
			if marked && out.quit.ok {
				say("QUIT said +OK, and message %d is there", i+1)
			}
		case !marked || out.sent < 0:
			say("message %d is missing", i+1)
		default:
			out.deleted++
		}
	}
	r.conserved(s, ids, say)
	r.next(h, s, ids, say)
	out.problems = append(out.problems, h.faults...)
	return out
}

// shown are the messages that a new session has to show.
func (r jmapRun) shown(s *jmaptest.Server) map[string]bool {
	shown := map[string]bool{}
	for _, e := range s.Emails(jmaptest.Inbox) {
		if !e.Keywords[jmap.HiddenKeyword] {
			shown[e.ID] = true
		}
	}
	return shown
}

// conserved says that nothing left the account but what the policy destroys.
func (r jmapRun) conserved(s *jmaptest.Server, ids []string, say func(string, ...any)) {
	left := map[string]bool{}
	for _, e := range s.Emails("") {
		left[e.ID] = true
	}
	for i, id := range ids {
		destroyable := r.kind.policy == jmap.Expunge && slices.Contains(matrixMarks, i+1) && i != jmapAlso
		if !left[id] && !destroyable {
			say("message %d is in no mailbox", i+1)
		}
	}
}

// jmapJudge holds one reply against what is in the maildrop.
func jmapJudge(line string, reply popReply, ids []string, say func(string, ...any)) {
	if !reply.ok || !reply.whole {
		return
	}
	messages := matrixMessages()
	var n, lines int
	switch {
	case line == "UIDL":
		// Within the session marked messages are left out.
		all := map[string]bool{}
		for i, id := range ids {
			all[fmt.Sprintf("%d %s", i+1, id)] = true
		}
		for got := range strings.Lines(string(reply.text)) {
			if !all[strings.TrimSpace(got)] {
				say("UIDL has the line %q", got)
			}
		}
	case line == "STAT" && !strings.HasPrefix(reply.line, "+OK "):
		say("STAT: %q", reply.line)
	case strings.HasPrefix(line, "RETR"):
		fmt.Sscanf(line, "RETR %d", &n)
		if want := jmapForm(messages[n-1]); string(reply.text) != want {
			say("%s ended in a terminator with %d octets, not the %d that it has", line, len(reply.text), len(want))
		}
	case strings.HasPrefix(line, "TOP"):
		fmt.Sscanf(line, "TOP %d %d", &n, &lines)
		head, rest, _ := strings.Cut(jmapForm(messages[n-1]), "\r\n\r\n")
		want := head + "\r\n\r\n"
		for l := range strings.Lines(rest) {
			if lines--; lines < 0 {
				break
			}
			want += l
		}
		if string(reply.text) != want {
			say("%s: %q, want %q", line, reply.text, want)
		}
	}
}

// jmapForm is a message as POP3 sends it: CRLF for every bare LF, and one at the
// end.
func jmapForm(m string) string {
	m = strings.ReplaceAll(strings.ReplaceAll(m, "\r\n", "\n"), "\n", "\r\n")
	if !strings.HasSuffix(m, "\r\n") {
		m += "\r\n"
	}
	return m
}

// next is the session behind a session: it must find the maildrop free and show
// what is in it.
func (r jmapRun) next(h *harness, s *jmaptest.Server, ids []string, say func(string, ...any)) {
	shown := r.shown(s)
	want := matrixListing(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !shown[id] }))
	c := h.connect(nil, nil)
	if reply := c.auth(); !reply.ok {
		say("next session: login: %q %v", reply.line, reply.err)
	}
	if reply := c.do("UIDL"); string(reply.text) != want || !reply.whole {
		say("next session: UIDL: %q, want %q", reply.text, want)
	}
	if reply := c.do("RETR 1"); !reply.whole || !reply.ok {
		say("next session: RETR: %q %v", reply.line, reply.err)
	}
	if reply := c.do("QUIT"); !reply.ok {
		say("next session: QUIT: %q %v", reply.line, reply.err)
	}
	c.close()
	h.wait()
}

// TestJMAPCutMatrix cuts the connections to the JMAP server behind every octet of
// the session, and those that are made anew too.
func TestJMAPCutMatrix(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 3))
	var runs []jmapRun
	for _, k := range jmapKinds() {
		out := jmapRun{kind: k}.play(t)
		if !out.quit.ok || out.deleted != len(matrixMarks) || len(out.conns) != 1 && !k.ahead {
			t.Fatalf("%s: the session without a fault: QUIT %q, %d deleted, %d connections", k.name, out.quit.line, out.deleted, len(out.conns))
		}
		for dir := range 2 {
			most := out.conns[0].Octets(imaptest.Direction(dir))
			for _, how := range matrixEndings {
				for after := range most + 1 {
					cut := &imaptest.Cut{Dir: imaptest.Direction(dir), After: after, How: how}
					again := &imaptest.Cut{Dir: imaptest.Direction(random.IntN(2)), How: matrixEndings[random.IntN(3)]}
					again.After = random.Int64N(2000)
					runs = append(runs, jmapRun{k, []*imaptest.Cut{cut}}, jmapRun{k, []*imaptest.Cut{cut, again}})
				}
			}
		}
	}
	var mu sync.Mutex
	var longest time.Duration
	var deleted, reached, second int
	violations := map[string]int{}
	start := time.Now()
	ran := matrixEach(t, runs, proof.Pick(200, 10_000, len(runs)), seed, func(t *testing.T, r jmapRun) bool {
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
		for _, p := range out.problems {
			violations[p]++
		}
		return len(out.problems) == 0
	})
	for _, p := range slices.Sorted(maps.Keys(violations)) {
		t.Logf("%d times: %s", violations[p], p)
	}
	proof.Report(t, "M1", longest <= time.Minute, "over JMAP: %d of %d runs (every octet x endings, half of them with the new connection cut too; seed %d) in %v: 0 violations; "+
		"%d cuts reached, %d of new connections; %d sessions deleted; the longest took %v simulated, where a silent server is given %v",
		ran, len(runs), seed, time.Since(start).Round(time.Second), reached, second, deleted, longest, matrixStall)
}
