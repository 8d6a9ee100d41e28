package pop3

import (
	"crypto/tls"
	"slices"

	"github.com/emersion/go-sasl"

	"github.com/popgate/popgate/upstream"
)

// certified returns the users that the client's certificate names, none where it
// gave no certificate or that was not verified: its rfc822Names (RFC 5280 section
// 4.2.1.6), or the common name where it has none of them. A DNS name is that of a
// machine and no user.
func (s *session) certified() []string {
	secure, ok := s.conn.stream().(*tls.Conn)
	if !ok {
		return nil
	}
	state := secure.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return nil
	}
	leaf := state.VerifiedChains[0][0]
	switch {
	case len(leaf.EmailAddresses) > 0:
		return leaf.EmailAddresses
	case leaf.Subject.CommonName != "":
		return []string{leaf.Subject.CommonName}
	}
	return nil
}

// newExternal is EXTERNAL (RFC 4422 appendix A). The user is the first that the
// certificate names; an authorization identity has to be one of them, and is the
// user then.
func newExternal(s *session, c *credentials) sasl.Server {
	return sasl.NewExternalServer(func(identity string) error {
		names := s.certified()
		c.user, c.proof = names[0], upstream.External
		if identity == "" {
			return nil
		}
		if !slices.Contains(names, identity) {
			return errIdentity
		}
		c.user = identity
		return nil
	})
}
