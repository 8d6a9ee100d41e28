package config

import (
	"crypto/x509"
	"errors"

	"github.com/popgate/popgate/upstream/accounts"
)

// Accounts names the users whom the gateway proves itself.
type Accounts struct {
	File string // "" for none: every user is proved by the mail service
}

// warnings says that others can read secrets.
func (a Accounts) warnings() []string {
	if a.File == "" {
		return nil
	}
	local, err := accounts.Open(accounts.Options{File: a.File})
	if err != nil || !local.Exposed() {
		return nil
	}
	return []string{"accounts.file: " + a.File + " holds secrets that are no hashes, and every user of this machine can read it; chmod 600, or 640 with the group that runs popgate"}
}

func accountsKey(a *Accounts) key {
	return key{name: "accounts", keys: []key{
		{name: "file", accepts: "a file name", file: true, set: text(&a.File)},
	}}
}

// proofs checks that what a listener lets clients prove themselves by can be
// looked up.
func (l *loader) proofs(c *Config, listen Listen) {
	at := listen.path + ".shared-secrets"
	if listen.SharedSecrets && c.Accounts.File == "" && !l.refused("accounts.file") {
		l.report(l.place(at), at, "the shared secrets are in a file of accounts; give accounts.file, or leave the line out")
	}
	at = listen.path + ".client-ca"
	if listen.ClientCA != "" && !c.TLS.Given() && !listen.Legacy.Given() {
		l.report(l.place(at), at, "a client shows its certificate under TLS alone; give tls.cert and tls.key, or leave the line out")
	}
	if listen.ClientCA != "" && c.Accounts.File == "" && !l.refused("accounts.file") {
		l.report(l.place(at), at, "who comes with a certificate has no password for the mail server; give accounts.file, or leave the line out")
	}
}

// ClientRoots reads the authorities for certificates of clients. There must be
// some: see ClientCA.
func (l Listen) ClientRoots() (*x509.CertPool, error) {
	data, err := read(l.ClientCA)
	if err != nil {
		return nil, named(l.ClientCA, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, named(l.ClientCA, errors.New("holds no certificate in PEM; give the CA that signs the certificates of clients"))
	}
	return pool, nil
}

func (l *loader) clientCA(listen Listen) {
	if listen.ClientCA == "" {
		return
	}
	at := listen.path + ".client-ca"
	if _, err := listen.ClientRoots(); err != nil {
		l.report(l.place(at), at, "%v", err)
	}
}

// accounts reads the file of accounts. Its problems have their own lines.
func (l *loader) accounts(c *Config) {
	if c.Accounts.File == "" || l.refused("accounts.file") {
		return
	}
	if _, err := accounts.Open(accounts.Options{File: c.Accounts.File}); err != nil {
		l.report(l.place("accounts.file"), "accounts.file", "%v", err)
	}
}
