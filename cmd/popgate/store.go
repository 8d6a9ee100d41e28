package main

import (
	"crypto/tls"
	"log/slog"
	"math"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/accounts"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/oauth"
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

// newStore builds the mailboxes and what is wrapped around them. From the outside
// to the inside: the throttle, the limits of an account, the lock, the limits of a
// mailbox, the contract, the store. The function it
// returns lets go of the connections that wait for a next session.
func newStore(cfg config.Config, local *accounts.Accounts, tokens *oauth.Tokens, cache *listcache.Cache, m *metrics.Metrics, log *slog.Logger) (upstream.Store, func() error, error) {
	var mailboxes interface {
		upstream.Store
		Close() error
	}
	var err error
	if cfg.Upstream.JMAP {
		mailboxes, err = newJMAP(cfg, m, log)
	} else {
		mailboxes, err = newIMAP(cfg, cache, m, log)
	}
	if err != nil {
		return nil, nil, err
	}
	store := wrap.Contract(mailboxes)
	if tokens != nil {
		store = &tokenStore{store, tokens}
	}
	if local != nil {
		store = &provedStore{store, local}
	}
	store = wrap.Terms(store, upstream.Terms{ReadOnly: cfg.Delete == config.Refuse, MarkSeen: cfg.Seen})
	store = wrap.Limit(store, wrap.LimitOptions{Messages: cfg.Limits.MailboxMessages, Octets: cfg.Limits.MailboxOctets})
	if cfg.Lock.Enabled {
		wait := cfg.Lock.Wait
		if wait == 0 {
			wait = -1 // do not wait
		}
		store = wrap.Lock(store, wrap.LockOptions{Wait: wait})
	}
	if n := cfg.Limits.SessionsPerAccount; n > 0 {
		store = wrap.Sessions(store, n)
	}
	if d := cfg.Limits.LoginDelay; d > 0 {
		store = wrap.LoginDelay(store, d)
	}
	if cfg.Throttle.Enabled {
		store = wrap.Throttle(store, throttleOptions(cfg, m))
	}
	return store, mailboxes.Close, nil
}

// ops are the requests that the store traces.
func ops(u config.Upstream) []string {
	if u.JMAP {
		return jmap.Ops()
	}
	return imap.Ops()
}

// upstreamConfig is the TLS of the connection to the mail service.
func upstreamConfig(u config.Upstream) (*tls.Config, error) {
	roots, err := u.Roots()
	return &tls.Config{RootCAs: roots, ServerName: u.ServerName, MinVersion: tls.VersionTLS12}, err
}

// mailboxMessages is the limit on a mailbox. No limit is more than a POP3 message
// number is likely to be.
func mailboxMessages(l config.Limits) int {
	if l.MailboxMessages == 0 {
		return math.MaxInt32
	}
	return l.MailboxMessages
}

func newIMAP(cfg config.Config, cache *listcache.Cache, m *metrics.Metrics, log *slog.Logger) (*imap.Store, error) {
	u := cfg.Upstream
	secure, err := upstreamConfig(u)
	if err != nil {
		return nil, err
	}
	return imap.New(imap.Options{
		Host:          u.Host,
		Port:          u.Port,
		Security:      security(u),
		TLS:           secure,
		Mailbox:       u.Mailbox,
		Trash:         u.Trash,
		Delete:        policy(cfg.Delete),
		SendClient:    u.TellClient,
		ProxyProtocol: u.ProxyProtocol,
		MaxMessages:   mailboxMessages(cfg.Limits),
		DialTime:      cfg.Limits.UpstreamConnectTime,
		ReadAhead:     readahead.NewPool(cfg.ReadAhead.Session, cfg.ReadAhead.Total),
		Cache:         cache,
		Reuse:         u.Reuse,
		ReuseMax:      waitingConns,
		Logger:        log,
		Trace:         imapTrace(m),
	})
}

func newJMAP(cfg config.Config, m *metrics.Metrics, log *slog.Logger) (*jmap.Store, error) {
	u := cfg.Upstream
	secure, err := upstreamConfig(u)
	if err != nil {
		return nil, err
	}
	options := jmap.Options{
		URL:         "https://" + u.Address(),
		TLS:         secure,
		Mailbox:     u.Mailbox,
		Trash:       u.Trash,
		Delete:      jmapPolicy(cfg.Delete),
		MaxMessages: mailboxMessages(cfg.Limits),
		DialTime:    cfg.Limits.UpstreamConnectTime,
		Logger:      log,
		Trace:       jmapTrace(m),
	}
	if !u.TLS {
		options.URL = "http://" + u.Address()
	}
	if u.Bearer {
		options.Auth = jmap.Bearer
	}
	return jmap.New(options)
}

func throttleOptions(cfg config.Config, m *metrics.Metrics) wrap.ThrottleOptions {
	t := cfg.Throttle
	o := wrap.ThrottleOptions{
		Guesses: t.Guesses, Regain: t.Regain, Delay: t.Delay, Exempt: t.Exempt, CountLoopback: t.CountLoopback,
		Trace: throttleTrace(m),
	}
	if o.Delay == 0 {
		o.Delay = -1 // none
	}
	// Logins under way must not crowd out what is remembered of guessers.
	const least, most = 1 << 15, 1 << 18
	o.Entries = max(least, min(2*cfg.Limits.Connections, most))
	return o
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

func jmapPolicy(d config.Delete) jmap.Policy {
	switch d {
	case config.Trash:
		return jmap.Trash
	case config.Hide:
		return jmap.Hide
	}
	return jmap.Expunge
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
