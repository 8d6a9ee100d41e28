package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Address returns host:port of the service.
func (u Upstream) Address() string { return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port))) }

// String returns the URL of the service, with its port.
func (u Upstream) String() string {
	return u.scheme() + "://" + u.Address()
}

func (u Upstream) scheme() string {
	switch {
	case u.JMAP && u.TLS:
		return "jmap+https"
	case u.JMAP:
		return "jmap+http"
	case u.TLS:
		return "imaps"
	}
	return "imap"
}

func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func loopbackAddress(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	return err == nil && loopbackHost(host)
}

func setUpstream(to *Upstream, s string) error {
	var jmap, secure bool
	var defaultPort uint16
	scheme, rest, _ := strings.Cut(s, "://")
	switch strings.ToLower(scheme) {
	case "imap":
		defaultPort = 143
	case "imaps":
		secure, defaultPort = true, 993
	case "jmap+http":
		jmap, defaultPort = true, 80
	case "jmap+https":
		jmap, secure, defaultPort = true, true, 443
	default:
		return errValue
	}
	host, port, err := authority(rest, defaultPort)
	if err != nil {
		return err
	}
	if host == "" || port == 0 {
		return errValue
	}
	if jmap && !secure && !loopbackHost(host) {
		return errors.New("jmap+http:// sends passwords in clear text and is for loopback addresses alone")
	}
	to.JMAP, to.Host, to.Port, to.TLS = jmap, host, port, secure
	return nil
}

// authority reads HOST[:PORT] of a URL; one "/" behind it is let pass.
func authority(s string, defaultPort uint16) (host string, port uint16, err error) {
	s = strings.TrimSuffix(s, "/")
	if strings.Contains(s, "@") {
		return "", 0, errors.New("the user and the password come from the POP3 client and have no place here")
	}
	if strings.ContainsAny(s, "/?# \\") {
		return "", 0, errors.New("nothing may follow the port")
	}
	portText := ""
	if inside, ok := strings.CutPrefix(s, "["); ok {
		inside, after, closed := strings.Cut(inside, "]")
		a, perr := netip.ParseAddr(inside)
		if !closed || perr != nil || !a.Is6() {
			return "", 0, errors.New("the brackets hold no IPv6 address")
		}
		if after != "" && after[0] != ':' {
			return "", 0, errors.New("nothing but a port may follow the brackets")
		}
		host, portText = inside, after
	} else {
		if strings.Count(s, ":") > 1 {
			return "", 0, errors.New("an IPv6 address stands in brackets")
		}
		i := strings.IndexByte(s, ':')
		if i < 0 {
			i = len(s)
		}
		host, portText = s[:i], s[i:]
		if !hostName(host) {
			return "", 0, fmt.Errorf("%s is no host name and no address", shown(host))
		}
	}
	if portText == "" {
		return host, defaultPort, nil
	}
	n, ok := decimal(portText[1:])
	if !ok || n > 65535 {
		return "", 0, errors.New("a port is a number from 0 to 65535")
	}
	return host, uint16(n), nil
}

// hostName reports whether s may be a name or an IPv4 address; empty is
// allowed. Whether it exists is for the resolver to say.
func hostName(s string) bool {
	if len(s) > maxText {
		return false
	}
	for _, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0x80
		if !letter && !(r >= '0' && r <= '9') && r != '-' && r != '.' && r != '_' {
			return false
		}
	}
	return true
}

func setHostPort(to *string, s string) error {
	host, port, err := authority(s, 0)
	if err != nil {
		return err
	}
	if strings.HasSuffix(s, "/") || !strings.Contains(s[strings.LastIndexByte(s, ']')+1:], ":") {
		return errors.New("the port is missing")
	}
	*to = net.JoinHostPort(host, strconv.Itoa(int(port)))
	return nil
}

// addNetwork reads an address or a network, whose address must be its first:
// anything else is likely to be a slip.
func addNetwork(to *[]netip.Prefix, s string) error {
	p, err := netip.ParsePrefix(s)
	if a, e := netip.ParseAddr(s); e == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil || p.Addr().Is4In6():
		return errValue
	case p != p.Masked():
		return fmt.Errorf("the network is %s", p.Masked())
	}
	*to = append(*to, p)
	return nil
}
