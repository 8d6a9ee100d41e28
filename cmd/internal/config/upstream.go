package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/popgate/popgate/upstream/imap/uidl"
)

// Upstream is an IMAP or JMAP service behind the gateway.
type Upstream struct {
	Name string // unique; [TheUpstream] for one that the file calls upstream
	JMAP bool   // JMAP over HTTP, and not IMAP
	Host string // name or address, IPv6 without brackets
	Port uint16
	// TLS is imaps:// and jmap+https://: TLS from the first octet. Without it the
	// connection to a loopback address stays plain; to any other IMAP needs STARTTLS,
	// and JMAP is refused.
	TLS        bool
	StartTLS   bool     // STARTTLS to a loopback address too; never with TLS
	CA         string   // PEM file of the roots to trust; "" for the system's
	ServerName string   // name expected in the certificate; "" for Host
	Bearer     bool     // JMAP: the secret is a token, and not a password
	Origins    []string // JMAP: https://HOST[:PORT] to which the secret may go beside Host
	Mailbox    string
	Trash      string // "" for the mailbox with the \Trash special use, or the role trash
	// Reuse is how long after its login a connection may serve further sessions of
	// the same account and password; 0 for one session only.
	Reuse time.Duration

	// MasterSeparator makes one login name of two users, as in alice*master; "" tells
	// the server of both by AUTHENTICATE PLAIN.
	MasterSeparator string
	// Hierarchy separates the levels of mailbox names, whatever the server uses; ""
	// for names as the server lists them.
	Hierarchy string
	// UniqueIDs is the form of the unique-ids over IMAP.
	UniqueIDs uidl.Format

	TellClient    bool // the client's address by ID, before login
	ProxyProtocol bool // the client's address in a PROXY header

	path string // of its section in the file
}

// TheUpstream is the name of the upstream in a configuration with one.
const TheUpstream = "upstream"

func defaultUpstream() Upstream { return Upstream{Mailbox: "INBOX"} }

// keys are those of one upstream.
func (u *Upstream) keys() []key {
	return []key{
		{name: "url", flag: "upstream", accepts: "imap://HOST[:PORT], imaps://HOST[:PORT] or jmap+https://HOST[:PORT]",
			set: func(s string) error { return setUpstream(u, s) }},
		choice("tls", "upstream-tls", &u.StartTLS, option("auto", false), option("starttls", true)),
		{name: "ca", flag: "upstream-ca", accepts: "a PEM file", file: true, set: text(&u.CA)},
		choice("auth", "", &u.Bearer, option("basic", false), option("bearer", true)),
		{name: "origins", accepts: "https://HOST[:PORT]", list: func() { u.Origins = nil },
			set: func(s string) error { return addOrigin(&u.Origins, s) }},
		{name: "server-name", accepts: "the name in the server's certificate", set: text(&u.ServerName)},
		{name: "mailbox", flag: "mailbox", accepts: "the name of a mailbox", set: text(&u.Mailbox)},
		{name: "trash", flag: "trash", accepts: "the name of a mailbox", set: text(&u.Trash)},
		{name: "master-separator", accepts: "what stands between two users, such as *", set: text(&u.MasterSeparator)},
		{name: "hierarchy", accepts: "one character, such as /", set: func(s string) error {
			if utf8.RuneCountInString(s) != 1 {
				return errValue
			}
			return text(&u.Hierarchy)(s)
		}},
		{name: "unique-ids", accepts: "a form such as %08Xu%08Xv", set: func(s string) (err error) {
			u.UniqueIDs, err = uidl.Parse(s)
			return err
		}},
		duration("reuse", "", &u.Reuse, 0, 10*time.Minute),
		choice("id", "", &u.TellClient, option("none", false), option("client", true)),
		boolean("proxy-protocol", &u.ProxyProtocol),
	}
}

