package main

import (
	"crypto/tls"
	"log/slog"
	"math"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/readahead"
	"github.com/popgate/popgate/upstream/wrap"
)

// newCache opens the lists of mailboxes; nil where there is to be none.
func newCache(c config.Cache, log *slog.Logger) (*listcache.Cache, error) {
	if c.Memory == 0 {
		return nil, nil
	}
	return listcache.New(listcache.Options{Memory: c.Memory, File: c.File, Logger: log})
}

// waitingConns is how many upstream connections wait for a next session, where
// the configuration lets them.
const waitingConns = 256

// newStore builds the IMAP mailboxes and what is wrapped around them. From the
// outside to the inside: the lock, the limits, the contract, the store. The
// function it returns lets go of the connections that wait for a next session.
func newStore(cfg config.Config, cache *listcache.Cache, m *metrics.Metrics, log *slog.Logger) (upstream.Store, func() error, error) {
	u := cfg.Upstream
	roots, err := u.Roots()
	if err != nil {
		return nil, nil, err
	}
	options := imap.Options{
		Host:        u.Host,
		Port:        u.Port,
		Security:    security(u),
		TLS:         &tls.Config{RootCAs: roots, ServerName: u.ServerName, MinVersion: tls.VersionTLS12},
		Mailbox:     u.Mailbox,
		Trash:       u.Trash,
		Delete:      policy(cfg.Delete),
		MaxMessages: cfg.Limits.MailboxMessages,
		DialTime:    cfg.Limits.UpstreamConnectTime,
		ReadAhead:   readahead.NewPool(cfg.ReadAhead.Session, cfg.ReadAhead.Total),
		Cache:       cache,
		Reuse:       u.Reuse,
		ReuseMax:    waitingConns,
		Logger:      log,
		Trace:       imapTrace(m),
	}
	if options.MaxMessages == 0 {
		options.MaxMessages = math.MaxInt32 // no limit: more than a POP3 message number is likely to be
	}
	mailboxes, err := imap.New(options)
	if err != nil {
		return nil, nil, err
	}
	store := wrap.Contract(mailboxes)
	store = wrap.Limit(store, wrap.LimitOptions{Messages: cfg.Limits.MailboxMessages, Octets: cfg.Limits.MailboxOctets})
	if cfg.Lock.Enabled {
		wait := cfg.Lock.Wait
		if wait == 0 {
			wait = -1 // do not wait
		}
		store = wrap.Lock(store, wrap.LockOptions{Wait: wait})
	}
	return store, mailboxes.Close, nil
}

func security(u config.Upstream) imap.Security {
	switch {
	case u.TLS:
		return imap.ImplicitTLS
	case u.StartTLS:
		return imap.StartTLS
	}
	return imap.Auto
}

// policy says how the store deletes. Under refuse the engine lets no deletion
// through, and the store is never asked.
func policy(d config.Delete) imap.Policy {
	switch d {
	case config.Trash:
		return imap.Trash
	case config.Hide:
		return imap.Hide
	}
	return imap.Expunge
}
