package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/popgate/popgate/upstream/imap/imapguard"
	"github.com/popgate/popgate/upstream/imap/ledger"
	"github.com/popgate/popgate/upstream/imap/listcache"
	"github.com/popgate/popgate/upstream/imap/uidl"
	"github.com/popgate/popgate/upstream/readahead"
)

// Security says how the connection to the server is protected.
type Security uint8

const (
	// Auto leaves the connection to a loopback address (127.0.0.0/8, ::1) in
	// clear text, and requires STARTTLS to any other.
	Auto Security = iota
	// StartTLS requires STARTTLS to any address.
	StartTLS
	// ImplicitTLS speaks TLS from the first octet.
	ImplicitTLS
)

// Policy says what becomes of a message that a POP3 client deleted.
type Policy uint8

const (
	// Expunge removes it from the mailbox; without UIDPLUS it is flagged
	// \Deleted.
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
	Host     string // name or address of the server; certificates are verified against it
	Port     uint16
	Security Security
	TLS      *tls.Config // roots and the like; may be nil; ServerName overrides Host

	// SendClient tells the server the POP3 client's address by ID (RFC 2971)
	// before login, where it offers ID; one round trip more. Dovecot believes
	// it from its login_trusted_networks.
	SendClient bool
	// ProxyProtocol begins each connection with a header of the PROXY protocol,
	// version 2, which tells the POP3 client's address. The server has to
	// expect it.
	ProxyProtocol bool

	// MasterSeparator makes one login name of the user whose maildrop is wanted
	// and the one who proves it, in this order: with "*" alice*master, as Dovecot
	// may be set up. "" gives both to AUTHENTICATE PLAIN (RFC 4616), which most
	// servers have. It is for passwords: a token is for whom it is for. Where the
	// server takes such names and clients send them, it has to be set, or they
	// have other locks than the user in front.
	MasterSeparator string

	Mailbox string // where a login names none; "" is INBOX
	// Hierarchy separates the levels of mailbox names as clients and operators
	// write them, one character, mostly "/"; names are then looked up in the
	// user's personal namespace, whatever separator and prefix the server has
	// for it ("INBOX." at Courier). With "" names are those that the server
	// lists. One more round trip for a mailbox other than INBOX.
	Hierarchy string

	// UniqueIDs is the form of unique-ids; zero is "<UIDVALIDITY>.<UID>" in decimal.
	UniqueIDs uidl.Format

	// Window shows a part of the mailbox; it needs a Ledger. One SEARCH more for a
	// login that finds messages which were not shown yet.
	Window Window
	// Ledger remembers what was shown in a window; it may be shared by stores.
	Ledger *ledger.Ledger

	Trash  string // mailbox of the Trash policy; "" is the one with the \Trash use
	Delete Policy

	MaxMessages int           // of a mailbox; a larger one is refused; 1,000,000
	DialTime    time.Duration // to connect to one address, TLS and greeting included; 15 s
	CommandTime time.Duration // for a command that brings little; 60 s
	ListTime    time.Duration // to list a mailbox; 5 min
	KeepAlive   time.Duration // between NOOPs while the POP3 client idles; 4 min

	ReadAhead *readahead.Pool  // room for messages fetched before they are asked for; nil: none
	Cache     *listcache.Cache // keeps lists from one session to the next; may be nil, and shared by stores

	// Reuse lets a connection wait, after a session that ended well, for the next
	// session of the account, this long after its login; 0 ends it with the
	// session. Within this time a login with the same password is not shown to
	// the server.
	Reuse    time.Duration
	ReuseMax int // connections that wait at a time, one for an account; 256

	Guard  imapguard.Limits
	Logger *slog.Logger // nil discards
	Trace  Trace

	// For tests; nil means the network.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Trace is told what goes on. Each function may be nil, is called
// synchronously, and must be safe for concurrent use.
type Trace struct {
	// Request ends one step towards the server. Op is one of Ops, result "ok"
	// or the text of an upstream.Kind.
	Request func(op, result string, d time.Duration)
	// Connection is +1 for a connection authenticated, -1 for one closed.
	Connection func(delta int)
	// ReadAhead says that of the messages fetched ahead so many were asked for,
	// and so many were let go.
	ReadAhead func(used, dropped int)
	// Listed says how a mailbox was listed: one of Listings.
	Listed func(how string)
	// Renumbered says that the server gave the messages of a mailbox, which the
	// cache knows, other UIDs than before: their unique-ids are new.
	Renumbered func()
	// SeenFailed says that n messages could not be marked \Seen.
	SeenFailed func(n int)
	// Reused says that a session goes on with a connection that has waited.
	Reused func()
}

// Ops lists the values of op that Trace.Request gets.
func Ops() []string {
	return []string{opConnect, opLogin, opSelect, opList, opSearch, opFetch, opStore, opExpunge, opCopy, opMove, opNoop, opMailboxes}
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
	opConnect   = "connect"
	opLogin     = "login"
	opSelect    = "select"
	opList      = "list"
	opSearch    = "search"
	opFetch     = "fetch"
	opStore     = "store"
	opExpunge   = "expunge"
	opCopy      = "copy"
	opMove      = "move"
	opNoop      = "noop"
	opMailboxes = "mailboxes"
)

func (o Options) withDefaults() (Options, error) {
	if o.Host == "" {
		return o, errors.New("imap: no host")
	}
	if o.Port == 0 {
		o.Port = 143
		if o.Security == ImplicitTLS {
			o.Port = 993
		}
	}
	if o.Security > ImplicitTLS || o.Delete > Hide {
		return o, fmt.Errorf("imap: unknown security %d or delete policy %d", o.Security, o.Delete)
	}
	if o.Mailbox == "" {
		o.Mailbox = inbox
	}
	if err := checkMailbox(o.Mailbox); err != nil {
		return o, fmt.Errorf("imap: %w", err)
	}
	if n := utf8.RuneCountInString(o.Hierarchy); n > 1 || strings.ContainsFunc(o.Hierarchy+o.MasterSeparator, unicode.IsControl) {
		return o, errors.New("imap: the hierarchy separator is one character, and no separator holds control characters")
	}
	if err := o.Window.check(); err != nil {
		return o, err
	}
	if o.Window != (Window{}) && o.Ledger == nil {
		return o, errors.New("imap: a window needs a ledger, or what was shown once would not stay")
	}
	if o.MaxMessages <= 0 {
		o.MaxMessages = 1_000_000
	}
	if o.ReuseMax <= 0 {
		o.ReuseMax = 256
	}
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&o.DialTime, 15 * time.Second}, {&o.CommandTime, time.Minute}, {&o.ListTime, 5 * time.Minute}, {&o.KeepAlive, 4 * time.Minute}} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if o.Guard.Command <= 0 {
		// A line of a listing takes up to 80 octets, more with items that
		// nobody asked for.
		o.Guard.Command = 16<<20 + 160*int64(o.MaxMessages)
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{}
	}
	o.TLS = o.TLS.Clone()
	if o.TLS.ServerName == "" {
		o.TLS.ServerName = o.Host
	}
	if o.TLS.MinVersion == 0 {
		o.TLS.MinVersion = tls.VersionTLS12
	}
	// A cache of its own: no session is resumed that was verified against other
	// roots or with another certificate. It has one entry, for the one name.
	o.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Lookup == nil {
		o.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return o, nil
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

func (t Trace) renumbered() {
	if t.Renumbered != nil {
		t.Renumbered()
	}
}

func (t Trace) reused() {
	if t.Reused != nil {
		t.Reused()
	}
}

func (t Trace) seenFailed(n int) {
	if t.SeenFailed != nil {
		t.SeenFailed(n)
	}
}
