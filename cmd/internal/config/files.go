package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Certificate reads the certificate and its private key. There must be one:
// see [TLS.Given].
func (t TLS) Certificate() (tls.Certificate, error) {
	cert, _, err := t.load()
	return cert, err
}

// load tells in bad which of the two files an error is about.
func (t TLS) load() (cert tls.Certificate, bad string, err error) {
	chain, err := read(t.Cert)
	if err != nil {
		return cert, "tls.cert", named(t.Cert, err)
	}
	if !holds(chain, "CERTIFICATE") {
		return cert, "tls.cert", named(t.Cert, errors.New("holds no certificate in PEM; give the chain, the server's own certificate first"))
	}
	key, err := read(t.Key)
	if err != nil {
		return cert, "tls.key", named(t.Key, err)
	}
	switch {
	case holds(key, "ENCRYPTED PRIVATE KEY") || bytes.Contains(key, []byte("Proc-Type: 4,ENCRYPTED")):
		return cert, "tls.key", named(t.Key, errors.New("is locked by a passphrase; take it off, with `openssl pkey` for one"))
	case !holds(key, "PRIVATE KEY"):
		return cert, "tls.key", named(t.Key, errors.New("holds no private key in PEM"))
	}
	cert, err = tls.X509KeyPair(chain, key)
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "tls: ")
		if strings.Contains(text, "match public key") {
			text = "does not belong to the first certificate of " + t.Cert + "; give the pair that was issued together"
		}
		return cert, "tls.key", named(t.Key, errors.New(text))
	}
	return cert, "", nil
}

// Roots reads the certificates to trust. It is nil, which means those of the
// system, where no file is named.
func (u Upstream) Roots() (*x509.CertPool, error) {
	if u.CA == "" {
		return nil, nil
	}
	data, err := read(u.CA)
	if err != nil {
		return nil, named(u.CA, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, named(u.CA, errors.New("holds no certificate in PEM; give the CA that signed the server's certificate"))
	}
	return pool, nil
}

func named(file string, err error) error { return fmt.Errorf("%s %w", file, err) }

// holds reports whether data has a PEM block of a type that ends in kind.
func holds(data []byte, kind string) bool {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return false
		}
		if b.Type == kind || strings.HasSuffix(b.Type, " "+kind) {
			return true
		}
	}
}

// files reads what the configuration names, with the functions that the
// service uses later.
func (l *loader) files(c *Config) {
	if c.TLS.Cert != "" && c.TLS.Key != "" && !l.refused("tls.cert") && !l.refused("tls.key") {
		if _, bad, err := c.TLS.load(); err != nil {
			l.report(l.place(bad), bad, "%v", err)
		}
	}
	if !l.refused("upstream.ca") {
		if _, err := c.Upstream.Roots(); err != nil {
			l.report(l.place("upstream.ca"), "upstream.ca", "%v", err)
		}
	}
}
