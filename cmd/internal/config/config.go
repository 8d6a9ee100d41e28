package config

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config is all that `popgate serve` needs to know. It is a plain value:
// nothing in it is open or running.
type Config struct {
	Listen    []Listen   // where POP3 clients connect; at least one
	TLS       TLS        // for pop3s:// and for STLS
	Upstreams []Upstream // the IMAP and JMAP services; at least one
	// Routes are tried in this order; at least one. Those of RoutesFile come last.
	Routes     []Route
	RoutesFile string        // is watched; "" for none
	Delete     Delete        // what a deletion does upstream, of routes that do not say
	Seen       bool          // mark as read what was retrieved, of routes that do not say
	ClearText  bool          // accept logins without TLS from anywhere
	Expire     Expire        // what CAPA says of retention
	Lock       Lock          // the exclusive lock on a maildrop
	ReadAhead  ReadAhead     // messages fetched before they are asked for
	Metrics    string        // host:port of the metrics listener; "" for none
	Status     bool          // show a page for browsers there
	Drain      time.Duration // how long sessions may go on after SIGTERM; 0 or more
	Log        Log
	Cache      Cache
	Ledger     Ledger
	Limits     Limits
	Throttle   Throttle // guesses of passwords
	Transcript Transcript
	OAuth      OAuth    `json:",omitzero"` // access tokens for mail services
	Accounts   Accounts // users whom the gateway proves itself

	single Upstream // what stands under upstream, until it is one of Upstreams
}

// TLS names the certificate that POP3 clients see, but on listeners with a
// [Legacy]. Both files are set or none.
type TLS struct {
	Cert       string     // PEM file: the chain, the server's certificate first
	Key        string     // PEM file: its private key
	MinVersion TLSVersion // TLS12 or TLS13
}

// Given reports whether there is a certificate.
func (t TLS) Given() bool { return t.Cert != "" }

// TLSVersion is a protocol version as crypto/tls numbers it.
type TLSVersion uint16

// Delete says what becomes upstream of a message that a POP3 client deleted.
type Delete string

// The deletion policies.
const (
	Expunge Delete = "expunge" // exactly the marked messages are removed
	Trash   Delete = "trash"   // they are moved to the trash mailbox
	Hide    Delete = "hide"    // they stay for other programs, out of POP3's sight
	Refuse  Delete = "refuse"  // DELE is answered with -ERR
)

// Expire is the argument of the EXPIRE capability (RFC 2449 section 6.7):
// "NEVER", a number of days, or "" where the capability is left out.
type Expire string

// Lock is the exclusive lock of RFC 1939 section 4.
type Lock struct {
	Enabled bool
	Wait    time.Duration // how long a login waits for it; 0 or more
	File    string        // keeps it between processes; "" where there is one alone
}

// ReadAhead bounds the octets of messages that are fetched before they are asked
// for.
type ReadAhead struct {
	Session int64 // of one session; 0 turns it off
	Total   int64 // of all sessions, 1 or more
}

// Log says how the log is written.
type Log struct {
	Format LogFormat
	Level  slog.Level
}

// LogFormat is the form of a log line.
type LogFormat string

