package upstream

import (
	"context"
	"errors"
)

// A Prober is a [Store] that can be looked at before anybody logs in.
type Prober interface {
	// Probe connects as Login does, hears what the mail service offers, and closes
	// the connection. No credential is sent. Its errors are those of Login. As under Login,
	// lookup, connection and TLS are told to the hooks of package httptrace in ctx.
	Probe(ctx context.Context) (Offer, error)
}

// An Offer is what a mail service tells anybody who connects.
type Offer struct {
	Capabilities []string // by the names of the protocol, in order of the alphabet
	Logins       []string // ways to log in, likewise; empty where it does not tell
	Passwords    bool     // a password can be proved, as far as is known
	Tokens       bool     // an access token can be proved, as far as is known
}

// An Inspector is an [Account] that can tell how its maildrop is served.
type Inspector interface {
	// Inspect asks the mail service what it can do, once the maildrop is open and
	// while no Body is. It changes nothing.
	Inspect(ctx context.Context) (Inspection, error)
}

// An Inspection is how a maildrop is served.
type Inspection struct {
	Mailbox   string    // as the mail service names it
	Abilities []Ability // of the mail service, as far as they matter here
	Deletion  string    // what becomes of a message that is deleted, under the store's own policy
	Obstacle  error     // why a deletion would fail, as far as is known; nil for nothing
}

// An Ability is something that some mail services can do.
type Ability struct {
	Name   string
	There  bool
	Effect string // what comes of that
}

// Inspect asks a, or the account that it is wrapped around.
func Inspect(ctx context.Context, a Account) (Inspection, error) {
	for {
		if i, ok := a.(Inspector); ok {
			return i.Inspect(ctx)
		}
		w, ok := a.(interface{ Unwrap() Account })
		if !ok {
			return Inspection{}, &Error{Kind: Internal, Op: "inspect", Err: errors.New("this store cannot be inspected")}
		}
		a = w.Unwrap()
	}
}
