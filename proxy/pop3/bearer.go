package pop3

import (
	"errors"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/popgate/popgate/upstream"
)

// What a client is told of a token that was refused (RFC 7628 section 3.2.2). It
// is the same whatever was wrong.
const (
	refusedOAUTHBEARER = `{"status":"invalid_token","schemes":"bearer"}`
	refusedXOAUTH2     = `{"status":"401","schemes":"bearer"}`
)

var errBearer = errors.New("no user and bearer token")

// bearer is the server's side of OAUTHBEARER (RFC 7628 section 3.1) and of
// XOAUTH2, which came before it and differs in how the user is named.
type bearer struct {
	*credentials
	parse   func(message string) (user, token string, ok bool)
	refusal string
}

func newOAUTHBEARER(_ *session, c *credentials) sasl.Server {
	return &bearer{c, parseOAUTHBEARER, refusedOAUTHBEARER}
}

func newXOAUTH2(_ *session, c *credentials) sasl.Server {
	return &bearer{c, parseXOAUTH2, refusedXOAUTH2}
}

// Next takes the one message of the client, which comes as an initial response
// or after an empty challenge.
func (b *bearer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte{}, false, nil
	}
	user, token, ok := b.parse(string(response))
	if !ok || user == "" {
		return nil, false, errBearer // which does not repeat the message
	}
	b.user, b.secret, b.proof = user, token, upstream.Bearer
	b.refused = []byte(b.refusal)
	return nil, true, nil
}

// parseXOAUTH2 reads "user=" USER ^A "auth=Bearer " TOKEN ^A ^A.
func parseXOAUTH2(message string) (user, token string, ok bool) {
	head, pairs, _ := strings.Cut(message, "\x01")
	user, named := strings.CutPrefix(head, "user=")
	token, ok = bearerToken(pairs)
	return user, token, ok && named
}

// parseOAUTHBEARER reads "n,a=" USER "," ^A and pairs, of which auth is looked
// at. The user is the authorization identity: the mail service needs a name.
func parseOAUTHBEARER(message string) (user, token string, ok bool) {
	head, pairs, _ := strings.Cut(message, "\x01")
	fields := strings.Split(head, ",")
	if len(fields) != 3 || fields[0] != "n" && fields[0] != "y" || fields[2] != "" {
		return "", "", false // RFC 5801 section 4, without channel binding
	}
	name, named := strings.CutPrefix(fields[1], "a=")
	user, legal := unquoteSASLName(name)
	token, ok = bearerToken(pairs)
	return user, token, ok && named && legal
}

// bearerToken finds the token in pairs, each with ^A behind it, and one more ^A
// at the end (RFC 7628 section 3.1). Other pairs are passed over. A token is of
// visible characters (RFC 6750 section 2.1).
func bearerToken(pairs string) (token string, ok bool) {
	pairs, ended := strings.CutSuffix(pairs, "\x01\x01")
	if !ended {
		return "", false
	}
	const scheme = "bearer "
	for pair := range strings.SplitSeq(pairs, "\x01") {
		key, value, found := strings.Cut(pair, "=")
		switch {
		case !found:
			return "", false
		case key != "auth":
		case token != "" || len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme):
			return "", false
		default:
			token = value[len(scheme):]
		}
	}
	invisible := func(r rune) bool { return r <= ' ' || r > '~' }
	return token, token != "" && !strings.ContainsFunc(token, invisible)
}

// unquoteSASLName reads a saslname (RFC 5801 section 4): =2C and =3D stand for a
// comma and an equals sign.
func unquoteSASLName(s string) (name string, ok bool) {
	var b strings.Builder
	for {
		head, rest, found := strings.Cut(s, "=")
		b.WriteString(head)
		switch {
		case !found:
			return b.String(), true
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = rest[2:]
	}
}
