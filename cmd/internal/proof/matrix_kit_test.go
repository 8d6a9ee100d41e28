package proof_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// matrixKind is one server and one way to delete.
type matrixKind struct {
	name    string
	profile imaptest.Profile
	policy  imap.Policy
	tls     bool // STARTTLS to the server as well; the client has STLS always
	reuse   bool // a session before has left its connection to the session
}

// matrixKinds begin with those of the goal, in clear text.
func matrixKinds() []matrixKind {
	return []matrixKind{
		{"move", imaptest.Full(), imap.Trash, false, false},
		{"uidplus", imaptest.Full(), imap.Expunge, false, false},
		{"without_uidplus", imaptest.WithoutUIDPLUS(), imap.Expunge, false, false},
		{"copy", imaptest.WithoutMOVE(), imap.Trash, false, false},
		{"hide", imaptest.Full(), imap.Hide, false, false},
		{"courier", imaptest.Courier(), imap.Trash, false, false},
		{"tls/move", imaptest.Full(), imap.Trash, true, false},
		{"tls/uidplus", imaptest.Full(), imap.Expunge, true, false},
		{"tls/without_uidplus", imaptest.WithoutUIDPLUS(), imap.Expunge, true, false},
		{"reuse/move", imaptest.Full(), imap.Trash, false, true},
		{"reuse/uidplus", imaptest.Full(), imap.Expunge, false, true},
		{"reuse/without_uidplus", imaptest.WithoutUIDPLUS(), imap.Expunge, false, true},
	}
}

// matrixMessages are the messages of the maildrop: of every shape, small enough
// that every octet can be tried.
func matrixMessages() []string {
	return []string{
		"From: a@example.org\r\nSubject: dots\r\n\r\n.\r\n..\r\n.x\r\nend\r\n",
		"From: b@example.org\r\nSubject: bare LF\n\nline\nline\n",
		"From: c@example.org\r\nSubject: no end of line\r\n\r\n" + strings.Repeat("0123456789\r\n", 60) + "end",
		"Subject: header alone\r\n",
		"Subject: 8 bit\r\n\r\n\xff\xfe\x00 caf\xc3\xa9\r\n",
		"Subject: like IMAP\r\n\r\n)\r\nA1 OK FETCH completed\r\n* BYE\r\n" + strings.Repeat("x", 100) + "\r\n",
		"Subject: not wanted\r\n\r\nnobody touches this one\r\n",
	}
}

// matrixMarks are the message numbers that the session leaves marked.
var matrixMarks = []int{2, 3, 5}

// matrixSession is the session of forty commands. STLS and AUTH are of the
// client's own making.
var matrixSession = []string{
	"CAPA", "STLS", "CAPA", "AUTH",
	"STAT", "LIST", "UIDL", "NOOP", "LIST 3", "UIDL 3",
	"RETR 1", "DELE 1", "RETR 2", "DELE 2", "TOP 3 2", "RETR 3", "DELE 3", "STAT", "LIST",
	"RETR 4", "DELE 4", "TOP 5 0", "RETR 5", "DELE 5", "RETR 1", "LIST 1", "DELE 99", "UIDL",
	"RSET", "STAT", "LIST", "RETR 6", "DELE 2", "NOOP", "DELE 3", "DELE 5", "UIDL", "UIDL 2", "STAT", "QUIT",
}

// matrixRun is one run of the session.
type matrixRun struct {
	kind  matrixKind
	cuts  []*imaptest.Cut // of the connections to the IMAP server, in order
	front *imaptest.Cut   // of the engine's end of the client's connection
	clear bool            // no STLS

	faults      []imaptest.Fault // of the first connection to the IMAP server
	again       []imaptest.Fault // of the second
	frontFaults []imaptest.Fault // of the engine's end of the client's connection
}

func (r matrixRun) String() string {
	text := r.kind.name
	for i, c := range r.cuts {
		if c != nil {
			text += fmt.Sprintf(", connection %d %s", i+1, matrixCutText(c))
		}
	}
	if r.front != nil {
		text += ", client " + matrixCutText(r.front)
	}
	for what, f := range map[string][]imaptest.Fault{"upstream": r.faults, "upstream again": r.again, "client": r.frontFaults} {
		if len(f) > 0 {
			text += fmt.Sprintf(", %s %+v", what, f)
		}
	}
	return text
}