// upstreams is the list of named upstreams.
func upstreams(all *[]Upstream) key {
	var next Upstream
	return key{name: "upstreams", accepts: "a list of sections, each with a name and a url",
		list: func() { *all = nil },
		set:  func(string) error { return errValue },
		item: func() []key {
			next = defaultUpstream()
			ks := []key{name(&next.Name)}
			for _, k := range next.keys() {
				k.flag = "" // a flag cannot say of which
				ks = append(ks, k)
			}
			return ks
		},
		add: func(path string) error {
			next.path = path
			for _, other := range *all {
				if other.Name == next.Name {
					return fmt.Errorf("another upstream has the name %s", next.Name)
				}
			}
			if next.Name == "" {
				return errors.New("the name is missing; routes refer to it")
			}
			*all = append(*all, next)
			return nil
		},
	}
}

// oneOrMany makes one list of `upstream:` and `upstreams:`.
func (l *loader) oneOrMany(c *Config) {
	_, many := l.set["upstreams"]
	switch one := &c.single; {
	case many && l.any("upstream"):
		l.report(l.place("upstreams"), "upstreams", "there is upstream too (--upstream and its flags are of it); give one of the two")
	case many && len(c.Upstreams) == 0:
		if !l.refused("upstreams") {
			l.report(l.place("upstreams"), "upstreams", "the list is empty")
		}
	case !many && one.Host == "":
		l.missing("upstream.url", "upstream", "imaps://imap.example.net", "upstream: {url: %s}")
	case !many:
		one.Name, one.path = TheUpstream, "upstream"
		c.Upstreams = []Upstream{*one}
	}
	c.single = Upstream{}
	for _, u := range c.Upstreams {
		l.upstream(u)
	}
}

// any reports whether anything was said under a section.
func (l *loader) any(section string) bool {
	for path := range l.set {
		if path == section || strings.HasPrefix(path, section+".") {
			return true
		}
	}
	return false
}

// upstream checks what no single key of an upstream can know.
func (l *loader) upstream(u Upstream) {
	wrong := func(name, format string, args ...any) {
		at := u.path + "." + name
		l.report(l.place(at), at, format, args...)
	}
	if u.Host == "" && !l.refused(u.path+".url") {
		l.report(l.place(u.path), u.path, "the url is missing; use imap://HOST[:PORT], imaps://HOST[:PORT] or jmap+https://HOST[:PORT]")
		return
	}
	switch {
	case u.StartTLS && u.JMAP:
		wrong("tls", "starttls goes with imap://, and not with %s; leave one of the two out", u)
	case u.StartTLS && u.TLS:
		wrong("tls", "starttls goes with imap://, and %s has TLS from the start; leave one of the two out", u)
	}
	if u.Bearer && !u.JMAP {
		wrong("auth", "bearer goes with jmap+https://, and not with %s; leave one of the two out", u)
	}
	if len(u.Origins) > 0 && !u.JMAP {
		wrong("origins", "origins go with jmap+https://, and not with %s; leave one of the two out", u)
	}
	if u.Reuse > 0 && u.JMAP {
		wrong("reuse", "reuse goes with imap:// and imaps://; over HTTP connections are kept anyway; leave it out")
	}
	if u.JMAP && u.MasterSeparator != "" {
		wrong("master-separator", "it goes with imap:// and imaps://; leave it out")
	}
	if u.JMAP && u.Hierarchy != "" {
		wrong("hierarchy", "it goes with imap:// and imaps://; JMAP has / always; leave it out")
	}
	if u.JMAP && u.UniqueIDs != (uidl.Format{}) {
		wrong("unique-ids", "it goes with imap:// and imaps://; over JMAP they are the server's own; leave it out")
	}
	if u.Reuse > 0 && (u.TellClient || u.ProxyProtocol) {
		wrong("reuse", "a connection that is reused would show the server the address of an earlier client; leave out reuse, or id and proxy-protocol")
	}
	if u.JMAP && (u.TellClient || u.ProxyProtocol) {
		wrong("id", "id and proxy-protocol go with imap:// and imaps://, and not with %s; leave them out", u)
	}
	if !l.refused(u.path + ".ca") {
		if _, err := u.Roots(); err != nil {
			wrong("ca", "%v", err)
		}
	}
}
