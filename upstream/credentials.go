package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
)

// Credentials is what a POP3 client gave to prove who it is, where it stands, and
// what the way to the mailbox made of it.
type Credentials struct {
	User   string // as the client sent it; no control characters
	Secret Secret
	Proof  Proof // what Secret is

	// Authorize is the user whose maildrop is wanted, where that is another than
	// the one who proves it (RFC 4616 section 2); "" is User.
	Authorize string
	// Mailbox is the mailbox that is to be the maildrop, in UTF-8, as the mail
	// service names it; "" is the store's own.
	Mailbox string
	// Renewer replaces a Secret that runs out while the session lives; nil where
	// it does not.
	Renewer Renewer

	// Transcript is told what is said to the mail service; nil where nobody asked
	// for that.
	Transcript Transcript

	Client   netip.AddrPort // the POP3 client's address
	Server   netip.AddrPort // the address that it connected to
	Listener string         // the name of the listener that it came by
	TLS      bool           // the client's connection is encrypted
}

// Proof says what the secret of [Credentials] is.
type Proof uint8

const (
	// Password is a password, in the words of the client.
	Password Proof = iota
	// Bearer is an OAuth 2.0 access token (RFC 6750, RFC 7628).
	Bearer
	// Shared is a secret that popgate shares with the client, who has proved by a
	// digest that it knows it (APOP, CRAM-MD5, SCRAM). It never came over the
	// wire. An empty one says that the client has proved nothing: whoever takes
	// it refuses it as any wrong password.
	Shared
	// External is no secret at all: the client has shown a certificate for this
	// user, which was verified (SASL EXTERNAL, RFC 4422 appendix A).
	External
)

// ForStore reports whether a [Store] can pass the proof on to a mail service.
// What it cannot is of use to popgate alone, which proves the client by it and
// puts other credentials in its place.
func (p Proof) ForStore() bool { return p == Password || p == Bearer }

// A Transcript is the dialogue of one session, for an operator who asked to see
// it. It is called by the session's goroutine, and by that of a keep-alive beside
// it.
type Transcript interface {
	// Note writes down what one side said: from is "popgate" or the mail service,
	// text is one line that holds no secret and nothing of a message.
	Note(from, text string)
}

// A Renewer gives secrets that run out. It is safe for concurrent use.
type Renewer interface {
	// Renew returns the secret to use after refused, which the mail service has
	// just refused. Its errors are of kind [Unavailable] where waiting may cure
	// it, and [Internal] where a person must act. A store asks once for each
	// refusal and does not ask again if that is refused too.
	Renew(ctx context.Context, refused Secret) (Secret, error)
}

const redacted = "[secret]"

// A Secret is a password or a token that cannot be printed: every way of
// formatting it gives the same fixed text. The zero value is an empty secret.
type Secret struct{ text string }

// NewSecret wraps s.
func NewSecret(s string) Secret { return Secret{s} }

// Reveal returns the secret itself. It is for the code that proves it to a
// mail service and for nothing else.
func (s Secret) Reveal() string { return s.text }

// Format writes the fixed text, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String returns the fixed text.
func (Secret) String() string { return redacted }

// LogValue returns the fixed text.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns the fixed text; it serves JSON and YAML as well.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
