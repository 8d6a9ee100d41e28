package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificates are the PEM files of a lab.
type certificates struct {
	ca, otherCA, chain, key, combined, oldChain, oldKey string
}

// makeCertificates writes an authority, two certificates for localhost signed by
// it, the second of an RSA key, and an authority that signed nothing. Some of the servers read the
// key under a user of their own, so it is readable by all: it is worth nothing.
func makeCertificates(dir string) (certificates, error) {
	c := certificates{
		ca:       filepath.Join(dir, "ca.pem"),
		otherCA:  filepath.Join(dir, "other-ca.pem"),
		chain:    filepath.Join(dir, "chain.pem"),
		key:      filepath.Join(dir, "key.pem"),
		combined: filepath.Join(dir, "combined.pem"),
		oldChain: filepath.Join(dir, "old-chain.pem"),
		oldKey:   filepath.Join(dir, "old-key.pem"),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return c, err
	}
	ca, caKey, err := newAuthority("popgate lab CA")
	if err != nil {
		return c, err
	}
	other, _, err := newAuthority("popgate lab other CA")
	if err != nil {
		return c, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	oldKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return c, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(48 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	leaf, err := x509.CreateCertificate(rand.Reader, tmpl, ca, key.Public(), caKey)
	if err != nil {
		return c, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return c, err
	}
	tmpl.SerialNumber = big.NewInt(3)
	tmpl.KeyUsage |= x509.KeyUsageKeyEncipherment
	oldLeaf, err := x509.CreateCertificate(rand.Reader, tmpl, ca, oldKey.Public(), caKey)
	if err != nil {
		return c, err
	}
	oldKeyDER, err := x509.MarshalPKCS8PrivateKey(oldKey)
	if err != nil {
		return c, err
	}
	caPEM := pemBlock("CERTIFICATE", ca.Raw)
	chainPEM := append(pemBlock("CERTIFICATE", leaf), caPEM...)
	keyPEM := pemBlock("PRIVATE KEY", keyDER)
	for file, data := range map[string][]byte{
		c.ca:       caPEM,
		c.otherCA:  pemBlock("CERTIFICATE", other.Raw),
		c.chain:    chainPEM,
		c.key:      keyPEM,
		c.combined: append(append([]byte{}, keyPEM...), chainPEM...),
		c.oldChain: append(pemBlock("CERTIFICATE", oldLeaf), caPEM...),
		c.oldKey:   pemBlock("PRIVATE KEY", oldKeyDER),
	} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return c, err
		}
	}
	return c, nil
}

func newAuthority(name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(48 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// SelfSigned makes a certificate for localhost that lasts so long, and its key, in
// PEM.
func SelfSigned(lasts time.Duration) (cert, key []byte, err error) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, secret.Public(), secret)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(secret)
	return pemBlock("CERTIFICATE", der), pemBlock("PRIVATE KEY", keyDER), err
}
