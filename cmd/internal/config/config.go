package config

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"
)

// Config is all that `popgate serve` needs to know. It is a plain value:
// nothing in it is open or running.
type Config struct {
	Listen    []Listen      // where POP3 clients connect; at least one
	TLS       TLS           // for pop3s:// and for STLS
	Upstream  Upstream      // the IMAP or JMAP service
	Delete    Delete        // what a deletion does upstream
	Seen      bool          // mark as read what was retrieved
	ClearText bool          // accept logins without TLS from anywhere
	Expire    Expire        // what CAPA says of retention
	Lock      Lock          // the exclusive lock on a maildrop
	ReadAhead ReadAhead     // messages fetched before they are asked for
	Metrics   string        // host:port of the metrics listener; "" for none
	Drain     time.Duration // how long sessions may go on after SIGTERM; 0 or more
	Log       Log
	Cache     Cache
	Limits    Limits
	Throttle  Throttle // guesses of passwords
	Accounts  Accounts // users whom the gateway proves itself
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

// Upstream is the IMAP or JMAP service behind the gateway.
type Upstream struct {
	JMAP bool   // JMAP over HTTP, and not IMAP
	Host string // name or address, IPv6 without brackets
	Port uint16
	// TLS is imaps:// and jmap+https://: TLS from the first octet. Without it the
	// connection to a loopback address stays plain; to any other IMAP needs STARTTLS,
	// and JMAP is refused.
	TLS        bool
	StartTLS   bool   // STARTTLS to a loopback address too; never with TLS
	CA         string // PEM file of the roots to trust; "" for the system's
	ServerName string // name expected in the certificate; "" for Host
	Bearer     bool   // JMAP: the secret is a token, and not a password
	Mailbox    string
	Trash      string // "" for the mailbox with the \Trash special use, or the role trash
	// Reuse is how long after its login a connection may serve further sessions of
	// the same account and password; 0 for one session only.
	Reuse time.Duration

	TellClient    bool // the client's address by ID, before login
	ProxyProtocol bool // the client's address in a PROXY header
}

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
// not complete: Listen and Upstream.Host have no default.
func Default() Config {
	return Config{
		TLS:       TLS{MinVersion: TLS12},
		Upstream:  Upstream{Mailbox: "INBOX"},
		Delete:    Expunge,
		Expire:    "NEVER",
		Lock:      Lock{Enabled: true, Wait: 3 * time.Second},
		ReadAhead: ReadAhead{Session: 4 << 20, Total: 64 << 20},
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
	if !c.Throttle.Enabled {
		w = append(w, "throttle.enabled: false lets anybody try passwords as fast as the mail server answers")
	}
	return append(w, c.Accounts.warnings()...)
}
