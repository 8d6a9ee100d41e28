package pop3

import (
	"bytes"
	"encoding/base64"
	"errors"

	"github.com/emersion/go-sasl"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
	"github.com/popgate/popgate/upstream"
)

// credentials are what a SASL exchange gave.
type credentials struct {
	user   string
	secret string
}

var errIdentity = errors.New("another authorization identity")

// plain returns the server's side of PLAIN. The store is asked later, so that a
// wrong password is one error and a service that is down another.
func (c *credentials) plain() sasl.Server {
	return sasl.NewPlainServer(func(identity, user, secret string) error {
		c.user, c.secret = user, secret
		// Some clients name the user twice.
		if identity != "" && identity != user {
			return errIdentity
		}
		return nil
	})
}

// login is the server's side of LOGIN: two questions, in plain words.
type login struct {
	*credentials
	named bool
}

// Next takes the user, which may have come as an initial response, and then the
// password. Only the absence of an initial response is nil.
func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case !l.named:
		l.user, l.named = string(response), true
		return []byte("Password:"), false, nil
	}
	l.secret = string(response)
	return nil, true, nil
}

// auth answers AUTH (RFC 5034 section 4).
func (s *session) auth(a arguments) Result {
	if !s.mayLogIn() {
		return s.needsTLS()
	}
	if a.mechanism == nil {
		return s.listMechanisms()
	}
	var got credentials
	var server sasl.Server
	name := pop3wire.ParseCommand(a.mechanism).Verb // in upper case
	switch name {
	case mechPlain:
		server = got.plain()
	case mechLogin:
		server = &login{credentials: &got}
	default:
		return s.bad("no such mechanism")
	}
	response, ok := decodeInitial(a.initial)
	if !ok {
		return s.bad("not base64")
	}
	s.user = ""
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			return s.loginFailed(name, got.user, &upstream.Error{Kind: upstream.Refused, Op: "login", Err: err})
		}
		if done {
			return s.logIn(name, got.user, got.secret)
		}
		question := base64.StdEncoding.AppendEncode(append(s.out.Available(), "+ "...), challenge)
		s.out.Write(append(question, "\r\n"...))
		s.transcript.Note("popgate", "+ (a challenge)")
		line, ok := s.readLine(s.in.ReadResponse)
		if !ok {
			if s.end == EndDrained || s.end == EndLineTooLong {
				return Err // which was the reply
			}
			return Cut
		}
		s.transcript.Note("client", "(a response, hidden)")
		if string(line) == "*" {
			return s.err(pop3wire.NoCode, "cancelled")
		}
		if response, ok = decode(line); !ok {
			return s.bad("not base64")
		}
	}
}

// listMechanisms answers AUTH without arguments, which clients older than CAPA
// ask.
func (s *session) listMechanisms() Result {
	s.ok("mechanisms follow")
	for _, name := range saslMechanisms() {
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
