package main

import (
	"crypto/tls"
	"log/slog"
	"math"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/readahead"
	"github.com/popgate/popgate/upstream/wrap"
)

// newStore builds the IMAP mailboxes and what is wrapped around them. From the
// outside to the inside: the throttle, the limits of an account, the lock, the
// limits of a mailbox, the contract, the store.
func newStore(cfg config.Config, m *metrics.Metrics, log *slog.Logger) (upstream.Store, error) {
	u := cfg.Upstream
	roots, err := u.Roots()
	if err != nil {
		return nil, err
	}
	options := imap.Options{
		Host:          u.Host,
		Port:          u.Port,
		Security:      security(u),
		TLS:           &tls.Config{RootCAs: roots, ServerName: u.ServerName, MinVersion: tls.VersionTLS12},
		Mailbox:       u.Mailbox,
		Trash:         u.Trash,
		Delete:        policy(cfg.Delete),
		SendClient:    u.TellClient,
		ProxyProtocol: u.ProxyProtocol,
		MaxMessages:   cfg.Limits.MailboxMessages,
		DialTime:      cfg.Limits.UpstreamConnectTime,
		ReadAhead:     readahead.NewPool(cfg.ReadAhead.Session, cfg.ReadAhead.Total),
		Logger:        log,
		Trace:         imapTrace(m),
	}
	if options.MaxMessages == 0 {
		options.MaxMessages = math.MaxInt32 // no limit: more than a POP3 message number is likely to be
	}
	var store upstream.Store
	if store, err = imap.New(options); err != nil {
		return nil, err
	}
	store = wrap.Contract(store)
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
	return store, nil
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
