package imaptest

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
)

const redacted = "[secret]"

func mechanisms() []string { return []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"} }

// redact takes the credentials out of c.Line and returns them.
func redact(c *Command) (secret string) {
	switch {
	case c.Verb == "LOGIN" && len(c.args) == 2:
		c.Line = fmt.Sprintf("LOGIN %q %s", c.args[0].text, redacted)
		return c.args[1].text
	case c.Verb == "AUTHENTICATE" && len(c.args) == 2:
		c.Line = fmt.Sprintf("AUTHENTICATE %s %s", c.args[0].text, redacted)
		return c.args[1].text
	case c.Verb == "AUTHENTICATE" && len(c.args) == 1 && containsFold(mechanisms(), c.args[0].text):
		c.Line = "AUTHENTICATE " + c.args[0].text
		return ""
	}
	c.Line = redactLine([]byte(c.Line))
	return ""
}

// redactLine keeps of an unparsed login no more than its verb.
func redactLine(raw []byte) string {
	upper := bytes.ToUpper(raw)
	for _, verb := range []string{"LOGIN", "AUTHENTICATE"} {
		if i := bytes.Index(upper, []byte(verb)); i >= 0 && i+len(verb) < len(raw) {
			return string(raw[:i+len(verb)]) + " " + redacted
		}
	}
	return string(raw)
}

// authenticate serves LOGIN (RFC 3501 section 6.2.3) and AUTHENTICATE
// (section 6.2.2, RFC 4959).
func (s *session) authenticate(c Command, entry int, over bool) (reply, error) {
	var user, password string
	if c.Verb == "LOGIN" {
		if len(c.args) != 2 || c.args[0].kind == list || c.args[1].kind == list {
			return bad("LOGIN wants a user and a password"), nil
		}
		if s.srv.profile.LoginDisabled && !s.tls {
			return no("[PRIVACYREQUIRED] LOGIN is disabled"), nil
		}
		user, password = c.args[0].text, c.args[1].text
	} else {
		var r *reply
		var err error
		user, password, r, err = s.sasl(c, entry)
		if err != nil || r != nil {
			if r == nil {
				r = &reply{}
			}
			return *r, err
		}
	}
	if over {
		switch s.srv.profile.LimitReply {
		case LimitNO:
			return no("[LIMIT] too many connections"), nil
		case LimitUnavailable:
			return no("[UNAVAILABLE] too many connections of this user"), nil
		}
	}
	if !s.proves(user, password) {
		return no("[AUTHENTICATIONFAILED] authentication failed"), nil
	}
	s.user = s.srv.owner(user)
	if s.srv.profile.LoginDropsInput {
		s.br.Discard(s.br.Buffered())
	}
	code := ""
	if s.srv.profile.Dialect.LoginCaps {
		code = "[CAPABILITY " + s.capabilities() + "] "
	}
	return okay(code + "logged in"), nil
}

// proves reports whether this is the password of the user, or of the master user
// behind the separator in its name.
func (s *session) proves(user, password string) bool {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	if name, master, ok := strings.Cut(user, MasterSeparator); ok && s.srv.accounts[name] != nil {
		return s.srv.masters[master] != "" && same(s.srv.masters[master], password)
	}
	a := s.srv.accounts[user]
	return a != nil && same(a.password, password)
}

// bears reports whether token opens the maildrop of user: one of its own, or a
// master's, which opens all.
func (s *session) bears(user, token string) bool {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	a := s.srv.accounts[user]
	if a == nil {
		return false
	}
	for _, master := range s.srv.masters {
		if same(master, token) {
			return true
		}
	}
	return same(a.password, token)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// owner is the user whose mailboxes a login with this name opens.
func (s *Server) owner(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, _, ok := strings.Cut(user, MasterSeparator); ok && s.accounts[name] != nil {
		return name
	}
	return user
}

// sasl runs the exchange; a reply that is not nil ends it without credentials.
func (s *session) sasl(c Command, entry int) (user, password string, r *reply, err error) {
	stop := func(out reply) (string, string, *reply, error) { return "", "", &out, nil }
	if len(c.args) == 0 || len(c.args) == 2 && !s.has("SASL-IR") || len(c.args) > 2 {
		return stop(bad("AUTHENTICATE wants a mechanism"))
	}
	mech := strings.ToUpper(c.args[0].text)
	if !containsFold(s.srv.profile.Auth, mech) {
		return stop(no("no such mechanism"))
	}
	var initial *string
	if len(c.args) == 2 {
		initial = &c.args[1].text
		if *initial == "=" {
			initial = new(string)
		}
	}
	step := func(challenge string) ([]byte, bool, error) {
		var line string
		if initial != nil {
			line, initial = *initial, nil
		} else {
			if err := s.ask(base64.StdEncoding.EncodeToString([]byte(challenge))); err != nil {
				return nil, false, err
			}
			in, err := readLine(s.br, 64<<10)
			if err != nil {
				return nil, false, err
			}
			line = strings.TrimRight(string(in), "\r\n")
		}
		out, err := base64.StdEncoding.DecodeString(line)
		return out, err == nil, nil
	}
	secret := func(text string) { s.srv.journal.update(entry, func(e *Entry) { e.Secret = text }) }
	cancelled := bad("not base64, or cancelled")
	first, ok, err := step(map[string]string{"LOGIN": "Username:"}[mech])
	if err != nil || !ok {
		return "", "", &cancelled, err
	}
	switch mech {
	case "PLAIN":
		p := strings.Split(string(first), "\x00")
		if len(p) != 3 {
			return stop(no("[AUTHORIZATIONFAILED] bad PLAIN message"))
		}
		secret(p[2])
		if p[0] != "" && p[0] != p[1] {
			return p[0] + MasterSeparator + p[1], p[2], nil, nil
		}
		return p[1], p[2], nil, nil
	case "LOGIN":
		second, ok, err := step("Password:")
		if err != nil || !ok {
			return "", "", &cancelled, err
		}
		secret(string(second))
		return string(first), string(second), nil, nil
	}
	u, token, ok := bearerMessage(mech, string(first))
	if !ok {
		return stop(bad("bad " + mech + " message"))
	}
	secret(token)
	if s.bears(u, token) {
		s.srv.mu.Lock()
		defer s.srv.mu.Unlock()
		return u, s.srv.accounts[u].password, nil, nil
	}
	// A refusal comes as a challenge, which the client answers before the NO: with
	// nothing under XOAUTH2, with ^A under OAUTHBEARER (RFC 7628 section 3.2.3).
	end, ok, err := step(`{"status":"401","schemes":"bearer","scope":"mail"}`)
	if want := map[string]string{"OAUTHBEARER": "\x01"}[mech]; err != nil || !ok || string(end) != want {
		return "", "", &cancelled, err
	}
	return stop(no("[AUTHENTICATIONFAILED] authentication failed"))
}

// bearerMessage reads the user and the token of XOAUTH2 ("user=" user ^A "auth=Bearer "
// token ^A ^A) and OAUTHBEARER (RFC 7628 section 3.1).
func bearerMessage(mech, text string) (user, token string, ok bool) {
	fields := strings.Split(text, "\x01")
	if len(fields) < 4 || fields[len(fields)-1] != "" || fields[len(fields)-2] != "" {
		return "", "", false
	}
	if mech == "XOAUTH2" {
		user, ok = strings.CutPrefix(fields[0], "user=")
	} else {
		user, ok = strings.CutPrefix(fields[0], "n,a=")
		user, ok = strings.TrimSuffix(user, ","), ok && strings.HasSuffix(user, ",")
		user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(user)
	}
	for _, f := range fields[1:] {
		if t, is := strings.CutPrefix(f, "auth=Bearer "); is {
			token = t
		}
	}
	return user, token, ok
}

// capabilities is the list that is true in this state.
func (s *session) capabilities() string {
	p := s.srv.profile
	out := []string{"IMAP4rev1"}
	for _, c := range p.Caps {
		if s.has(c) {
			out = append(out, c)
		}
	}
	if s.user == "" {
		if s.srv.tls != nil && !s.tls {
			out = append(out, "STARTTLS")
		}
		if p.LoginDisabled && !s.tls {
			out = append(out, "LOGINDISABLED")
		}
		for _, m := range p.Auth {
			out = append(out, "AUTH="+m)
		}
	}
	return strings.Join(out, " ")
}

func (s *session) capability(Command) (reply, error) {
	s.untagged("* CAPABILITY %s", s.capabilities())
	return okay("capability completed"), nil
}

func (s *session) noop(Command) (reply, error) { return okay("noop completed"), nil }

func (s *session) logout(Command) (reply, error) {
	s.untagged("* BYE logging out")
	r := okay("logout completed")
	r.then = func() error { return &endError{FIN, "logout"} }
	return r, nil
}

func (s *session) id(Command) (reply, error) {
	s.untagged(`* ID ("name" "imaptest")`)
	return okay("id completed"), nil
}

func (s *session) starttls(Command) (reply, error) {
	if s.srv.tls == nil || s.tls {
		return bad("no STARTTLS here"), nil
	}
	if s.inFlight {
		// RFC 3501 section 6.2.1 lets nothing follow STARTTLS.
		return bad("input behind STARTTLS"), nil
	}
	r := okay("begin TLS")
	r.then = s.startTLS
	return r, nil
}
