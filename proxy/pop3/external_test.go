package pop3_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
)

// An authority signs certificates of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC),
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue signs a certificate of a client.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Unix(0, 0), NotAfter: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// EXTERNAL (RFC 4422 appendix A): the certificate names the user.
func TestExternal(t *testing.T) {
	clients, others := newAuthority(t), newAuthority(t)
	common := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName = name }
	}
	mails := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName, c.EmailAddresses = "alice", names }
	}
	for _, tt := range []struct {
		name     string
		by       *authority // nil: no certificate
		cert     func(*x509.Certificate)
		identity string
		user     string // that the store is asked with; "": refused, or not offered
		offered  bool
		failed   bool // the handshake
	}{
		{"a_common_name", clients, common("alice"), "", "alice", true, false},
		{"the_same_identity", clients, common("alice"), "alice", "alice", true, false},
		{"another_identity", clients, common("alice"), "bob", "", true, false},
		{"a_mail_address_before_the_common_name", clients, mails("alice@example.net"), "", "alice@example.net", true, false},
		{"the_common_name_beside_a_mail_address", clients, mails("alice@example.net"), "alice", "", true, false},
		{"the_first_of_two", clients, mails("a@example.net", "b@example.net"), "", "a@example.net", true, false},
		{"one_of_two", clients, mails("a@example.net", "b@example.net"), "b@example.net", "b@example.net", true, false},
		{"no_name", clients, func(*x509.Certificate) {}, "", "", false, false},
		{"a_machine_s_name", clients, func(c *x509.Certificate) { c.DNSNames = []string{"alice"} }, "", "", false, false},
		{"a_control_character", clients, common("ali\x01ce"), "", "", true, false},
		{"no_certificate", nil, nil, "", "", false, false},
		{"of_another_authority", others, common("alice"), "", "", false, true},
		{"expired", clients, func(c *x509.Certificate) { c.Subject.CommonName, c.NotAfter = "alice", time.Unix(1, 0) }, "", "", false, true},
		{"for_servers", clients, func(c *x509.Certificate) {
			c.Subject.CommonName, c.ExtKeyUsage = "alice", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}, "", "", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab("alice", "pw", threeMessages()...)
				store := &proofs{Store: l.store}
				serverTLS, clientTLS := certificate(t)
				serverTLS.ClientAuth, serverTLS.ClientCAs = tls.VerifyClientCertIfGiven, clients.pool()
				if tt.by != nil {
					cert := tt.by.issue(t, tt.cert)
					clientTLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
				}
				p := dial(t, l.server(t, func(o *pop3.Options) { o.Store, o.TLS = store, serverTLS }), loopback4, loopback4, pop3.Via{})
				defer p.hangUp()
				if p.received(); strings.Contains(p.ask("CAPA"), "EXTERNAL") {
					t.Error("EXTERNAL is offered before TLS")
				}
				p.want(p.ask("AUTH EXTERNAL ="), "-ERR no such mechanism")
				p.ask("STLS")
				if err := p.startTLS(clientTLS); err != nil {
					t.Fatal(err)
				}
				capa := p.ask("CAPA")
				if tt.failed {
					if !p.isClosed() || capa != "" {
						t.Errorf("CAPA: %q, want a connection that is closed", capa)
					}
					return
				}
				if got := strings.Contains(capa, " EXTERNAL\r\n"); got != tt.offered {
					t.Errorf("CAPA: %q, want EXTERNAL in it: %v", capa, tt.offered)
				}
				identity := "="
				if tt.identity != "" {
					identity = base64.StdEncoding.EncodeToString([]byte(tt.identity))
				}
				reply := p.ask("AUTH EXTERNAL " + identity)
				var want []upstream.Credentials
				wantReply := "-ERR [AUTH] wrong user or password"
				switch {
				case tt.user != "":
					want = []upstream.Credentials{{User: tt.user, Proof: upstream.External}}
					wantReply = "+OK logged in"
				case !tt.offered:
					wantReply = "-ERR no such mechanism"
				}
				p.want(reply, wantReply)
				if !slices.Equal(store.got, want) {
					t.Errorf("the store was asked with %+v, want %+v", store.got, want)
				}
			})
		})
	}
}

// In two lines, as a client does that has no initial response.
func TestExternalInTwoLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab("alice", "pw")
		clients := newAuthority(t)
		serverTLS, clientTLS := certificate(t)
		serverTLS.ClientAuth, serverTLS.ClientCAs = tls.VerifyClientCertIfGiven, clients.pool()
		clientTLS.Certificates = []tls.Certificate{clients.issue(t, func(c *x509.Certificate) { c.Subject.CommonName = "alice" })}
		p := dial(t, l.server(t, func(o *pop3.Options) { o.Store, o.TLS = &proofs{Store: l.store}, serverTLS }), loopback4, loopback4, pop3.Via{})
		p.received()
		p.ask("STLS")
		if err := p.startTLS(clientTLS); err != nil {
			t.Fatal(err)
		}
		p.want(p.ask("AUTH EXTERNAL"), `+\x20`)
		p.want(p.ask(""), "+OK logged in")
		p.hangUp()
		l.check(t)
	})
}