func matrixCutText(c *imaptest.Cut) string {
	return fmt.Sprintf("%s after %d octets %s", [...]string{"FIN", "RST", "stall", "drip"}[c.How], c.After,
		[...]string{"read", "written"}[c.Dir])
}

// matrixOutcome is what came of a run.
type matrixOutcome struct {
	problems []string
	took     time.Duration       // of the session, on the fake clock
	conns    []*imaptest.CutConn // to the IMAP server, of the session
	front    *imaptest.CutConn   // the engine's end
	sent     int64               // octets the client had sent, QUIT included; -1: it sent none
	quit     popReply            // the reply to QUIT, if quitReplied
	deleted  int                 // of the marked messages
}

// play is the session in a bubble of its own, a second session behind it, and
// everything that can be judged.
func (r matrixRun) play(t *testing.T) (out matrixOutcome) {
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

func (r matrixRun) inBubble(t *testing.T) (out matrixOutcome) {
	var mu sync.Mutex
	var calm atomic.Bool
	out.sent = -1
	h := newHarness(t, harnessOptions{
		Profile: r.kind.profile, Policy: r.kind.policy, CA: matrixCA(), UpstreamTLS: r.kind.tls, Reuse: r.kind.reuse,
		Upstream: func(n int, c net.Conn) net.Conn {
			if calm.Load() {
				return c
			}
			var cut *imaptest.Cut
			if n <= len(r.cuts) {
				cut = r.cuts[n-1]
			}
			cc := imaptest.NewCutConn(c, cut, [][]imaptest.Fault{nil, r.faults, r.again, nil}[min(n, 3)]...)
			mu.Lock()
			defer mu.Unlock()
			out.conns = append(out.conns, cc)
			return cc
		},
	})
	for _, m := range matrixMessages() {
		h.imap.INBOX().Append(m)
	}
	h.imap.INBOX().Append("Subject: another client's\r\n\r\nabout to be expunged by another\r\n", `\Deleted`)
	ids := h.shown()

	var clients []*popClient
	if r.kind.reuse {
		clients = append(clients, matrixBefore(h))
	}
	start := time.Now()
	c := h.connect(func(conn net.Conn) net.Conn {
		out.front = imaptest.NewCutConn(conn, r.front, r.frontFaults...)
		return out.front
	}, func(conn net.Conn) net.Conn { return imaptest.NewCutConn(conn, nil) })
	listed := false
	for _, line := range matrixSession {
		var reply popReply
		switch {
		case c.lost != nil:
			reply = popReply{err: c.lost}
		case line == "STLS" && r.clear:
			continue
		case line == "STLS":
			reply = c.stls()
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
			if line == "UIDL" && reply.whole && !listed {
				listed = true
				if want := matrixListing(ids); string(reply.text) != want {
					out.problems = append(out.problems, fmt.Sprintf("UIDL: %q, want %q", reply.text, want))
				}
			}
		}
		if reply.err != nil {
			break
		}
	}
	out.took = time.Since(start)
	if r.front == nil || r.front.How != imaptest.Stall {
		c.close()
	}
	h.wait()
	out.took = max(out.took, time.Since(start))
	c.close()
	calm.Store(true)
	synctest.Wait()
	out.problems = append(out.problems, matrixOpen(h)...)
	out.problems = append(out.problems, r.conserved(h, ids, &out)...)
	next := matrixNext(h, &out.problems)
	out.problems = append(out.problems, h.violations("", append(clients, c, next)...)...)
	return out
}

// matrixOpen tells of connections to the IMAP server that are still open when
// none waits.
func matrixOpen(h *harness) (problems []string) {
	h.store.Close()
	synctest.Wait()
	open := 0
	for _, e := range h.imap.Journal().Entries() {
		switch e.Kind {
		case imaptest.Connected:
			open++
		case imaptest.Ended:
			open--
		}
	}
	if open > 0 {
		problems = append(problems, fmt.Sprintf("%d connections to the IMAP server are left open", open))
	}
	return problems
}

// conserved holds what there is now against what there was.
func (r matrixRun) conserved(h *harness, ids []string, out *matrixOutcome) (problems []string) {
	shown := h.shown()
	for i, id := range ids {
		there, marked := slices.Contains(shown, id), slices.Contains(matrixMarks, i+1)
		switch {
		case there:
		case !marked || out.sent < 0:
			problems = append(problems, fmt.Sprintf("message %d is missing", i+1))
		default:
			out.deleted++
		}
	}
	if r.kind.policy != imap.Trash {
		return problems
	}
	kept := map[string]bool{}
	for _, box := range []string{"INBOX", harnessTrash} {
		for _, m := range h.imap.Mailbox(imaptest.DefaultUser, box).Messages() {
			b := make([]byte, m.Body.Size())
			m.Body.ReadAt(b, 0)
			kept[string(b)] = true
		}
	}
	for i, m := range matrixMessages() {
		if !kept[m] {
			problems = append(problems, fmt.Sprintf("message %d is in no mailbox", i+1))
		}
	}
	return problems
}

// matrixBefore is a session before the session: it goes as it goes.
func matrixBefore(h *harness) *popClient {
	c := h.connect(nil, nil)
	if c.auth().ok {
		c.do("UIDL")
		c.do("RETR 1")
		c.do("QUIT")
	}
	c.close()
	h.wait()
	return c
}

// matrixNext is the session behind a session: it must find the maildrop free and
// show what is in it.
func matrixNext(h *harness, problems *[]string) *popClient {
	say := func(format string, a ...any) {
		*problems = append(*problems, "next session: "+fmt.Sprintf(format, a...))
	}
	ids := h.shown()
	c := h.connect(nil, nil)
	if r := c.auth(); !r.ok {
		say("login: %q %v", r.line, r.err)
	}
	if r := c.do("UIDL"); string(r.text) != matrixListing(ids) || !r.whole {
		say("UIDL: %q, want %q", r.text, matrixListing(ids))
	}
	if r := c.do("LIST"); !r.whole {
		say("LIST: %v", r.err)
	}
	if len(ids) > 0 {
		if r := c.do("RETR 1"); !r.whole {
			say("RETR: %v", r.err)
		}
	}
	if r := c.do("QUIT"); !r.ok {
		say("QUIT: %q %v", r.line, r.err)
	}
	c.close()
	h.wait()
	return c
}

// matrixListing is the unique-id listing of a session that shows ids.
func matrixListing(ids []string) (text string) {
	for i, id := range ids {
		text += fmt.Sprintf("%d %s\r\n", i+1, id)
	}
	return text
}

var matrixCA = sync.OnceValue(func() *imaptest.CA { return imaptest.NewCA(matrixTB{}) })

// matrixTB lets an authority outlive one test.
type matrixTB struct{ testing.TB }

func (matrixTB) Helper()                        {}
func (matrixTB) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// matrixEach runs all of a list, or a seeded sample of it, on all cores, and
// stops after some failures. It returns how many ran.
func matrixEach[T any](t *testing.T, list []T, most int, seed uint64, run func(t *testing.T, item T) (ok bool)) int {
	all := len(list)
	if most < all {
		r := rand.New(rand.NewPCG(seed, 1))
		r.Shuffle(all, func(i, j int) { list[i], list[j] = list[j], list[i] })
		list = list[:most]
	}
	t.Logf("%d of %d runs, seed %d", len(list), all, seed)
	const enough = 5 // failures
	var next, ran, failed atomic.Int64
	t.Run("workers", func(t *testing.T) {
		for w := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(w), func(t *testing.T) {
				t.Parallel()
				for failed.Load() < enough {
					i := int(next.Add(1)) - 1
					if i >= len(list) {
						return
					}
					if !run(t, list[i]) {
						failed.Add(1)
					}
					ran.Add(1)
				}
			})
		}
	})
	return int(ran.Load())
}
