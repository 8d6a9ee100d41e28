package proof_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// model is one session of RFC 1939, made to be read and not to be used. It
// knows nothing of mail services: of a login, of a message's text and of UPDATE
// it is told whether they may fail.
type model struct {
	state         string // "authorization", "transaction", "over"
	user          string // of a USER that was not followed by PASS
	drop          []modelMessage
	marked        map[int]bool
	unread        map[int]bool // not read, and the client cannot know that yet
	reading       int          // the number of a RETR or TOP that is right, else 0
	errors, tries int          // ten commands that are none and three refused logins end a session
}

type modelMessage struct{ id, body string }

// modelWorld is what the session depends on at the moment.
type modelWorld struct {
	may   bool            // the mail service may fail
	mail  []modelMessage  // what a login now shows
	there map[string]bool // the messages that are in the mailbox, shown or not
	same  bool            // the mailbox is still the one that was listed
}

// modelAnswer is a reply: a status line without its free text, and a text.
type modelAnswer struct{ line, text string }

// answers are the replies that RFC 1939 allows to a command; "-ERR" stands for
// any line that begins so. A reply that comes whole is the last of them to say
// something.
func (m *model) answers(line string, w modelWorld) []modelAnswer {
	verb, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	m.reading = 0
	no, ok := modelAnswer{line: "-ERR"}, modelAnswer{line: "+OK"}
	bad := func() []modelAnswer { m.errors++; return []modelAnswer{no} }
	early := slices.Contains([]string{"USER", "PASS", "AUTH", "STLS"}, verb)
	late := slices.Contains([]string{"STAT", "LIST", "UIDL", "RETR", "TOP", "DELE", "RSET", "NOOP", "LAST"}, verb)
	switch want := map[string]int{"USER": 1, "PASS": 1, "AUTH": 2, "RETR": 1, "DELE": 1, "TOP": 2}[verb]; {
	case early && m.state != "authorization", late && m.state != "transaction", verb == "STLS":
		return bad()
	case len(args) != want && !(len(args) == 1 && (verb == "LIST" || verb == "UIDL")):
		return bad()
	case verb == "QUIT" && (m.state == "authorization" || len(m.marked) == 0), verb == "CAPA", verb == "USER", verb == "NOOP", verb == "RSET":
		return []modelAnswer{ok}
	case verb == "QUIT" && w.may:
		return []modelAnswer{ok, no}
	case verb == "QUIT" && w.same:
		return []modelAnswer{ok}
	case verb == "QUIT", verb == "LAST":
		return []modelAnswer{no}
	case verb == "PASS" && m.user == "":
		return bad()
	case verb == "PASS" && rest != modelPassword, verb == "AUTH" && rest != "PLAIN "+harnessPlain:
		return []modelAnswer{no}
	case early && w.may:
		return []modelAnswer{ok, no}
	case early:
		return []modelAnswer{ok}
	case verb == "STAT":
		n, octets := 0, 0
		m.each(func(_ int, msg modelMessage) { n, octets = n+1, octets+len(msg.body) })
		return []modelAnswer{{line: fmt.Sprintf("+OK %d %d", n, octets)}}
	case !late:
		return bad()
	case len(args) == 0: // LIST, UIDL
		m.each(func(n int, _ modelMessage) { ok.text += m.scan(verb, n) + "\r\n" })
		return []modelAnswer{ok}
	}
	n, err := strconv.Atoi(args[0])
	if lines, e := strconv.Atoi(args[len(args)-1]); err != nil || n <= 0 || e != nil || lines < 0 {
		return bad()
	}
	if n > len(m.drop) || m.marked[n] || verb == "DELE" && m.unread[n] {
		return []modelAnswer{no}
	}
	if verb == "RETR" || verb == "TOP" {
		m.reading = n
	}
	switch {
	case m.reading > 0 && !w.there[m.drop[n-1].id]:
		return []modelAnswer{no}
	case verb == "LIST" || verb == "UIDL":
		return []modelAnswer{{line: "+OK " + m.scan(verb, n)}}
	case verb == "RETR":
		ok.text = m.drop[n-1].body
	case verb == "TOP":
		ok.text = modelTop(m.drop[n-1].body, args[1])
	}
	if w.may && verb != "DELE" {
		return []modelAnswer{ok, no}
	}
	return []modelAnswer{ok}
}

// follow is what a reply changes.
func (m *model) follow(line string, r popReply, w modelWorld) {
	verb, rest, _ := strings.Cut(line, " ")
	n, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
	login := (verb == "PASS" && m.user != "" || verb == "AUTH") && m.state == "authorization" && rest != ""
	switch {
	case verb == "USER" && r.ok:
		m.user = rest
	case login && r.ok:
		m.state, m.drop, m.marked, m.unread = "transaction", w.mail, map[int]bool{}, map[int]bool{}
	case login && strings.Contains(r.line, "[AUTH]"):
		m.tries, m.user = m.tries+1, ""
	case login:
		m.errors, m.user = m.errors+1, "" // no fault of the client's, but no reason to go on for ever
	case verb == "DELE" && r.ok:
		m.marked[n] = true
	case verb == "RSET" && r.ok:
		clear(m.marked)
	case m.reading > 0 && !r.ok:
		m.unread[m.reading] = true
	}
	if verb == "QUIT" && r.line != "" && rest == "" || m.errors >= 10 || m.tries >= 3 {
		m.state = "over"
	}
}

// each calls f for every message that is not marked.
func (m *model) each(f func(n int, msg modelMessage)) {
	for i, msg := range m.drop {
		if !m.marked[i+1] {
			f(i+1, msg)
		}
	}
}

func (m *model) scan(verb string, n int) string {
	if verb == "UIDL" {
		return fmt.Sprint(n, " ", m.drop[n-1].id)
	}
	return fmt.Sprint(n, " ", len(m.drop[n-1].body))
}

// modelTop is the header of a message of CRLF lines and some lines of its body.
func modelTop(body, lines string) string {
	header, rest, found := strings.Cut(body, "\r\n\r\n")
	if !found {
		return body
	}
	n, _ := strconv.Atoi(lines)
	all := strings.SplitAfter(rest, "\r\n")
	return header + "\r\n\r\n" + strings.Join(all[:min(n, len(all))], "")
}
