package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
)

// certificatePoll is how often the files of a certificate are looked at. They
// are read when two looks in a row have seen them the same: what is being written
// is left alone, and a pair has time to become one.
const certificatePoll = 5 * time.Second

// A keyPair is a certificate and its key, which follow their files. While the
// files are of no use, the last certificate stays.
type keyPair struct {
	files     [2]string // certificate and key
	load      func() (tls.Certificate, error)
	listeners []string // that show it
	metrics   *metrics.Metrics
	log       *slog.Logger

	current atomic.Pointer[tls.Certificate]

	// Of the look-out alone.
	loaded, seen look
	failure      string // "" while the files are as loaded
}

// A look is what the system tells of the two files; nil of one that is not there.
type look [2]os.FileInfo

func (k look) same(other look) bool {
	for i, a := range k {
		b := other[i]
		switch {
		case a == nil || b == nil:
			if a != b {
				return false
			}
		case !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()):
			return false
		}
	}
	return true
}

func (p *keyPair) look() (k look) {
	for i, file := range p.files {
		if info, err := os.Stat(file); err == nil {
			k[i] = info
		}
	}
	return k
}

// open reads the files for the first time.
func (p *keyPair) open() error {
	p.seen = p.look() // before they are read: a change meanwhile is seen later
	cert, err := p.load()
	if err != nil {
		return err
	}
	p.take(cert)
	return nil
}

func (p *keyPair) take(cert tls.Certificate) {
	p.current.Store(&cert)
	p.loaded = p.seen
	p.shown()
}

// shown says that the certificate in use is the one in the files.
func (p *keyPair) shown() {
	p.failure = ""
	for _, l := range p.listeners {
		p.metrics.CertificateShown(l, p.current.Load().Leaf.NotAfter)
	}
}

// poll looks once, and reads what has changed.
func (p *keyPair) poll() {
	last := p.seen
	p.seen = p.look()
	switch {
	case !p.seen.same(last):
		return
	case p.seen.same(p.loaded):
		p.shown()
		return
	}
	cert, err := p.load()
	if err != nil {
		if err.Error() != p.failure { // told once; it is tried again all the same
			p.failure = err.Error()
			p.log.Error("the new certificate is of no use, the last one stays", "error", err)
			for _, l := range p.listeners {
				p.metrics.CertificateReloadFailed(l)
			}
		}
		return
	}
	p.take(cert)
	p.log.Info("a new certificate", "file", p.files[0], "expires", cert.Leaf.NotAfter.UTC())
}

// watch polls until ctx ends.
func (p *keyPair) watch(ctx context.Context) {
	ticker := time.NewTicker(certificatePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.poll()
		case <-ctx.Done():
			return
		}
	}
}

// tls makes what POP3 clients meet under this certificate.
func (p *keyPair) tls(min uint16) *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current.Load(), nil },
		MinVersion:     min,
		// A client that offers other protocols only is turned away, so that
		// no browser can be made to talk to us under this certificate.
		NextProtos: []string{"pop3"},
		// Small records at the beginning would let a browser show something
		// early. A mail program waits for the whole reply, and each record is a
		// write of its own.
		DynamicRecordSizingDisabled: true,
	}
}

// oldSuites are for devices that stopped learning: CBC, key exchange by RSA, and
// 3DES at the end. No RC4.
func oldSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
	}
}

// handshakes lists what the listeners may agree on with clients.
func handshakes(cfg config.Config, names []string) (out []metrics.Handshake) {
	for i, l := range cfg.Listen {
		min, suites := uint16(cfg.TLS.MinVersion), []uint16(nil)
		switch {
		case l.Legacy.Given():
			min, suites = tls.VersionTLS10, oldSuites()
		case !cfg.TLS.Given():
			continue
		}
		for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
			for _, version := range suite.SupportedVersions {
				// The suites of TLS 1.3 are not configured; of the others the
				// insecure ones have to be asked for.
				if version < min || version < tls.VersionTLS13 && !usable(suite, suites) {
					continue
				}
				out = append(out, handshake(names[i], version, suite.ID))
			}
		}
	}
	return out
}

// usable reports whether a suite may be used where suites are configured; nil is
// the choice of crypto/tls.
func usable(suite *tls.CipherSuite, suites []uint16) bool {
	if suites == nil {
		return !suite.Insecure
	}
	return slices.Contains(suites, suite.ID)
}

// handshake names what was agreed on: versions as 1.3, suites as the standards do.
func handshake(listener string, version, cipher uint16) metrics.Handshake {
	return metrics.Handshake{
		Listener: listener, Version: strings.TrimPrefix(tls.VersionName(version), "TLS "), Cipher: tls.CipherSuiteName(cipher),
	}
}

// certificates are the certificates of a gateway.
type certificates struct {
	pairs  []*keyPair
	config []*tls.Config // of each listener, nil without a certificate
}

// openCertificates reads the certificates of all listeners.
func openCertificates(cfg config.Config, names []string, m *metrics.Metrics, log *slog.Logger) (*certificates, error) {
	c := &certificates{config: make([]*tls.Config, len(cfg.Listen))}
	add := func(cert, key string, load func() (tls.Certificate, error), listeners []string) (*keyPair, error) {
		p := &keyPair{files: [2]string{cert, key}, load: load, listeners: listeners, metrics: m, log: log}
		c.pairs = append(c.pairs, p)
		return p, p.open()
	}
	var usual []string
	for i, l := range cfg.Listen {
		if !l.Legacy.Given() {
			usual = append(usual, names[i])
			continue
		}
		p, err := add(l.Legacy.Cert, l.Legacy.Key, l.Legacy.Certificate, names[i:i+1])
		if err != nil {
			return nil, err
		}
		c.config[i] = p.tls(tls.VersionTLS10)
		c.config[i].CipherSuites = oldSuites()
		if err := askClients(c.config[i], l); err != nil {
			return nil, err
		}
	}
	if !cfg.TLS.Given() || len(usual) == 0 {
		return c, nil
	}
	p, err := add(cfg.TLS.Cert, cfg.TLS.Key, cfg.TLS.Certificate, usual)
	if err != nil {
		return nil, err
	}
	shared := p.tls(uint16(cfg.TLS.MinVersion))
	for i, l := range cfg.Listen {
		switch {
		case c.config[i] != nil:
		case l.ClientCA == "":
			c.config[i] = shared
		default:
			// A configuration of its own, made anew: a session that was begun
			// where nobody looks at certificates must not be resumed here.
			c.config[i] = p.tls(uint16(cfg.TLS.MinVersion))
			if err := askClients(c.config[i], l); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// askClients asks clients of l for a certificate, where it has authorities for
// them. One without is served as before; one with a wrong one is not.
func askClients(t *tls.Config, l config.Listen) (err error) {
	if l.ClientCA == "" {
		return nil
	}
	t.ClientAuth = tls.VerifyClientCertIfGiven
	t.ClientCAs, err = l.ClientRoots()
	return err
}

// secure lists the listeners that have a certificate.
func secure(cfg config.Config, names []string) (out []string) {
	for i, l := range cfg.Listen {
		if cfg.TLS.Given() || l.Legacy.Given() {
			out = append(out, names[i])
		}
	}
	return out
}

// watch keeps the certificates as their files are, until the function that it
// returns is called.
func (c *certificates) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, p := range c.pairs {
		wg.Go(func() { p.watch(ctx) })
	}
	return func() { cancel(); wg.Wait() }
}
