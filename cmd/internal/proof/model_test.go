package proof_test

import (
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

const modelPassword = imaptest.DefaultPassword

// modelAction is one step of a program: commands in one write, or something that
// happens.
type modelAction struct {
	Commands []string
	Event    string
	N, K     int // which message, how many octets, how long
}

// modelCommands are commands, "#" in the place of a message number. Those that
// make a session longer come oftener.
func modelCommands() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		line := rapid.SampledFrom([]string{
			"STAT", "LIST", "LIST #", "UIDL", "UIDL #", "RETR #", "RETR #", "RETR #", "TOP # 0", "TOP # 2", "TOP # 99999",
			"DELE #", "DELE #", "DELE #", "DELE #", "RSET", "NOOP", "CAPA", "LAST", "QUIT",
			"USER " + imaptest.DefaultUser, "PASS " + modelPassword, "PASS wrong", "AUTH PLAIN " + harnessPlain, "STLS",
			"XYZZY", "", "RETR", "RETR x", "RETR 0", "DELE # #", "TOP #", "TOP # -1", "STAT 1", "QUIT now", "LIST -1", "DELE 99999",
		}).Draw(t, "command")
		return strings.ReplaceAll(line, "#", fmt.Sprint(rapid.IntRange(1, 7).Draw(t, "n")))
	})
}

func modelActions() *rapid.Generator[modelAction] {
	login := []string{"USER " + imaptest.DefaultUser, "PASS " + modelPassword}
	return rapid.Custom(func(t *rapid.T) modelAction {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1:
			return modelAction{Commands: login}
		case 2, 3, 4, 5, 6:
			return modelAction{Commands: rapid.SliceOfN(modelCommands(), 1, 6).Draw(t, "batch")}
		case 7:
			n := fmt.Sprint(rapid.IntRange(1, 5).Draw(t, "n"))
			return modelAction{Commands: []string{"RETR " + n, "DELE " + n, "QUIT"}}
		}
		return modelAction{
			Event: rapid.SampledFrom([]string{"append", "append", "append", "expunge", "expunge", "flag", "unflag", "recreate",
				"wait", "wait", "leave", "disconnect", "disconnect", "refuse", "cut", "literal", "no", "bye", "lie", "heal", "heal", "heal"}).Draw(t, "event"),
			N: rapid.IntRange(0, 7).Draw(t, "n"), K: rapid.IntRange(0, 1<<14).Draw(t, "k"),
		}
	})
}

// The limits of a session, those of pop3.Options.
const (
	modelLoginTime = 2 * time.Minute
	modelIdleTime  = 10 * time.Minute
)

// modelWaits are such that no sum of them is the limit of a session.
var modelWaits = []time.Duration{61 * time.Second, 271 * time.Second, 543 * time.Second, 601 * time.Second}

// modelRun drives one program.
type modelRun struct {
	h       *harness
	m       model
	c       *popClient // nil: none is connected
	began   time.Time  // of the connection
	last    time.Time  // the last command
	clients []*popClient

	faulty, healed bool // the mail service may fail; it will not from the next session on

	mu  sync.Mutex
	cut *imaptest.Cut // of the next connections

	actions, sessions, removed int
	problems                   []string
}

// TestModel lets random programs follow the model.
func TestModel(t *testing.T) {
	programs := proof.Pick(150, 5000, 40_000)
	const seed = "1"
	for name, value := range map[string]string{"rapid.checks": fmt.Sprint(programs), "rapid.seed": seed, "rapid.nofailfile": "true"} {
		old := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		defer flag.Set(name, old)
	}
	var actions, sessions, removed atomic.Int64
	kinds := matrixKinds()[:6]
	rapid.Check(t, func(rt *rapid.T) {
		kind := kinds[rapid.IntRange(0, len(kinds)-1).Draw(rt, "kind")]
		program := rapid.SliceOfN(modelActions(), 8, 60).Draw(rt, "program")
		kind.reuse = rapid.Bool().Draw(rt, "reuse")
		var r modelRun
		synctest.Test(t, func(t *testing.T) { r.play(t, kind, program) })
		actions.Add(int64(r.actions))
		sessions.Add(int64(r.sessions))
		removed.Add(int64(r.removed))
		if len(r.problems) > 0 {
			rt.Fatalf("%s", strings.Join(r.problems, "\n"))
		}
	})
	proof.Report(t, "M6", true, "%d actions in %d programs with %d sessions that removed %d messages, 6 kinds of server and policy (seed %s): 0 differences from the model, 0 violations",
		actions.Load(), programs, sessions.Load(), removed.Load(), seed)
}

