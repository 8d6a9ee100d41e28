package proof_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// tlsSelfSigned is a certificate for the right name that nobody vouches for.
func tlsSelfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: imaptest.ServerName}, DNSNames: []string{imaptest.ServerName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestBadCertificates has a server with one class of bad
// certificate after another, from the first octet and by STARTTLS.
func TestBadCertificates(t *testing.T) {
	ca, other := imaptest.NewCA(t), imaptest.NewCA(t)
	names := func(all ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = all, nil }
	}
	now := time.Now()
	classes := []struct {
		name string
		cert tls.Certificate
	}{
		{"expired", ca.Issue(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })},
		{"not_yet_valid", ca.Issue(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) })},
		{"wrong_name", ca.Issue(names("imap.example.org"))},
		{"common_name_only", ca.Issue(names())}, // CommonName is the right one
		{"wildcard_of_another_depth", ca.Issue(names("*.test", "*.imap.example.test", "im*.example.tes", "*"))},
		{"self_signed", tlsSelfSigned(t)},
		{"another_authority", other.Issue(nil)},
		{"address_only", ca.Issue(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)} })},
		{"nul_in_the_name", ca.Issue(names(imaptest.ServerName + "\x00.example.org"))},
		{"for_clients_only", ca.Issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
		{"sha1", ca.Issue(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 })},
		{"name_of_where_it_leads_to", ca.Issue(names("mail7.hosting.example.net", "127.0.0.1"))}, // the SRV target, the address
	}
	if len(classes) != 12 {
		t.Fatalf("%d classes", len(classes))
	}
	refused := 0
	for _, security := range []struct {
		name   string
		how    imap.Security
		option imaptest.Option
	}{{"implicit", imap.ImplicitTLS, imaptest.ImplicitTLS(ca)}, {"starttls", imap.StartTLS, imaptest.StartTLS(ca)}} {
		play := func(t *testing.T, option imaptest.Option) (string, *imaptest.Server, *tlsClear) {
			srv := imaptest.New(t, imaptest.Full(), imaptest.TCP(), security.option, option)
			srv.INBOX().Append("Subject: x\r\n\r\nx\r\n")
			clear := &tlsClear{}
			engine := fidelityEngine(t, srv, pop3.Options{}, imap.Options{Security: security.how, TLS: ca.ClientConfig(),
				Dial: srv.DialWith(func(_ int, c net.Conn) net.Conn { return clear.wrap(c) })})
			return string(fidelityPlay(t, engine, fidelityLogin+"QUIT\r\n")), srv, clear
		}
		for _, c := range classes {
			t.Run(security.name+"/"+c.name, func(t *testing.T) {
				got, srv, clear := play(t, imaptest.TLSConfig(&tls.Config{Certificates: []tls.Certificate{c.cert}}))
				ok := true
				if n := len(srv.Journal().Secrets()); n > 0 || len(srv.Journal().Commands("AUTHENTICATE", "LOGIN")) > 0 {
					ok = false
					t.Errorf("credentials were sent %d times", n)
				}
				if s := string(clear.sent); strings.Contains(s, imaptest.DefaultPassword) || strings.Contains(s, "AUTH") || strings.Contains(s, "LOGIN") {
					ok = false
					t.Errorf("sent: %q", s)
				}
				if !strings.HasPrefix(got, "+OK POP3 ready\r\n+OK\r\n-ERR [SYS/") {
					ok = false
					t.Errorf("the client saw %q", got)
				}
				if ok {
					refused++
				}
			})
		}
		t.Run(security.name+"/a_good_one", func(t *testing.T) {
			if got, _, _ := play(t, imaptest.TLSConfig(ca.ServerConfig())); !strings.Contains(got, "+OK logged in\r\n") {
				t.Errorf("the client saw %q", got)
			}
		})
	}
	proof.Report(t, "M10", refused == 2*len(classes), "%d classes of bad certificate, each from the first octet and by STARTTLS: %d of %d refused, 0 octets of credentials sent, never [AUTH]",
		len(classes), refused, 2*len(classes))
}

// tlsClear keeps what goes over a connection to the server.
type tlsClear struct{ sent []byte }

func (k *tlsClear) wrap(c net.Conn) net.Conn { return tlsClearConn{c, k} }

type tlsClearConn struct {
	net.Conn
	k *tlsClear
}

func (c tlsClearConn) Write(p []byte) (int, error) {
	c.k.sent = append(c.k.sent, p...)
	return c.Conn.Write(p)
}