// The log formats.
const (
	LogAuto LogFormat = "auto" // text on a terminal, JSON elsewhere
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Cache keeps the lists of mailboxes from one session to the next.
type Cache struct {
	Memory int64  // octets; 0 is no cache
	File   string // keeps them over a restart; "" for none
}

// Ledger remembers what was shown in the windows of routes.
type Ledger struct {
	File string // "" for none
}

// Limits bounds what clients and upstreams can take. In the fields that say
// so, 0 is no limit.
type Limits struct {
	Connections           int  // POP3 connections at a time, 1 or more
	ConnectionsPerAddress int  // of one client address; 0 is no limit
	RatePerAddress        int  // new connections a minute of one client address; 0 is no limit
	CountLoopback         bool // the two limits above hold for loopback clients too
	BadCommands           int  // commands answered with -ERR before the session ends, 1 or more
	LoginTries            int  // failed logins before the session ends, 1 or more
	LoginTime             time.Duration
	IdleTime              time.Duration // 10 minutes or more (RFC 1939 section 3)
	HandshakeTime         time.Duration
	UpstreamConnectTime   time.Duration
	MailboxMessages       int           // 0 is no limit
	MailboxOctets         int64         // of all messages; 0 is no limit
	SessionsPerAccount    int           // at a time; 0 is no limit
	LoginDelay            time.Duration // between two logins of one account; 0 is none
}

// Transcript names whose sessions are written down in the log: those of one of the
// users, from one of the networks. Of what is empty any will do, but not of both.
type Transcript struct {
	Users []string
	From  []netip.Prefix
}

// Given reports whether any session is written down.
func (t Transcript) Given() bool { return len(t.Users)+len(t.From) > 0 }

// Wants reports whether those of this user and this client are. Case does not
// matter.
func (t Transcript) Wants(user string, client netip.Addr) bool {
	named := len(t.Users) == 0 || slices.ContainsFunc(t.Users, func(u string) bool { return strings.EqualFold(u, user) })
	listed := len(t.From) == 0 || slices.ContainsFunc(t.From, func(n netip.Prefix) bool { return n.Contains(client.Unmap().WithZone("")) })
	return t.Given() && named && listed
}

// Throttle limits guesses of passwords.
type Throttle struct {
	Enabled       bool
	Guesses       int            // wrong passwords in a row, 1 or more
	Regain        time.Duration  // until one more is allowed
	Delay         time.Duration  // from a refused login to its reply; 0 is none
	Exempt        []netip.Prefix // networks whose clients do not shut each other out
	CountLoopback bool           // loopback clients are as any others
}

// Default returns the configuration without a file and without flags. It is
// not complete: Listen and Upstreams have no default.
func Default() Config {
	return Config{
		TLS:       TLS{MinVersion: TLS12},
		single:    defaultUpstream(),
		Delete:    Expunge,
		Expire:    "NEVER",
		Lock:      Lock{Enabled: true, Wait: 3 * time.Second},
		ReadAhead: ReadAhead{Session: 4 << 20, Total: 64 << 20},
		Status:    true,
		Drain:     30 * time.Second,
		Log:       Log{Format: LogAuto, Level: slog.LevelInfo},
		Cache:     Cache{Memory: 64 << 20},
		Limits: Limits{
			Connections:           10_000,
			ConnectionsPerAddress: 100,
			RatePerAddress:        300,
			BadCommands:           10,
			LoginTries:            3,
			LoginTime:             2 * time.Minute,
			IdleTime:              10 * time.Minute,
			HandshakeTime:         15 * time.Second,
			UpstreamConnectTime:   10 * time.Second,
			MailboxMessages:       1_000_000,
			SessionsPerAccount:    10,
		},
		Throttle: Throttle{Enabled: true, Guesses: 20, Regain: 20 * time.Second, Delay: 3 * time.Second},
	}
}

// Warnings lists what is allowed but worth a second look at this time, in plain
// sentences. It reads the certificates again.
func (c Config) Warnings(now time.Time) []string {
	var w []string
	expired := func(key, file string, cert tls.Certificate, err error) {
		if err == nil && now.After(cert.Leaf.NotAfter) {
			w = append(w, key+": "+file+" expired on "+cert.Leaf.NotAfter.Format(time.DateOnly)+"; clients will refuse it")
		}
	}
	if c.TLS.Given() {
		cert, err := c.TLS.Certificate()
		expired("tls.cert", c.TLS.Cert, cert, err)
	}
	for _, l := range c.Listen {
		if l.Legacy.Given() {
			cert, err := l.Legacy.Certificate()
			expired(l.path+".legacy.cert", l.Legacy.Cert, cert, err)
		}
	}
	if c.ClearText {
		w = append(w, "clear-text-login: anywhere lets passwords cross the network unencrypted")
	}
	if c.Metrics != "" && !loopbackAddress(c.Metrics) {
		w = append(w, "metrics: "+c.Metrics+" can be read by other machines, and asks for no password")
	}
	if !c.Lock.Enabled {
		w = append(w, "lock.enabled: false lets two sessions change one maildrop at the same time")
	}
	if c.Transcript.Given() {
		w = append(w, "transcript: what some users read and delete is written to the log, message by message, until it is taken out again")
	}
	w = append(w, c.routeWarnings()...)
	if !c.Throttle.Enabled {
		w = append(w, "throttle.enabled: false lets anybody try passwords as fast as the mail server answers")
	}
	return append(w, c.Accounts.warnings()...)
}