func (r *modelRun) play(t *testing.T, kind matrixKind, program []modelAction) {
	r.h = newHarness(t, harnessOptions{Profile: kind.profile, Policy: kind.policy, Reuse: kind.reuse,
		Upstream: func(_ int, c net.Conn) net.Conn {
			r.mu.Lock()
			defer r.mu.Unlock()
			return imaptest.NewCutConn(c, r.cut)
		}})
	for i := range 3 {
		r.h.imap.INBOX().Append(modelBody(i))
	}
	for i, a := range program {
		before := len(r.problems)
		if a.Event != "" {
			r.actions++
			r.event(a)
		} else {
			r.actions += len(a.Commands)
			r.batch(a.Commands)
		}
		if len(r.problems) > before {
			r.problems[before] = fmt.Sprintf("action %d, %+v: %s", i, a, r.problems[before])
			break
		}
	}
	r.leave()
	r.h.wait()
	synctest.Wait()
	r.problems = append(r.problems, matrixOpen(r.h)...)
	r.problems = append(r.problems, r.h.violations("", r.clients...)...)
	if len(r.problems) > 0 {
		r.problems = append(r.problems, r.h.imap.Journal().String())
	}
}

func modelBody(k int) string {
	return fmt.Sprintf("Subject: %d\r\n\r\n", k) + strings.Repeat(".line\r\n", k%9) + strings.Repeat("x\r\n", k%4)
}

func (r *modelRun) say(format string, a ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, a...))
}

// event lets something happen beside the session.
func (r *modelRun) event(a modelAction) {
	box := r.h.imap.INBOX()
	list := box.Messages()
	var one imaptest.Message
	if len(list) > 0 {
		one = list[a.N%len(list)]
	}
	fault := func(act imaptest.Action, verbs ...string) {
		r.faulty, r.healed = true, false
		verbs = append(verbs, "UID FETCH", "UID STORE", "UID EXPUNGE", "UID MOVE", "UID COPY", "SELECT", "EXAMINE")
		r.h.imap.Before(verbs[a.N%len(verbs)], 0, act)
	}
	switch a.Event {
	case "append":
		box.Append(modelBody(a.K))
	case "expunge":
		box.Expunge(one.UID)
	case "flag":
		box.SetFlags(one.UID, append(one.Flags, `\Deleted`)...)
	case "unflag":
		box.SetFlags(one.UID)
	case "recreate":
		box.Recreate()
		for i := range 1 + a.K%10 { // at times so many that only the UIDVALIDITY tells
			box.Append(modelBody(a.K + i))
		}
	case "wait":
		time.Sleep(modelWaits[a.N%len(modelWaits)])
		r.timeout()
	case "leave":
		r.leave()
	case "disconnect":
		r.h.imap.Disconnect(imaptest.FIN)
	case "refuse":
		r.faulty, r.healed = true, false
		r.h.imap.Refuse(a.N)
	case "cut":
		r.faulty, r.healed = true, false
		r.mu.Lock()
		r.cut = &imaptest.Cut{Dir: imaptest.Direction(a.N % 2), After: int64(a.K) % 2500, How: matrixEndings[a.N%3]}
		r.mu.Unlock()
	case "literal":
		r.faulty, r.healed = true, false
		r.h.imap.Before("UID FETCH", 0, imaptest.CutLiteral(int64(a.K)%80, matrixEndings[a.N%3]))
	case "no":
		fault(imaptest.NO("not now"), "UID SEARCH")
	case "bye":
		fault(imaptest.BYE("not now"), "UID SEARCH")
	case "lie":
		fault(imaptest.OK("nothing was done")) // of a SEARCH it would show again what is hidden
	case "heal":
		r.h.imap.Forget()
		r.h.imap.Refuse(0)
		r.mu.Lock()
		r.cut = nil
		r.mu.Unlock()
		r.healed = true
		if r.c == nil {
			r.faulty = false
		}
	}
}

// timeout sees whether the session ended for want of a command.
func (r *modelRun) timeout() {
	if r.c == nil {
		return
	}
	limit := modelLoginTime - time.Since(r.began)
	if r.m.state == "transaction" {
		limit = modelIdleTime - time.Since(r.last)
	}
	synctest.Wait()
	if limit < 0 {
		r.over("a timeout")
	}
}

