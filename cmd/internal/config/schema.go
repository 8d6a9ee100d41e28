package config

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// The TLS versions that may be asked for.
const (
	TLS12 TLSVersion = tls.VersionTLS12
	TLS13 TLSVersion = tls.VersionTLS13
)

// A key is one name in the file: a section (keys), a value (set), or a list
// of values (set and list), some of which may be sections (item and add).
type key struct {
	name    string
	flag    string // without dashes; "" where there is none
	accepts string // completes "use ..." in a message
	set     func(text string) error
	list    func() // called before the first value: empties the list
	file    bool   // a file name, relative to where it was given
	keys    []key
	item    func() []key            // begins an item that is a section, and returns its keys
	add     func(path string) error // ends it
}

// schema is the whole of the configuration: what each key is called, what it
// accepts, and where in c it goes.
func schema(c *Config) []key {
	l, listeners := &c.Limits, &listening{all: &c.Listen}
	return []key{
		listeners.key(),
		{name: "tls", keys: []key{
			{name: "cert", flag: "tls-cert", accepts: "a PEM file", file: true, set: text(&c.TLS.Cert)},
			{name: "key", flag: "tls-key", accepts: "a PEM file", file: true, set: text(&c.TLS.Key)},
			choice("min-version", "", &c.TLS.MinVersion, option("1.2", TLS12), option("1.3", TLS13)),
		}},
		{name: "upstream", keys: c.single.keys()},
		upstreams(&c.Upstreams),
		routes(&c.Routes),
		{name: "routes-file", accepts: "a file name", file: true, set: text(&c.RoutesFile)},
		deletePolicy("delete", &c.Delete),
		seen("seen", &c.Seen),
		choice("clear-text-login", "clear-text-login", &c.ClearText, option("loopback", false), option("anywhere", true)),
		{name: "expire", accepts: "never, omit or a number of days", set: func(s string) error { return setExpire(&c.Expire, s) }},
		{name: "lock", keys: []key{
			boolean("enabled", &c.Lock.Enabled),
			duration("wait", "", &c.Lock.Wait, 0, time.Minute),
			{name: "file", accepts: "a file name", file: true, set: text(&c.Lock.File)},
		}},
		{name: "read-ahead", keys: []key{
			optional(octets, "session", &c.ReadAhead.Session),
			octets("total", &c.ReadAhead.Total),
		}},
		{name: "metrics", flag: "metrics", accepts: "HOST:PORT", set: func(s string) error { return setHostPort(&c.Metrics, s) }},
		boolean("status", &c.Status),
		duration("drain", "drain", &c.Drain, 0, time.Hour),
		{name: "log", keys: []key{
			choice("format", "log-format", &c.Log.Format, option("auto", LogAuto), option("text", LogText), option("json", LogJSON)),
			choice("level", "log-level", &c.Log.Level, option("debug", slog.LevelDebug), option("info", slog.LevelInfo),
				option("warn", slog.LevelWarn), option("error", slog.LevelError)),
		}},
		{name: "cache", keys: []key{
			optional(octets, "memory", &c.Cache.Memory),
			{name: "file", accepts: "a file name", file: true, set: text(&c.Cache.File)},
		}},
		{name: "ledger", keys: []key{
			{name: "file", accepts: "a file name", file: true, set: text(&c.Ledger.File)},
		}},
		{name: "limits", keys: []key{
			number(1, 1_000_000)("connections", &l.Connections),
			optional(number(1, 1_000_000), "connections-per-address", &l.ConnectionsPerAddress),
			optional(number(1, 1_000_000), "rate-per-address", &l.RatePerAddress),
			boolean("count-loopback", &l.CountLoopback),
			number(1, 1000)("bad-commands", &l.BadCommands),
			number(1, 100)("login-tries", &l.LoginTries),
			duration("login-time", "", &l.LoginTime, 10*time.Second, time.Hour),
			// RFC 1939 section 3: an autologout timer is of at least 10 minutes.
			duration("idle-time", "", &l.IdleTime, 10*time.Minute, 24*time.Hour),
			duration("handshake-time", "", &l.HandshakeTime, time.Second, 10*time.Minute),
			duration("upstream-connect-time", "", &l.UpstreamConnectTime, time.Second, 10*time.Minute),
			optional(number(1, 10_000_000), "mailbox-messages", &l.MailboxMessages),
			optional(octets, "mailbox-octets", &l.MailboxOctets),
			optional(number(1, 10_000), "sessions-per-account", &l.SessionsPerAccount),
			duration("login-delay", "", &l.LoginDelay, 0, 24*time.Hour),
		}},
		{name: "throttle", keys: []key{
			boolean("enabled", &c.Throttle.Enabled),
			number(1, 10_000)("guesses", &c.Throttle.Guesses),
			duration("regain", "", &c.Throttle.Regain, time.Second, time.Hour),
			duration("delay", "", &c.Throttle.Delay, 0, 30*time.Second),
			{name: "exempt", accepts: "networks such as 192.0.2.0/24 or 2001:db8::/32",
				list: func() { c.Throttle.Exempt = nil },
				set:  func(s string) error { return addNetwork(&c.Throttle.Exempt, s) }},
			boolean("count-loopback", &c.Throttle.CountLoopback),
		}},
		{name: "transcript", keys: []key{
			texts("users", "user names", &c.Transcript.Users, nil),
			{name: "from", accepts: "networks such as 192.0.2.0/24 or 2001:db8::/32",
				list: func() { c.Transcript.From = nil },
				set:  func(s string) error { return addNetwork(&c.Transcript.From, s) }},
		}},
		oauthKey(&c.OAuth),
		accountsKey(&c.Accounts),
	}
}

// names lists what ks are called, in order.
func names(ks []key) []string {
	out := make([]string, len(ks))
	for i, k := range ks {
		out[i] = k.name
	}
	return out
}

// Flags is what the command line gave: values by flag, without dashes. A flag
// that is absent was not given.
type Flags map[string][]string

// FlagNames lists the flags that [Load] understands.
func FlagNames() []string {
	var out []string
	walk(schema(new(Config)), "", func(_ string, k key) {
		if k.flag != "" {
			out = append(out, k.flag)
		}
	})
	return out
}

// Names lists every section and every key of the file, with its full name such as
// limits.idle-time.
func Names() []string {
	var out []string
	var add func(ks []key, prefix string)
	add = func(ks []key, prefix string) {
		for _, k := range ks {
			out = append(out, prefix+k.name)
			add(k.keys, prefix+k.name+".")
			if k.item != nil {
				add(k.item(), prefix+k.name+".")
			}
		}
	}
	add(schema(new(Config)), "")
	return out
}

// walk calls f for every key that takes a value, with its full name.
func walk(ks []key, prefix string, f func(path string, k key)) {
	for _, k := range ks {
		if k.keys != nil {
			walk(k.keys, prefix+k.name+".", f)
			continue
		}
		f(prefix+k.name, k)
		if k.item != nil {
			walk(k.item(), prefix+k.name+".", f)
		}
	}
}
