package pop3

import (
	"errors"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/popgate/popgate/upstream"
)

// credentials are what a client gave, and what it is still to be told.
type credentials struct {
	user      string
	secret    string
	proof     upstream.Proof
	authorize string // another user, whose maildrop is wanted; "" is user

	agreed  []byte // told before +OK, when the store has agreed; nil: nothing
	refused []byte // told before -ERR, where the store refused; nil: nothing
}

var (
	errNoUser      = errors.New("no user")
	errNoSecret    = errors.New("no password")
	errUserChars   = errors.New("control characters in the user")
	errSecretChars = errors.New("NUL, CR or LF in the password")
	errIdentity    = errors.New("another authorization identity")
)

// check refuses what could be taken for something else on the way to the mail
// service: control characters separate fields and commands there, and an empty
// password proves nothing to some. Where no secret came over the wire, none is
// looked for: who takes such credentials knows what an empty one means.
func (c *credentials) check() error {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	switch {
	case c.user == "":
		return errNoUser
	case strings.ContainsFunc(c.user, control) || strings.ContainsFunc(c.authorize, control):
		return errUserChars
	case c.proof == upstream.Shared || c.proof == upstream.External:
		return nil
	case c.secret == "":
		return errNoSecret
	case strings.ContainsAny(c.secret, "\x00\r\n"):
		return errSecretChars
	}
	return nil
}

// actFor takes an authorization identity. Some clients name the user twice.
func (c *credentials) actFor(s *session, identity string) error {
	if identity == "" || identity == c.user {
		return nil
	}
	if !s.opts.AuthorizationIdentity {
		return errIdentity
	}
	c.authorize = identity
	return nil
}

// newPlain is PLAIN (RFC 4616).
func newPlain(s *session, c *credentials) sasl.Server {
	return sasl.NewPlainServer(func(identity, user, secret string) error {
		c.user, c.secret = user, secret
		return c.actFor(s, identity)
	})
}

// login is the server's side of LOGIN: two questions, in plain words.
type login struct {
	*credentials
	named bool
}

func newLogin(_ *session, c *credentials) sasl.Server { return &login{credentials: c} }

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