// over ends a session of which the server has taken leave, and says so if it has
// not, or with more words than it should.
func (r *modelRun) over(why string) {
	r.c.raw.SetReadDeadline(time.Now().Add(time.Second))
	if rest, err := io.ReadAll(r.c.in); err != nil || len(rest) > 0 {
		r.say("after %s: %.100q, %v", why, rest, err)
	}
	r.leave()
}

// leave ends the client's connection.
func (r *modelRun) leave() {
	if r.c != nil {
		r.c.close()
		r.h.wait()
		r.c = nil
	}
	r.faulty = r.faulty && !r.healed
}

// batch sends commands in one write and holds the replies against the model.
func (r *modelRun) batch(lines []string) {
	if r.c == nil {
		r.c = r.h.connect(nil, nil)
		r.clients = append(r.clients, r.c)
		r.sessions++
		r.m = model{state: "authorization"}
		r.began = time.Now()
	}
	c, before := r.c, r.h.shown()
	validity := r.h.imap.INBOX().UIDValidity()
	w := modelWorld{ // before the batch: a QUIT in it may be carried out before its replies are read
		may: r.faulty, mail: r.mail(), there: map[string]bool{},
		same: len(r.m.drop) == 0 || strings.HasPrefix(r.m.drop[0].id, fmt.Sprint(validity, ".")),
	}
	for _, uid := range r.h.imap.INBOX().UIDs() {
		w.there[fmt.Sprintf("%d.%d", validity, uid)] = true
	}
	clear(r.m.unread)
	c.send(lines...)
	for i, line := range lines {
		allowed := r.m.answers(line, w)
		got := c.reply()
		if got.err != nil {
			// A message that breaks off takes with it what was not sent yet.
			body := r.faulty && slices.ContainsFunc(lines[i:], func(l string) bool {
				return strings.HasPrefix(l, "RETR ") || strings.HasPrefix(l, "TOP ")
			})
			late := r.m.state == "authorization" && time.Since(r.began) >= modelLoginTime
			if !body && !late {
				r.say("%s: the connection ended: %v", line, got.err)
			}
			r.leave()
			return
		}
		if !modelAllows(allowed, line, got) {
			r.say("%s: %q %q, the model has %q", line, got.line, got.text, allowed)
		}
		listed := len(r.m.drop) > 0
		r.m.follow(line, got, w)
		r.last = time.Now()
		if !listed { // the judge has to know the names, listed or not
			for i, m := range r.m.drop {
				c.events = append(c.events, imaptest.Event{Kind: imaptest.Named, Number: i + 1, UIDL: m.id})
			}
		}
		if r.m.state == "over" {
			if line == "QUIT" {
				r.quit(before, got.ok)
			}
			r.over(line)
			return
		}
	}
}

// quit holds what is left against what the session asked for.
func (r *modelRun) quit(before []string, ok bool) {
	after := r.h.shown()
	for _, id := range before {
		n := 1 + slices.IndexFunc(r.m.drop, func(m modelMessage) bool { return m.id == id })
		marked := n > 0 && r.m.marked[n]
		there := slices.Contains(after, id)
		if !there {
			r.removed++
		}
		switch {
		case !there && !marked:
			r.say("QUIT removed %s, which was not marked", id)
		case !there && !ok && !r.faulty:
			r.say("QUIT removed %s without a fault, and was answered with -ERR", id)
		case there && marked && ok:
			r.say("QUIT was answered with +OK, and %s is there", id)
		}
	}
}

// mail is what a session that begins now shows.
func (r *modelRun) mail() (list []modelMessage) {
	validity := r.h.imap.INBOX().UIDValidity()
	for _, m := range r.h.imap.INBOX().Messages() {
		if r.h.hidden(m.Flags) {
			continue
		}
		body := make([]byte, m.Body.Size())
		m.Body.ReadAt(body, 0)
		list = append(list, modelMessage{fmt.Sprintf("%d.%d", validity, m.UID), string(body)})
	}
	return list
}

// modelAllows reports whether a reply is one of those that the model has.
func modelAllows(allowed []modelAnswer, line string, got popReply) bool {
	verb, rest, _ := strings.Cut(line, " ")
	listing := rest == "" && (verb == "LIST" || verb == "UIDL")
	exact := verb == "STAT" || !listing && (verb == "LIST" || verb == "UIDL")
	return slices.ContainsFunc(allowed, func(a modelAnswer) bool {
		if !strings.HasPrefix(got.line, a.line) || exact && got.ok && got.line != a.line {
			return false
		}
		return !got.ok || !listing && verb != "RETR" && verb != "TOP" || string(got.text) == a.text
	})
}
