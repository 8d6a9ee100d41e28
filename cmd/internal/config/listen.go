package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Listen is one address where POP3 clients connect.
type Listen struct {
	Name    string         // for logs, metrics and routes; "" for its URL
	TLS     bool           // pop3s://: TLS from the first octet
	Host    string         // name or address, IPv6 without brackets; "" for every address of the machine
	Port    uint16         // 0 for a free one
	Proxies []netip.Prefix // where there are any, only they connect, with PROXY headers
	Legacy  Legacy

	SharedSecrets bool   // APOP, CRAM-MD5 and SCRAM-SHA-256, for accounts with a shared secret
	Bearer        bool   // XOAUTH2 and OAUTHBEARER
	ClientCA      string // PEM file: who signs certificates of clients; "" for none

	path string // of its section in the file; "" for one that is a URL alone
}

// Legacy lets old devices in on one listener: TLS from 1.0 on, from some networks,
// with a certificate of its own. All of it is given, or nothing.
type Legacy struct {
	From []netip.Prefix // the clients that are served at all on this listener
	Cert string         // PEM file: the chain, the server's certificate first, of an RSA key
	Key  string         // PEM file: its private key
}

// Given reports whether the listener is for old devices.
func (l Legacy) Given() bool { return l.Cert != "" }

// at is the key that the listener comes from.
func (l Listen) at() string { return cmp.Or(l.path, "listen") }

// Address returns host:port, as net.Listen takes it.
func (l Listen) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port))) }

// String returns the URL of the listener, with its port.
func (l Listen) String() string {
	if l.TLS {
		return "pop3s://" + l.Address()
	}
	return "pop3://" + l.Address()
}

// Loopback reports whether only programs on this machine are clients of the
// listener: a proxy brings clients from elsewhere.
func (l Listen) Loopback() bool { return loopbackHost(l.Host) && len(l.Proxies) == 0 }

// A listening collects the listeners of a configuration. What is under way is in
// next.
type listening struct {
	all  *[]Listen
	next Listen
}

const acceptsListen = "pop3://HOST[:PORT] or pop3s://HOST[:PORT]"

// key is the list of listeners: each is a URL, or a section with one.
func (l *listening) key() key {
	return key{name: "listen", flag: "listen", accepts: acceptsListen,
		list: func() { *l.all = nil },
		set: func(s string) error {
			l.next = Listen{}
			if err := l.url(s); err != nil {
				return err
			}
			return l.add("")
		},
		item: l.section, add: l.add,
	}
}

// section begins a listener and returns the keys that fill it.
func (l *listening) section() []key {
	l.next = Listen{}
	return []key{
		{name: "url", accepts: acceptsListen, set: l.url},
		name(&l.next.Name),
		{name: "proxy-protocol", keys: []key{networks("from", &l.next.Proxies)}},
		{name: "legacy", keys: []key{
			networks("from", &l.next.Legacy.From),
			{name: "cert", accepts: "a PEM file", file: true, set: text(&l.next.Legacy.Cert)},
			{name: "key", accepts: "a PEM file", file: true, set: text(&l.next.Legacy.Key)},
		}},
		boolean("shared-secrets", &l.next.SharedSecrets),
		boolean("bearer", &l.next.Bearer),
		{name: "client-ca", accepts: "a PEM file", file: true, set: text(&l.next.ClientCA)},
	}
}

func (l *listening) url(s string) error {
	var defaultPort uint16
	scheme, rest, _ := strings.Cut(s, "://")
	switch strings.ToLower(scheme) {
	case "pop3":
		defaultPort = 110
	case "pop3s":
		l.next.TLS, defaultPort = true, 995
	default:
		return errValue
	}
	var err error
	l.next.Host, l.next.Port, err = authority(rest, defaultPort)
	return err
}

// add ends a listener.
func (l *listening) add(path string) error {
	l.next.path = path
	for _, other := range *l.all {
		if other.Port != 0 && other.Address() == l.next.Address() {
			return errors.New("that address and port are listed twice")
		}
		if other.Name != "" && other.Name == l.next.Name {
			return fmt.Errorf("another listener has the name %s", other.Name)
		}
	}
	*l.all = append(*l.all, l.next)
	return nil
}

// networks is a key that accepts a list of networks and addresses.
func networks(name string, to *[]netip.Prefix) key {
	return key{name: name, accepts: "a network such as 10.0.0.0/8 or 2001:db8::/32, or an address",
		list: func() { *to = nil },
		set: func(s string) error {
			network, err := netip.ParsePrefix(s)
			if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
				network, err = netip.PrefixFrom(a, a.BitLen()), nil
			}
			switch {
			case err != nil || network.Addr().Is4In6():
				return errValue
			case network != network.Masked():
				return fmt.Errorf("it is an address within %s", network.Masked())
			case network.Bits() == 0:
				return errors.New("that is everybody")
			}
			*to = append(*to, network)
			return nil
		},
	}
}
