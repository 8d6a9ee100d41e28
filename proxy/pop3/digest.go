package pop3

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/popgate/popgate/upstream"
)

// digests are the secrets that clients share with the server. A user without one
// is treated as one who has proved nothing: the same questions, the same work, and
// the login goes on to the store, where the throttle is, with an empty secret.
type digests struct {
	secrets SharedSecrets
	nobody  string // the secret that is reckoned with for a user without one
	saltKey []byte // makes a salt of a name, for SCRAM
}

func newDigests(secrets SharedSecrets) *digests {
	d := &digests{secrets: secrets, nobody: rand.Text(), saltKey: make([]byte, 32)}
	rand.Read(d.saltKey) // never fails
	return d
}

// secret returns the secret to reckon with, and whether it is one of user's.
func (d *digests) secret(user string) (secret string, known bool) {
	s, known := d.secrets.SharedSecret(user)
	if secret = s.Reveal(); !known || secret == "" {
		return d.nobody, false
	}
	return secret, true
}

// prove compares the digest that came from a client with what its secret makes.
// The credentials hold the secret if they are equal, and none if not: the store
// is asked in both cases.
func (d *digests) prove(user string, digest []byte, make func(secret string) []byte) credentials {
	secret, known := d.secret(user)
	if subtle.ConstantTimeCompare(make(secret), digest) == 0 || !known {
		secret = ""
	}
	return credentials{user: user, secret: secret, proof: upstream.Shared}
}

// newTimestamp makes what a client reckons its digest with: never the same twice
// and not to be guessed, in the form of a message-id (RFC 1939 section 7, RFC 2195
// section 2).
func newTimestamp() string {
	return fmt.Sprintf("<%s.%d@popgate>", rand.Text(), time.Now().Unix())
}

// apop answers APOP (RFC 1939 section 7).
func (s *session) apop(a arguments) Result {
	s.user = ""
	return s.logIn(mechAPOP, s.server.digests.prove(string(a.text), a.digest, func(secret string) []byte {
		return apopDigest(s.timestamp, secret)
	}))
}

// apopDigest is MD5 in lower-case hexadecimal, of the timestamp and the secret.
func apopDigest(timestamp, secret string) []byte {
	sum := md5.Sum([]byte(timestamp + secret))
	return hex.AppendEncode(nil, sum[:])
}

var errCRAM = errors.New("no user and digest")

// cram is the server's side of CRAM-MD5 (RFC 2195).
type cram struct {
	*credentials
	digests   *digests
	challenge string
}

func newCRAM(s *session, c *credentials) sasl.Server {
	return &cram{credentials: c, digests: s.server.digests, challenge: newTimestamp()}
}

// Next asks, then takes the user, a space and the digest. There is no initial
// response.
func (m *cram) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte(m.challenge), false, nil
	}
	i := bytes.LastIndexByte(response, ' ')
	if i < 0 {
		return nil, false, errCRAM
	}
	*m.credentials = m.digests.prove(string(response[:i]), response[i+1:], func(secret string) []byte {
		return cramDigest(m.challenge, secret)
	})
	return nil, true, nil
}

// cramDigest is HMAC-MD5 in lower-case hexadecimal, of the challenge.
func cramDigest(challenge, secret string) []byte {
	mac := hmac.New(md5.New, []byte(secret))
	mac.Write([]byte(challenge))
	return hex.AppendEncode(nil, mac.Sum(nil))
}
