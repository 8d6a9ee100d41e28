package oauth

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // names a certificate in x5t, and proves nothing
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

const (
	assertionLife = 5 * time.Minute
	clockSkew     = time.Minute // an issuer's clock may be behind ours by so much
	minKeyBits    = 2048
)

// A Key signs assertions (RFC 7523). It cannot be printed. It is safe for
// concurrent use.
type Key struct {
	private *rsa.PrivateKey
	header  map[string]string
	pss     bool
}

// String returns a fixed text.
func (*Key) String() string { return "[key]" }

// GoString returns a fixed text.
func (*Key) GoString() string { return "[key]" }

// NewKey reads a certificate and its RSA key in PEM, as Microsoft's issuer knows a
// client by: signed is PS256, named by both digests of the certificate (RFC 7515
// sections 4.1.7 and 4.1.8).
func NewKey(certificate, key []byte) (*Key, error) {
	private, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("there is no certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	if !private.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the certificate is of another key")
	}
	old, now := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw)
	return &Key{private: private, pss: true, header: map[string]string{
		"x5t": encode(old[:]), "x5t#S256": encode(now[:]),
	}}, nil
}

// NewServiceAccount reads the JSON file of a Google service account. It returns
// the key, which signs RS256, and the account's address, which is the client id.
func NewServiceAccount(data []byte) (key *Key, address string, err error) {
	var file struct {
		Type    string `json:"type"`
		Address string `json:"client_email"`
		ID      string `json:"private_key_id"`
		Key     string `json:"private_key"`
	}
	if json.Unmarshal(data, &file) != nil || file.Type != "service_account" || file.Address == "" {
		return nil, "", errors.New("it is no key file of a service account")
	}
	private, err := parseKey([]byte(file.Key))
	if err != nil {
		return nil, "", err
	}
	return &Key{private: private, header: map[string]string{"kid": file.ID}}, file.Address, nil
}

// parseKey reads an RSA key in PEM. Its errors tell nothing of the content.
func parseKey(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("there is no private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return nil, errors.New("the private key cannot be read; it must be RSA in PKCS 8 or PKCS 1, without a passphrase")
		}
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok || private.N.BitLen() < minKeyBits {
		return nil, fmt.Errorf("the private key is not RSA of %d bits or more", minKeyBits)
	}
	return private, nil
}

// claims are what an assertion says (RFC 7523 section 3).
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub,omitempty"`
	Audience string `json:"aud"`
	Scope    string `json:"scope,omitempty"`
	ID       string `json:"jti"`
	From     int64  `json:"nbf"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

// sign makes an assertion of now (RFC 7515 section 7.1).
func (k *Key) sign(c claims) (string, error) {
	id := make([]byte, 16)
	rand.Read(id) // never fails
	from := time.Now().Add(-clockSkew)
	c.ID, c.From, c.Issued, c.Expires = hex.EncodeToString(id), from.Unix(), from.Unix(), from.Add(clockSkew+assertionLife).Unix()

	header := map[string]string{"typ": "JWT", "alg": "RS256"}
	if k.pss {
		header["alg"] = "PS256"
	}
	for name, value := range k.header {
		header[name] = value
	}
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	text := encode(h) + "." + encode(body)
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	if k.pss { // RFC 7518 section 3.5: the salt is as long as the digest
		signature, err = rsa.SignPSS(rand.Reader, k.private, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		signature, err = rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, sum[:])
	}
	if err != nil {
		return "", err
	}
	return text + "." + encode(signature), nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
