package pop3

import (
	"bytes"
	"time"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// A shape says what arguments a command takes.
type shape uint8

const (
	noArguments    shape = iota
	number               // a message number
	optionalNumber       // one or none
	numberAndLines       // a message number and a count of lines
	text                 // the rest of the line, not empty
	password             // the rest of the line as it stands
	nameAndDigest        // a name, and a word behind it
	mechanism            // none; or a SASL mechanism, and maybe an initial response
)

// arguments are what a shape gives. Octets are those of the line that was read
// last, and valid until the next.
type arguments struct {
	n         int // message number; 0: none was given
	lines     int
	text      []byte
	digest    []byte
	mechanism []byte // nil: none
	initial   []byte // nil: none
}

// A command is a line of the command table.
type command struct {
	verb   string
	states state // where it is allowed
	shape  shape
	run    func(*session, arguments) Result
	rfc    string // where it is specified
}

func commandTable() []command {
	const both = authorization | transaction
	return []command{
		{mechAPOP, authorization, nameAndDigest, (*session).apop, "RFC 1939 section 7"},
		{"AUTH", authorization, mechanism, (*session).auth, "RFC 5034 section 4"},
		{"CAPA", both, noArguments, (*session).capa, "RFC 2449 section 5"},
		{"DELE", transaction, number, (*session).dele, "RFC 1939 section 5"},
		{"LAST", transaction, noArguments, (*session).last, "RFC 1460 section 5"},
		{"LIST", transaction, optionalNumber, (*session).list, "RFC 1939 section 5"},
		{"NOOP", transaction, noArguments, (*session).noop, "RFC 1939 section 5"},
		{"PASS", authorization, password, (*session).pass, "RFC 1939 section 7"},
		{"QUIT", both, noArguments, (*session).quit, "RFC 1939 section 6"},
		{"RETR", transaction, number, (*session).retr, "RFC 1939 section 5"},
		{"RSET", transaction, noArguments, (*session).rset, "RFC 1939 section 5"},
		{"STAT", transaction, noArguments, (*session).stat, "RFC 1939 section 5"},
		{"STLS", authorization, noArguments, (*session).stls, "RFC 2595 section 4"},
		{"TOP", transaction, numberAndLines, (*session).top, "RFC 1939 section 7"},
		{"UIDL", transaction, optionalNumber, (*session).uidl, "RFC 1939 section 7"},
		{"USER", authorization, text, (*session).userName, "RFC 1939 section 7"},
	}
}

// command carries out one line.
func (s *session) command(line []byte, first bool) {
	start := time.Now()
	c := pop3wire.ParseCommand(line)
	if first && foreign(c.Verb) {
		s.notPOP3()
		return
	}
	verb, result := otherVerb, Err
	known, ok := s.server.commands[c.Verb]
	a, fits := known.shape.parse(c)
	s.transcript.heard(known, ok && fits, c, a)
	if !ok {
		result = s.bad("unknown command")
	} else {
		verb = known.verb
		if known.states&s.state == 0 {
			result = s.bad("not in this state")
		} else if !fits {
			result = s.bad("wrong arguments")
		} else {
			result = known.run(s, a)
		}
	}
	call3(s.opts.Trace.Command, verb, result, time.Since(start))
}

// foreign reports whether a session that begins with verb is of another
// protocol: a browser that was made to post to this port must not go on to
// commands of ours.
func foreign(verb string) bool {
	switch verb {
	case "GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "PRI", "EHLO", "HELO":
		return true
	}
	return false
}

// parse takes the arguments apart; ok is false where they do not fit.
func (sh shape) parse(c pop3wire.Command) (a arguments, ok bool) {
	switch sh {
	case text:
		return arguments{text: c.Rest}, len(c.Rest) > 0
	case password:
		return arguments{text: c.Rest}, c.Rest != nil
	case nameAndDigest:
		i := bytes.LastIndexByte(c.Rest, ' ')
		if i < 1 {
			return a, false
		}
		return arguments{text: c.Rest[:i], digest: c.Rest[i+1:]}, true
	}
	var array [2][]byte
	args, ok := c.Args(array[:])
	if !ok {
		return a, false
	}
	switch sh {
	case noArguments:
		return a, len(args) == 0
	case optionalNumber:
		if len(args) == 0 {
			return a, true
		}
		fallthrough
	case number:
		if len(args) != 1 {
			return a, false
		}
		a.n, ok = pop3wire.ParseNumber(args[0])
	case numberAndLines:
		if len(args) != 2 {
			return a, false
		}
		if a.n, ok = pop3wire.ParseNumber(args[0]); ok {
			a.lines, ok = pop3wire.ParseCount(args[1])
		}
	case mechanism:
		if len(args) > 0 {
			a.mechanism = args[0]
		}
		if len(args) > 1 {
			a.initial = args[1]
		}
	}
	return a, ok
}
