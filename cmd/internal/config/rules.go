package config

import (
	"fmt"
	"strings"
)

// rules checks what no single key can know. A key whose own value was refused
// is left alone: one mistake, one message.
func (l *loader) rules(c *Config) {
	if len(c.Listen) == 0 {
		l.missing("listen", "listen", "pop3://127.0.0.1:1110", "listen: %s")
	}
	l.oneOrMany(c)
	if c.Cache.File != "" && c.Cache.Memory == 0 && !l.refused("cache.memory") {
		l.report(l.place("cache.file"), "cache.file", "there is no cache to keep: cache.memory is none; leave one of the two out")
	}
	for _, listen := range c.Listen {
		l.listener(listen)
		l.proofs(c, listen)
	}
	l.certificates(c)
	l.routing(c)
	l.oauth(&c.OAuth)
}

// listener checks what stands in a section of its own.
func (l *loader) listener(listen Listen) {
	if listen.path == "" {
		return
	}
	if _, given := l.set[listen.path+".url"]; !given {
		l.report(l.place(listen.path), listen.path, "the url is missing; use %s", acceptsListen)
	}
	need := func(section string, missing bool, name, what string) {
		at := listen.path + "." + section
		if _, given := l.set[at]; given && missing {
			l.report(l.place(at), at, "%s is missing; %s", name, what)
		}
	}
	need("proxy-protocol", len(listen.Proxies) == 0, "from", "it lists the addresses of the proxies, and nobody else may connect")
	need("legacy", len(listen.Legacy.From) == 0, "from", "it lists the networks of the old devices, and nobody else is served")
	need("legacy", listen.Legacy.Cert == "", "cert", "old TLS has a certificate of its own, of an RSA key")
	need("legacy", listen.Legacy.Key == "", "key", "it is the private key of legacy.cert")
}

// missing reports a key that has no default and was not given.
func (l *loader) missing(path, flag, example, line string) {
	section, _, _ := strings.Cut(path, ".")
	if l.refused(path) || l.refused(section) {
		return
	}
	if l.file == "" {
		l.report(place{}, "", "--%s is missing; give one, such as --%s %s", flag, flag, example)
		return
	}
	l.report(place{where: l.file}, "", "%s is missing; add a line such as `%s`, or give --%s", path, fmt.Sprintf(line, example), flag)
}

// certificates checks that every listener can let somebody log in.
func (l *loader) certificates(c *Config) {
	if l.refused("tls.cert") || l.refused("tls.key") {
		return
	}
	switch {
	case c.TLS.Cert != "" && c.TLS.Key == "":
		l.report(l.place("tls.cert"), "tls.cert", "the private key is missing; give tls.key (--tls-key) too")
		return
	case c.TLS.Cert == "" && c.TLS.Key != "":
		l.report(l.place("tls.key"), "tls.key", "the certificate is missing; give tls.cert (--tls-cert) too")
		return
	case c.TLS.Given():
		return
	}
	for _, listen := range c.Listen {
		at := listen.at()
		switch {
		case listen.SharedSecrets && !listen.TLS: // without a password in clear text
		case listen.Legacy.Given(), l.refused(at), l.refused(at + ".legacy"):
		case listen.TLS:
			l.report(l.place(at), at, "%s needs a certificate; give tls.cert and tls.key (--tls-cert, --tls-key)", listen)
		case !listen.Loopback() && !c.ClearText && !l.refused("clear-text-login"):
			// RFC 2595 section 2.3: no password crosses the network in clear
			// text, unless the configuration says so in words.
			l.report(l.place(at), at, "nobody could log in on %s: its clients are on other machines, and it offers no TLS; "+
				"give tls.cert and tls.key (--tls-cert, --tls-key), or listen on 127.0.0.1 with no proxy in front, or say clear-text-login: anywhere", listen)
		}
	}
}

// refused reports whether a value that was given for a key is known to be bad.
func (l *loader) refused(path string) bool {
	at := l.set[path]
	for _, p := range l.problems {
		if p.Key == path || strings.HasPrefix(p.Key, path+"[") || at.line == 0 && at.where != "" && p.Where == at.where {
			return true
		}
	}
	return false
}
