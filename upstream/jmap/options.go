package jmap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream/readahead"
)

// Auth says how credentials are shown to the server.
type Auth uint8

const (
	// Basic sends user and secret (RFC 7617).
	Basic Auth = iota
	// Bearer sends the secret as a token (RFC 6750). The user must be the one that
	// the server knows by it.
	Bearer
)

// Policy says what becomes of a message that a POP3 client deleted.
type Policy uint8

const (
	// Expunge removes it from the mailbox, and destroys it if it is in no other.
	Expunge Policy = iota
	// Trash moves it to the trash mailbox.
	Trash
	// Hide leaves it for other programs and marks it with [HiddenKeyword].
	Hide
)

// HiddenKeyword marks messages that no POP3 session shows again.
const HiddenKeyword = "popgate-hidden"

// Options is what a Store needs to know. Zero values of limits and times mean
// the defaults.
type Options struct {
	// URL is https://HOST[:PORT][/PATH]; http:// to a loopback address alone.
	// Without a path the session resource is at /.well-known/jmap.
	URL string
	// Origins are further ones, https://HOST[:PORT], to which credentials may go
	// where the session resource says so. Without them it is the one of URL alone. A
	// redirect never leads there.
	Origins []string
	TLS     *tls.Config // roots and the like; may be nil; ServerName is for URL alone
	Auth    Auth        // of the secrets that are no tokens by themselves (upstream.Bearer)

	Mailbox string // "" and INBOX are the one with the role inbox; else a name, or names from the top joined by "/"
	Trash   string // mailbox of the Trash policy; "" is the one with the role trash
	Delete  Policy

	MaxMessages int           // of a mailbox; a larger one is refused; 1,000,000
	DialTime    time.Duration // to connect, TLS included; 15 s
	CallTime    time.Duration // for a request and its answer, of a body to its first octet; a third of it for a change; 60 s
	ListTime    time.Duration // to list a mailbox; 5 min
	StallTime   time.Duration // a body may bring nothing for so long; 60 s
	RetryWait   time.Duration // the longest Retry-After that is waited for; 10 s
	IdleTime    time.Duration // an HTTP connection is kept for so long; 60 s
	MaxIdle     int           // HTTP connections that are kept; 100

	ReadAhead *readahead.Pool // room for messages fetched before they are asked for; nil: none
	Cache     *Cache          // keeps lists from one session to the next; may be nil, and shared by stores

	Logger *slog.Logger // nil discards
	Trace  Trace

	// For tests; nil means the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Trace is told what goes on. Each function may be nil, is called
// synchronously, and must be safe for concurrent use.
type Trace struct {
	// Request ends one request to the server; of a body it ends at its beginning.
	// Op is one of Ops, result "ok" or the text of an upstream.Kind.
	Request func(op, result string, d time.Duration)
	// Connection is +1 for an HTTP connection opened, -1 for one closed.
	Connection func(delta int)
	// ReadAhead says that of the messages fetched ahead so many were asked for,
	// and so many were let go.
	ReadAhead func(used, dropped int)
	// Listed says how a mailbox was listed: one of Listings.
	Listed func(how string)
	// SeenFailed says that n messages could not be marked as read.
	SeenFailed func(n int)
}

// Ops lists the values of op that Trace.Request gets.
func Ops() []string {
	return []string{opLogin, opMailboxes, opList, opLook, opFetch, opStore}
}

// Listings lists the values of how that Trace.Listed gets.
func Listings() []string { return []string{listedFull, listedUnchanged, listedAdded, listedRemoved} }

const (
	listedFull      = "full"      // every message
	listedUnchanged = "unchanged" // none: as it was
	listedAdded     = "added"     // those that came since
	listedRemoved   = "removed"   // those that came since, and what of the others is left
)

const (
	opLogin     = "login"     // the session resource
	opMailboxes = "mailboxes" // Mailbox/get
	opList      = "list"      // Email/query and Email/get
	opLook      = "look"      // Email/get
	opFetch     = "fetch"     // a blob
	opStore     = "store"     // Email/set
)

// parseURL reads an address to which credentials may go.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("jmap: %w", err)
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, fmt.Errorf("jmap: %q is no https:// URL", u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("jmap: the URL holds more than a host, a port and a path")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("jmap: http:// sends passwords in clear text and is for loopback addresses alone")
	}
	return u, nil
}

// parseOrigin reads one of Options.Origins.
func parseOrigin(text string) (*url.URL, error) {
	u, err := parseURL(text)
	if err == nil && u.Path != "" && u.Path != "/" {
		err = fmt.Errorf("jmap: %q is more than an origin, https://HOST[:PORT]", u.Redacted())
	}
	return u, err
}

func (o Options) withDefaults() (Options, *url.URL, error) {
	u, err := parseURL(o.URL)
	switch {
	case err != nil:
		return o, nil, err
	case o.Auth > Bearer || o.Delete > Hide:
		return o, nil, fmt.Errorf("jmap: unknown authentication %d or delete policy %d", o.Auth, o.Delete)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/.well-known/jmap"
	}
	if o.MaxMessages <= 0 {
		o.MaxMessages = 1_000_000
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = 100
	}
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{
		{&o.DialTime, 15 * time.Second}, {&o.CallTime, time.Minute}, {&o.ListTime, 5 * time.Minute},
		{&o.StallTime, time.Minute}, {&o.RetryWait, 10 * time.Second}, {&o.IdleTime, time.Minute},
	} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{}
	}
	o.TLS = o.TLS.Clone()
	if o.TLS.MinVersion == 0 {
		o.TLS.MinVersion = tls.VersionTLS12
	}
	if o.TLS.ClientSessionCache == nil {
		o.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(64)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	return o, u, nil
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func (t Trace) request(op, result string, d time.Duration) {
	if t.Request != nil {
		t.Request(op, result, d)
	}
}

func (t Trace) connection(delta int) {
	if t.Connection != nil {
		t.Connection(delta)
	}
}

func (t Trace) readAhead(used, dropped int) {
	if t.ReadAhead != nil && used+dropped > 0 {
		t.ReadAhead(used, dropped)
	}
}

func (t Trace) listed(how string) {
	if t.Listed != nil {
		t.Listed(how)
	}
}

func (t Trace) seenFailed(n int) {
	if t.SeenFailed != nil {
		t.SeenFailed(n)
	}
}
