package pop3

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"github.com/popgate/popgate/upstream"
)

const (
	scramIterations = 4096 // RFC 7677 section 4: at least
	scramSalt       = 16   // octets
)

var errSCRAM = errors.New("no SCRAM message")

// scramServer is the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) without
// channel binding: the clients that need these mechanisms speak no TLS, or one
// that ends at a proxy.
type scramServer struct {
	*credentials
	session      *session
	conversation *scram.ServerConversation
	secret       string
	known        bool
	named        bool
}

func newSCRAM(s *session, c *credentials) sasl.Server {
	m := &scramServer{credentials: c, session: s}
	server, err := scram.SHA256.NewServer(m.lookUp)
	if err != nil {
		panic(err) // the library has no reason to
	}
	m.conversation = server.NewConversation()
	return m
}

// lookUp makes the keys of a user, of one without a secret too. The salt is made
// of the name, so that it is the same each time, as a stored one would be.
func (m *scramServer) lookUp(user string) (scram.StoredCredentials, error) {
	m.secret, m.known = m.session.server.digests.secret(user)
	return scramKeys(m.secret, m.session.server.digests.salt(user))
}

func (d *digests) salt(user string) string {
	mac := hmac.New(sha256.New, d.saltKey)
	mac.Write([]byte(user))
	return string(mac.Sum(nil)[:scramSalt])
}

func scramKeys(secret, salt string) (scram.StoredCredentials, error) {
	client, err := scram.SHA256.NewClient("", secret, "")
	if err != nil { // no text in the sense of RFC 4013: taken as it is
		client, err = scram.SHA256.NewClientUnprepped("", secret, "")
	}
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	return client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt, Iters: scramIterations})
}

// Next takes the client's first message, then its final one. What the library
// says of a bad one is not for the log: it repeats the message.
func (m *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte{}, false, nil
	}
	answer, err := m.conversation.Step(string(response))
	if !m.named {
		if err != nil {
			return nil, false, errSCRAM
		}
		m.named = true
		m.user, m.proof = m.conversation.Username(), upstream.Shared
		return []byte(answer), false, nil
	}
	// The verifier proves to the client that the server knows the secret: not
	// before the store has agreed.
	if err == nil && m.conversation.Valid() && m.known {
		m.credentials.secret, m.agreed = m.secret, []byte(answer)
	}
	return nil, true, m.actFor(m.session, m.conversation.AuthzID())
}
