package pop3

import (
	"bytes"
	"encoding/base64"

	"github.com/emersion/go-sasl"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
	"github.com/popgate/popgate/upstream"
)

// A saslMechanism is a row of the table of mechanisms (RFC 5034).
type saslMechanism struct {
	name    string
	secret  bool // what the client sends is as good as its secret: not without TLS
	offered func(*session) bool
	// server is the server's side of one exchange. It asks no store: a wrong
	// password is one error there and a service that is down another. What the
	// exchange gives is in c when it is done.
	server func(s *session, c *credentials) sasl.Server
}

// mechanismTable is in the order in which clients are told.
func mechanismTable() []saslMechanism {
	always := func(*session) bool { return true }
	shared := func(s *session) bool { return s.server.digests != nil }
	bearer := func(s *session) bool { return s.opts.Bearer }
	return []saslMechanism{
		{"PLAIN", true, always, newPlain},
		{"LOGIN", true, always, newLogin},
		{"SCRAM-SHA-256", false, shared, newSCRAM},
		{"CRAM-MD5", false, shared, newCRAM},
		{"XOAUTH2", true, bearer, newXOAUTH2},
		{"OAUTHBEARER", true, bearer, newOAUTHBEARER},
		{"EXTERNAL", false, func(s *session) bool { return len(s.certified()) > 0 }, newExternal},
	}
}

// usable reports whether m can be used on this connection as it is now.
func (s *session) usable(m saslMechanism) bool {
	return m.offered(s) && (!m.secret || s.mayLogIn())
}

// mechanisms lists what can be used.
func (s *session) mechanisms() (names []string) {
	for _, m := range mechanismTable() {
		if s.usable(m) {
			names = append(names, m.name)
		}
	}
	return names
}

// auth answers AUTH (RFC 5034 section 4).
func (s *session) auth(a arguments) Result {
	names := s.mechanisms()
	if len(names) == 0 {
		return s.needsTLS()
	}
	if a.mechanism == nil {
		return s.listMechanisms(names)
	}
	name := pop3wire.ParseCommand(a.mechanism).Verb // in upper case
	for _, m := range mechanismTable() {
		switch {
		case m.name != name || !m.offered(s):
		case !s.usable(m):
			return s.needsTLS()
		default:
			return s.exchange(m, a.initial)
		}
	}
	return s.bad("no such mechanism")
}

// exchange goes through the steps of m, then logs in.
func (s *session) exchange(m saslMechanism, initial []byte) Result {
	response, ok := decodeInitial(initial)
	if !ok {
		return s.bad("not base64")
	}
	s.user = ""
	var got credentials
	server := m.server(s, &got)
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			return s.loginFailed(m.name, got, &upstream.Error{Kind: upstream.Refused, Op: "login", Err: err})
		}
		if done {
			return s.logIn(m.name, got)
		}
		line, over := s.challenge(challenge)
		if over != "" {
			return over
		}
		if string(line) == "*" {
			return s.bad("cancelled") // counted: an exchange costs the server more than a line
		}
		if response, ok = decode(line); !ok {
			return s.bad("not base64")
		}
	}
}

// challenge sends a challenge and reads the line that the client answers. Where
// none comes, over is how the command has ended.
func (s *session) challenge(challenge []byte) (line []byte, over Result) {
	question := base64.StdEncoding.AppendEncode(append(s.out.Available(), "+ "...), challenge)
	s.out.Write(append(question, "\r\n"...))
	s.transcript.Note("popgate", "+ (a challenge)")
	line, ok := s.readLine(s.in.ReadResponse)
	switch {
	case ok:
		s.transcript.Note("client", "(a response, hidden)")
		return line, ""
	case s.end == EndDrained || s.end == EndLineTooLong:
		return nil, Err // which was the reply
	}
	return nil, Cut
}

// agree sends what the server has to say when the store has agreed, in a
// challenge that the client answers with nothing (RFC 5034 section 4). A client
// that does not believe it cancels.
func (s *session) agree(proof []byte) (over Result) {
	line, over := s.challenge(proof)
	switch {
	case over != "":
		return over
	case string(line) == "*":
		return s.bad("cancelled")
	case len(line) > 0:
		return s.bad("nothing was asked for")
	}
	return ""
}

// listMechanisms answers AUTH without arguments, which clients older than CAPA
// ask.
func (s *session) listMechanisms(names []string) Result {
	s.ok("mechanisms follow")
	for _, name := range names {
		s.writeLine(name)
	}
	s.writeLine(".")
	return OK
}

// decodeInitial decodes an initial response: nil where there is none, and "="
// stands for an empty one.
func decodeInitial(initial []byte) (response []byte, ok bool) {
	if initial == nil {
		return nil, true
	}
	if string(initial) == "=" {
		return []byte{}, true
	}
	return decode(initial)
}

// decode decodes base64 and never returns nil with ok. The library passes over
// CR, which RFC 5034 section 4 forbids.
func decode(line []byte) (response []byte, ok bool) {
	if bytes.IndexByte(line, '\r') >= 0 {
		return nil, false
	}
	response, err := base64.StdEncoding.AppendDecode([]byte{}, line)
	return response, err == nil
}
