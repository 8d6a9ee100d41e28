package imap

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

// authenticateBearer proves an access token. XOAUTH2 is what Microsoft has and
// nothing else, and what Gmail, Yahoo and Dovecot are asked for most; servers of
// the standard alone have OAUTHBEARER (RFC 7628). They say the same.
func (d *dialogue) authenticateBearer(c upstream.Credentials) (st imapguard.Status, why refusal, err error) {
	var mechanism, response, end string
	switch {
	case d.caps.has("AUTH=XOAUTH2"):
		mechanism, response = "XOAUTH2", inBase64(xoauth2(c))
	case d.caps.has("AUTH=OAUTHBEARER"):
		mechanism, response, end = "OAUTHBEARER", inBase64(d.o.oauthBearer(c)), inBase64("\x01")
	default:
		return st, why, failf(upstream.Internal, opLogin, "the server offers neither AUTH=XOAUTH2 nor AUTH=OAUTHBEARER on this connection: it takes no access token")
	}
	command := "AUTHENTICATE " + mechanism
	sent := d.caps.has("SASL-IR") && len(response) < maxInitial
	if sent {
		command += " " + response
	}
	d.caps = capabilities{} // others may be true after login
	st, err = d.converse(command, func(challenge []byte) (string, error) {
		switch {
		case !sent:
			sent = true
			return response, nil
		case why.told:
			return "", errors.New("the server goes on asking after it refused the token")
		}
		why = readRefusal(challenge, c.Secret)
		return end, nil // the server says NO only then (RFC 7628 section 3.2.3)
	})
	if err == nil && st.Type == "OK" && (!sent || why.told) {
		err = errEarlyOK
	}
	return st, why, err
}

// xoauth2 is the response of XOAUTH2, as Google and Microsoft describe it. The
// user is the one whose mailbox is wanted: the token says who proves it.
func xoauth2(c upstream.Credentials) string {
	return "user=" + owner(c) + "\x01auth=Bearer " + c.Secret.Reveal() + "\x01\x01"
}

// oauthBearer is the response of OAUTHBEARER (RFC 7628 section 3.1).
func (o *Options) oauthBearer(c upstream.Credentials) string {
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(owner(c)) // RFC 5801 section 4
	return fmt.Sprintf("n,a=%s,\x01host=%s\x01port=%d\x01auth=Bearer %s\x01\x01", name, o.Host, o.Port, c.Secret.Reveal())
}

// owner is the user whose maildrop is wanted.
func owner(c upstream.Credentials) string {
	if c.Authorize != "" {
		return c.Authorize
	}
	return c.User
}

// A refusal is what a server tells of a token before it says NO.
type refusal struct {
	told      bool
	text      string // for the log
	temporary bool   // the token is not the cause
}

// kind corrects the kind of the NO that followed.
func (r refusal) kind(k upstream.Kind) upstream.Kind {
	if k == upstream.Refused && r.temporary {
		return upstream.Unavailable
	}
	return k
}

// readRefusal reads the challenge that refuses a token: JSON in base64 (RFC 7628
// section 3.2.2), whose status is an HTTP status code at Google and Microsoft. It
// is read for the log alone, and never repeats a token.
func readRefusal(challenge []byte, token upstream.Secret) refusal {
	r := refusal{told: true}
	text, err := base64.StdEncoding.DecodeString(string(challenge))
	var said struct{ Status, Scope any }
	if err != nil || json.Unmarshal(text, &said) != nil {
		return r
	}
	for _, f := range []struct {
		name  string
		value any
	}{{"status", said.Status}, {"scope", said.Scope}} {
		if f.value == nil {
			continue
		}
		value := clean(fmt.Sprint(f.value))
		if secret := token.Reveal(); strings.Contains(value, secret[:min(len(secret), 8)]) {
			value = "(it repeats the credentials)"
		}
		r.text += fmt.Sprintf("; the token's %s: %s", f.name, value)
		r.temporary = r.temporary || f.name == "status" && len(value) == 3 && (value[0] == '5' || value == "429")
	}
	return r
}

// clean returns the printable ASCII of s, at most 200 octets.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}

// maxToken bounds an access token, in octets: large ones take some thousand.
const maxToken = 64 << 10

// checkSpeech refuses what no server can be told: names that would be read as
// other ones, and tokens that are none. A token is printable ASCII without spaces
// (RFC 6750 section 2.1 has fewer): it stands between separators.
func (o *Options) checkSpeech(c upstream.Credentials) error {
	if strings.ContainsFunc(c.User+c.Authorize, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return failf(upstream.Refused, opLogin, "a user name with control characters")
	}
	switch c.Proof {
	case upstream.Password:
		if sep := o.MasterSeparator; sep != "" && c.Authorize != "" && strings.Contains(c.Authorize, sep) {
			return failf(upstream.Refused, opLogin, "a user name with the master separator in it")
		}
		return nil
	case upstream.Bearer:
		token := c.Secret.Reveal()
		if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
			return failf(upstream.Refused, opLogin, "no access token: it has to be 1 to %d octets of printable ASCII", maxToken)
		}
		return nil
	}
	return failf(upstream.Refused, opLogin, "a secret that popgate shares with the client proves nothing to the mail server")
}
