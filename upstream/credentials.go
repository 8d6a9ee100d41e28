package upstream

import (
	"fmt"
	"log/slog"
	"net/netip"
)

// Credentials is what a POP3 client gave to prove who it is, and where it
// stands.
type Credentials struct {
	User   string // as the client sent it; no control characters
	Secret Secret
	Client netip.AddrPort // the POP3 client's address
	Server netip.AddrPort // the address that it connected to
	TLS    bool           // the client's connection is encrypted
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
