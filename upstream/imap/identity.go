package imap

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/listcache"
)

// An identity is who logs in for one session, and to which mailbox. It logs in
// again where a connection is lost. It is not safe for concurrent use.
type identity struct {
	store *Store
	creds upstream.Credentials // with the secret that was proved last
	box   string               // the mailbox, as the server names it once resolve is through
}

// identify tells who c is, and checks the name of the mailbox.
func (s *Store) identify(c upstream.Credentials) (*identity, error) {
	box := c.Mailbox
	if box == "" {
		box = s.o.Mailbox
	}
	if err := checkMailbox(box); err != nil {
		return nil, fail(upstream.Internal, opLogin, err)
	}
	return &identity{store: s, creds: c, box: canonical(box)}, nil
}

// connect makes an authenticated connection. A token that the server refuses is
// renewed once, and proved on a connection of its own: not every server takes a
// second try on the first. That the new one is refused too is no fault of the
// client, who has proved nothing by it.
func (id *identity) connect(ctx context.Context) (*conn, error) {
	c, err := id.store.connect(ctx, id.creds)
	if err == nil || id.creds.Renewer == nil || upstream.KindOf(err) != upstream.Refused {
		return c, err
	}
	id.store.o.Logger.Info("the server refuses the secret: renewing it", "op", opLogin, "err", err)
	secret, failed := id.creds.Renewer.Renew(ctx, id.creds.Secret)
	if failed != nil {
		return nil, failed
	}
	id.creds.Secret = secret
	c, err = id.store.connect(ctx, id.creds)
	if upstream.KindOf(err) == upstream.Refused && err != nil {
		err = failf(upstream.Internal, opLogin, "a secret that was just renewed: %w", err)
	}
	return c, err
}

// owner is the user whose maildrop it is. Where a master user logs in by a name
// that holds both, as clients may do themselves, it is the one in front.
func (id *identity) owner() string {
	name := owner(id.creds)
	if sep := id.store.o.MasterSeparator; sep != "" {
		name, _, _ = strings.Cut(name, sep)
	}
	return name
}

// key names the maildrop by server, mailbox and owner: whoever proves it. Most
// servers take user names in any case of letters, so that two spellings are one
// maildrop.
func (id *identity) key() string {
	o := &id.store.o
	return fmt.Sprintf("imap://%s:%d/%s;%s", o.Host, o.Port, url.PathEscape(id.box), url.PathEscape(strings.ToLower(id.owner())))
}

// cacheKey names the mailbox of this very user name. In key two spellings are
// one; here they must not be, because they may be two users.
func (id *identity) cacheKey() listcache.Key {
	o := &id.store.o
	return listcache.NewKey("imap", strings.ToLower(o.Host), strconv.Itoa(int(o.Port)), id.box, id.owner())
}

// account names whose connection it is in the pool. A connection serves every
// mailbox of the owner.
func (id *identity) account() string { return strings.ToLower(id.owner()) }

// connect makes an authenticated connection.
func (s *Store) connect(ctx context.Context, creds upstream.Credentials) (*conn, error) {
	if err := s.o.checkSpeech(creds); err != nil {
		return nil, err
	}
	start := time.Now()
	d, err := s.dial(ctx, creds)
	s.traceEnd(opConnect, start, err)
	if err != nil {
		return nil, err
	}
	start = time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.CommandTime, fmt.Errorf("no login within %v", s.o.CommandTime))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { d.guard.Abort() })
	err = d.login(creds)
	if !stop() && err != nil {
		err = fail(upstream.Unavailable, opLogin, context.Cause(ctx))
	}
	s.traceEnd(opLogin, start, err)
	if err != nil {
		d.guard.Close()
		return nil, err
	}
	return newConn(s, d, start), nil
}
