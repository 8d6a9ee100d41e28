package pop3

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
)

// ExpireOmitted is the value of [Options.Expire] that leaves the capability out.
const ExpireOmitted = "-"

// Options is what a [Server] needs to know. Only Store is required: the zero
// value of every other field is a safe default, named in its comment.
type Options struct {
	Store upstream.Store

	// TLS is for STLS; nil: STLS is not offered. ALPN is its business. A client
	// whose certificate was verified under it, or under that of the listener, is
	// offered EXTERNAL.
	TLS *tls.Config
	// AllowClearText accepts logins without TLS from anywhere. The default
	// accepts them only where both addresses of the connection are loopback.
	AllowClearText bool

	// Shared has the secrets of clients that prove themselves by a digest; nil:
	// no APOP, CRAM-MD5 and SCRAM-SHA-256, and no timestamp in the greeting. They
	// are accepted without TLS too, since the secret does not cross the wire.
	Shared SharedSecrets
	// Bearer offers XOAUTH2 and OAUTHBEARER: the client has an access token.
	Bearer bool
	// AuthorizationIdentity lets a client name another user than the one who it
	// proves to be (RFC 4616 section 2); the store decides. Without it such a
	// login is refused.
	AuthorizationIdentity bool

	// Expire is the argument of the EXPIRE capability (RFC 2449 section 6.7):
	// "" is NEVER, else NEVER or a number of days, with USER behind it where
	// it differs by user. [ExpireOmitted] leaves the capability out.
	Expire string
	// LoginDelay is what the LOGIN-DELAY capability tells, in full seconds
	// (RFC 2449 section 6.5); 0 leaves it out. The store keeps it.
	LoginDelay time.Duration
	// Implementation is the argument of the IMPLEMENTATION capability
	// (RFC 2449 section 6.9): printable ASCII. "" is popgate.
	Implementation string

	LoginTries  int // refused logins before the session ends; 3
	BadCommands int // commands that are none, or come at the wrong time, before it ends; 10

	LoginTime     time.Duration // from the connection to the login, whatever comes in between; 2 min
	IdleTime      time.Duration // for one command line to come, after login; 10 min, never less (RFC 1939 section 3)
	WriteTime     time.Duration // for the client to take one piece of a reply; 2 min
	HandshakeTime time.Duration // for the handshake of STLS; 15 s
	UpstreamTime  time.Duration // for the store: Login and Open together, and each piece of a message; 2 min
	UpdateTime    time.Duration // for the store's Update; 60 s

	// Watch tells whose sessions are written down in the log, without a secret and
	// without a line of a message: asked for each login. Nil: nobody's.
	Watch func(user string, client netip.Addr) bool

	Logger *slog.Logger // nil: no log
	Trace  Trace
}

// SharedSecrets knows the secrets that users share with popgate. It is safe for
// concurrent use and takes no longer for a user who has one than for any other.
type SharedSecrets interface {
	// SharedSecret returns the secret of user, false where there is none.
	SharedSecret(user string) (upstream.Secret, bool)
}

// minIdle is the shortest autologout timer that RFC 1939 section 3 allows.
const minIdle = 10 * time.Minute

// withDefaults returns o with its defaults filled in, or what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	if o.Store == nil {
		return o, errors.New("pop3: no store")
	}
	if o.LoginTries < 0 || o.BadCommands < 0 {
		return o, errors.New("pop3: a negative limit")
	}
	orInt(&o.LoginTries, 3)
	orInt(&o.BadCommands, 10)
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&o.LoginTime, 2 * time.Minute},
		{&o.IdleTime, minIdle},
		{&o.WriteTime, 2 * time.Minute},
		{&o.HandshakeTime, 15 * time.Second},
		{&o.UpstreamTime, 2 * time.Minute},
		{&o.UpdateTime, time.Minute},
		{&o.LoginDelay, 0},
	} {
		if *d.field < 0 {
			return o, errors.New("pop3: a negative time")
		}
		if *d.field == 0 {
			*d.field = d.standard
		}
	}
	if o.IdleTime < minIdle {
		return o, fmt.Errorf("pop3: idle time %v is under %v", o.IdleTime, minIdle)
	}
	if o.Expire == "" {
		o.Expire = "NEVER"
	}
	if o.Implementation == "" {
		o.Implementation = "popgate"
	}
	for _, text := range []string{o.Expire, o.Implementation} {
		if !printable(text) {
			return o, fmt.Errorf("pop3: %q is not one line of printable ASCII", text)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func orInt(field *int, standard int) {
	if *field == 0 {
		*field = standard
	}
}

// printable reports whether text can be an argument of a capability.
func printable(text string) bool {
	const longest = 255
	return len(text) <= longest && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}
