package imap

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
)

// Probe connects, secures the connection and hears the capabilities. It logs
// nobody in.
func (s *Store) Probe(ctx context.Context) (upstream.Offer, error) {
	start := time.Now()
	d, err := s.dial(ctx, upstream.Credentials{})
	s.traceEnd(opConnect, start, err)
	if err != nil {
		return upstream.Offer{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.CommandTime, fmt.Errorf("no answer within %v", s.o.CommandTime))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { d.guard.Abort() })
	defer d.guard.Close()
	err = d.needCapabilities()
	if !stop() && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return upstream.Offer{}, classify(ctx, opConnect, err, d.guard.Status())
	}
	return d.caps.offer(), nil
}

func (c capabilities) offer() upstream.Offer {
	o := upstream.Offer{Passwords: c.has("AUTH=PLAIN") || !c.has("LOGINDISABLED"), Tokens: c.has("AUTH=XOAUTH2") || c.has("AUTH=OAUTHBEARER")}
	for _, name := range strings.Fields(c.names.Value()) {
		if mechanism, ok := strings.CutPrefix(name, "AUTH="); ok {
			o.Logins = append(o.Logins, mechanism)
		} else {
			o.Capabilities = append(o.Capabilities, name)
		}
	}
	if !c.has("LOGINDISABLED") && !c.has("AUTH=LOGIN") {
		o.Logins = append(o.Logins, "LOGIN")
	}
	slices.Sort(o.Logins)
	slices.Sort(o.Capabilities)
	o.Logins, o.Capabilities = slices.Compact(o.Logins), slices.Compact(o.Capabilities)
	return o
}

// Inspect tells what the server can do, and what a deletion would do.
func (a *account) Inspect(ctx context.Context) (upstream.Inspection, error) {
	const op = "inspect"
	if a.drop == nil {
		return upstream.Inspection{}, failf(upstream.Internal, op, "the maildrop is not open")
	}
	m := a.drop
	if err := m.take(op); err != nil {
		return upstream.Inspection{}, err
	}
	defer m.leave()
	m.dropAhead()
	i := upstream.Inspection{Mailbox: m.id.box, Abilities: m.conn.caps.abilities()}
	i.Deletion, i.Obstacle = m.deletion(ctx)
	return i, nil
}

// abilities lists what Update and the list depend on.
func (c capabilities) abilities() []upstream.Ability {
	ability := func(name, with, without string) upstream.Ability {
		effect := with
		if !c.has(name) {
			effect = without
		}
		return upstream.Ability{Name: name, There: c.has(name), Effect: effect}
	}
	return []upstream.Ability{
		ability("UIDPLUS", "what is deleted is expunged, and nothing else", `what is deleted is flagged \Deleted, hidden from POP3, and stays until another program expunges it`),
		ability("MOVE", "the trash mailbox gets messages in one step", "the trash mailbox gets copies, and what was copied is deleted then"),
		ability("SPECIAL-USE", "the trash mailbox is found by its use", "the trash mailbox is looked for among all, or named in the configuration"),
		ability("ESEARCH", "what is left of a known list is told in ranges", "what is left of a known list is told number by number"),
		{Name: "EXAMINE", There: c.opensForReading(), Effect: map[bool]string{
			true: "mailboxes are opened for reading only", false: "mailboxes are opened by SELECT: EXAMINE is not known to fix UIDs here",
		}[c.opensForReading()]},
	}
}

// deletion says what policy would do, in words. What needs the mailbox to be
// selected for writing is not found out.
func (m *maildrop) deletion(ctx context.Context) (string, error) {
	o, caps := &m.store.o, m.conn.caps
	remove := `flagged \Deleted and no more: the server has no UIDPLUS`
	if caps.has("UIDPLUS") {
		remove = "expunged by its UID"
	}
	switch o.Delete {
	case Hide:
		return "kept, and marked with the keyword " + HiddenKeyword, nil
	case Expunge:
		return remove, nil
	}
	to, err := (&update{drop: m}).trash(ctx)
	switch {
	case err != nil:
		return "moved to the trash mailbox", err
	case caps.has("MOVE"):
		return fmt.Sprintf("moved to %q", to), nil
	}
	return fmt.Sprintf("copied to %q, then %s", to, remove), nil
}
