package imaptest

import (
	"strings"
	"sync"
	"time"
)

// Ending is how a connection stops to work.
type Ending uint8

// The endings.
const (
	FIN   Ending = iota // closed in order
	RST                 // reset (TCP; a plain close over net.Pipe)
	Stall               // open, and nothing moves any more
	Drip                // CutConn only: goes on octet by octet
)

// An Action is what happens at a command instead of, or beside, the usual.
// Where several meet at one command, the first that answers or ends wins.
type Action func(Command) verdict

// verdict is the decision of an Action. The zero value lets the command go on.
type verdict struct {
	raw     []byte // sent in place of the reply
	reply   *reply // sent in place of the reply
	end     bool   // the connection ends, as ending says
	ending  Ending
	literal *literalCut
}

func (v verdict) decides() bool { return v.raw != nil || v.reply != nil || v.end }

// literalCut ends the connection inside a literal.
type literalCut struct {
	after int64 // octets of the literal that still pass
	how   Ending
}

// Do runs f and lets the command go on. f may use every method of the server
// and its mailboxes.
func Do(f func(Command)) Action {
	return func(c Command) verdict { f(c); return verdict{} }
}

// Raw answers with octets as they are, "{tag}" replaced by the command's tag.
// They should end in CRLF, unless that is the point.
func Raw(text string) Action {
	return func(c Command) verdict { return verdict{raw: []byte(strings.ReplaceAll(text, "{tag}", c.Tag))} }
}

// NO answers NO with a text, which may begin with a code: "[LIMIT] too many".
func NO(text string) Action { return answer(reply{status: "NO", text: text}) }

// BAD answers BAD.
func BAD(text string) Action { return answer(reply{status: "BAD", text: text}) }

// OK answers OK: before a command it is a lie.
func OK(text string) Action { return answer(reply{status: "OK", text: text}) }

func answer(r reply) Action { return func(Command) verdict { return verdict{reply: &r} } }

// BYE says BYE and ends the connection.
func BYE(text string) Action {
	return func(Command) verdict { return verdict{raw: []byte("* BYE " + text + "\r\n"), end: true} }
}

// End ends the connection. A stall lasts until the client closes.
func End(how Ending) Action { return func(Command) verdict { return verdict{end: true, ending: how} } }

// Wait lets time pass before the command goes on. It is for tests under
// testing/synctest.
func Wait(d time.Duration) Action {
	return func(Command) verdict { time.Sleep(d); return verdict{} }
}

// CutLiteral ends the connection inside the first literal of the reply, after
// k octets of it, or at its end if it is shorter.
func CutLiteral(k int64, how Ending) Action {
	return func(Command) verdict { return verdict{literal: &literalCut{k, how}} }
}

// GREETING and CONTINUE are the verbs of two moments that are no command: a new
// connection before its greeting, and a synchronising literal before its
// continuation (only Server.Before; an answer there abandons the command).
const (
	GREETING = "GREETING"
	CONTINUE = "CONTINUE"
)

// rules are the actions of a server.
type rules struct {
	mu     sync.Mutex
	list   []*rule
	counts map[string]int
}

type rule struct {
	before bool
	verb   string
	nth    int
	action Action
}

// Before puts an action in front of the nth command of that verb, counted over
// all connections from 1; nth 0 is every one. Verbs are upper case, "UID FETCH"
// is one; "" is any. An action that answers or ends keeps the command from
// being executed.
func (s *Server) Before(verb string, nth int, a Action) { s.rules.add(&rule{true, verb, nth, a}) }

// After puts an action behind the execution of a command and in front of its
// tagged reply; untagged data is sent first. An action that answers or ends
// replaces the reply: the command was executed and its OK is never seen.
func (s *Server) After(verb string, nth int, a Action) { s.rules.add(&rule{false, verb, nth, a}) }

// Forget takes all actions away; the counts stay.
func (s *Server) Forget() {
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	s.rules.list = nil
}

func (r *rules) add(n *rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, n)
}

// count counts c and returns its number among its verb's and among all.
func (r *rules) count(c Command) (nth, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]int{}
	}
	r.counts[c.Verb]++
	r.counts[""]++
	return r.counts[c.Verb], r.counts[""]
}

func (r *rules) ask(before bool, c Command, nth, all int) verdict {
	r.mu.Lock()
	list := r.list
	r.mu.Unlock()
	var out verdict
	for _, rule := range list {
		at := nth
		if rule.verb == "" {
			at = all
		} else if rule.verb != c.Verb {
			continue
		}
		if rule.before != before || rule.nth != 0 && rule.nth != at {
			continue
		}
		v := rule.action(c)
		if out.literal == nil {
			out.literal = v.literal
		}
		if v.decides() {
			v.literal = out.literal
			return v
		}
	}
	return out
}
