package jmap

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/popgate/popgate/upstream"
)

// Probe asks for the session resource without credentials, which has the server
// say how it wants them.
func (s *Store) Probe(ctx context.Context) (upstream.Offer, error) {
	t := s.o.CallTime
	ctx, cancel := context.WithTimeoutCause(ctx, t, fmt.Errorf("no answer within %v", t))
	defer cancel()
	c := newClient(s, upstream.Credentials{})
	c.nobody = true
	resp, _, err := c.getSession(ctx, s.sessionURL.Load())
	if err != nil {
		return upstream.Offer{}, err
	}
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusOK {
		e := statusOf(opLogin, resp)
		if e.Kind == upstream.Refused { // nothing was shown that could be refused
			e.Kind = upstream.Internal
		}
		return upstream.Offer{}, e
	}
	discard(resp)
	o := upstream.Offer{Logins: schemes(resp.Header.Values("WWW-Authenticate"))}
	o.Tokens = len(o.Logins) == 0 || slices.Contains(o.Logins, "Bearer")
	o.Passwords = s.o.Auth == Basic && (len(o.Logins) == 0 || slices.Contains(o.Logins, "Basic")) || s.o.Auth == Bearer && o.Tokens
	return o, nil
}

// schemes lists the authentication schemes of challenges (RFC 9110 section 11.6.1)
// that are of use here.
func schemes(challenges []string) (out []string) {
	for _, known := range []string{"Basic", "Bearer"} {
		if slices.ContainsFunc(challenges, func(c string) bool {
			return slices.ContainsFunc(strings.FieldsFunc(c, func(r rune) bool { return r == ' ' || r == ',' }),
				func(word string) bool { return strings.EqualFold(word, known) })
		}) {
			out = append(out, known)
		}
	}
	return out
}

// Inspect asks for the mailboxes, and tells what a deletion would do.
func (a *account) Inspect(ctx context.Context) (upstream.Inspection, error) {
	if a.drop == nil {
		return upstream.Inspection{}, failf(upstream.Internal, "inspect", "the maildrop is not open")
	}
	ctx, cancel := a.drop.span(ctx)
	defer cancel()
	var all mailboxes
	if err := a.client.do(ctx, opMailboxes, maxMailboxes, all.call()); err != nil {
		return upstream.Inspection{}, err
	}
	box, err := all.served(a.client.mailboxName())
	if err != nil {
		return upstream.Inspection{}, err
	}
	i := upstream.Inspection{Mailbox: all.path(box)}
	_, i.Obstacle = (&update{drop: a.drop}).policy(all)
	switch a.client.store.o.Delete {
	case Hide:
		i.Deletion = "kept, and marked with the keyword " + HiddenKeyword
	case Expunge:
		i.Deletion = "destroyed, or taken out of this mailbox where it is in another one too"
	default:
		i.Deletion = "moved to the trash mailbox"
		if trash, err := all.trash(&a.client.store.o); err == nil {
			i.Deletion = fmt.Sprintf("moved to %q", all.path(trash))
		}
	}
	return i, nil
}
