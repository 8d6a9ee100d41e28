package config

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Certificate reads the certificate and its private key. There must be one:
// see [TLS.Given].
func (t TLS) Certificate() (tls.Certificate, error) {
	cert, _, err := pair(t.Cert, t.Key)
	return cert, err
}

// Certificate reads the certificate and its private key. There must be one:
// see [Legacy.Given].
func (l Legacy) Certificate() (tls.Certificate, error) {
	cert, _, err := l.load()
	return cert, err
}

func (l Legacy) load() (cert tls.Certificate, bad string, err error) {
	if cert, bad, err = pair(l.Cert, l.Key); err != nil {
		return cert, bad, err
	}
	if _, ok := cert.Leaf.PublicKey.(*rsa.PublicKey); !ok {
		return cert, "cert", named(l.Cert, errors.New("is not of an RSA key, and old devices know no other"))
	}
	return cert, "", nil
}

// pair reads a certificate and its key. It tells in bad which of the two files,
// cert or key, an error is about.
func pair(certFile, keyFile string) (cert tls.Certificate, bad string, err error) {
	chain, err := read(certFile)
	if err != nil {
		return cert, "cert", named(certFile, err)
	}
	if !holds(chain, "CERTIFICATE") {
		return cert, "cert", named(certFile, errors.New("holds no certificate in PEM; give the chain, the server's own certificate first"))
	}
	key, err := read(keyFile)
	if err != nil {
		return cert, "key", named(keyFile, err)
	}
	switch {
	case holds(key, "ENCRYPTED PRIVATE KEY") || bytes.Contains(key, []byte("Proc-Type: 4,ENCRYPTED")):
		return cert, "key", named(keyFile, errors.New("is locked by a passphrase; take it off, with `openssl pkey` for one"))
	case !holds(key, "PRIVATE KEY"):
		return cert, "key", named(keyFile, errors.New("holds no private key in PEM"))
	}
	cert, err = tls.X509KeyPair(chain, key)
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "tls: ")
		if strings.Contains(text, "match public key") {
			text = "does not belong to the first certificate of " + certFile + "; give the pair that was issued together"
		}
		return cert, "key", named(keyFile, errors.New(text))
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

// rooted trusts those roots and no others.
func rooted(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
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
	var usual tls.Certificate
	if c.TLS.Cert != "" && c.TLS.Key != "" && !l.refused("tls.cert") && !l.refused("tls.key") {
		var bad string
		var err error
		if usual, bad, err = pair(c.TLS.Cert, c.TLS.Key); err != nil {
			l.report(l.place("tls."+bad), "tls."+bad, "%v", err)
		}
	}
	for _, listen := range c.Listen {
		l.legacy(listen, usual)
		l.clientCA(listen)
	}
	l.accounts(c)
}

// legacy reads the certificate of a listener for old devices. Old TLS can give a
// key away: it is not the key that everybody else relies on.
func (l *loader) legacy(listen Listen, usual tls.Certificate) {
	if listen.Legacy.Cert == "" || listen.Legacy.Key == "" {
		return
	}
	at := listen.path + ".legacy."
	cert, bad, err := listen.Legacy.load()
	if err != nil {
		l.report(l.place(at+bad), at+bad, "%v", err)
		return
	}
	if key, ok := cert.Leaf.PublicKey.(*rsa.PublicKey); ok && usual.Leaf != nil && key.Equal(usual.Leaf.PublicKey) {
		l.report(l.place(at+"key"), at+"key", "%s is the key of tls.cert too; old TLS needs one of its own", listen.Legacy.Key)
	}
}

// readByAll reports whether every user of the machine may read a file.
func readByAll(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().Perm()&0o004 != 0
}
