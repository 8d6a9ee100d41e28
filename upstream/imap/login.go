package imap

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/emersion/go-sasl"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

// maxInitial is the longest initial response that goes into the command itself,
// in octets: servers bound a command line (RFC 7162 section 4 speaks of 8192),
// and what is longer waits for the server to ask for it.
const maxInitial = 4000

// login authenticates with what the server offers, and learns the capabilities.
func (d *dialogue) login(c upstream.Credentials) error {
	d.guard.Withhold(d.o.unspeakable(c)...)
	if err := d.needCapabilities(); err != nil {
		return loginError(err)
	}
	if err := d.id(c); err != nil {
		return loginError(err)
	}
	st, why, err := d.authenticate(c)
	if err != nil {
		return loginError(err)
	}
	if st.Type != "OK" {
		text := d.guard.Status().String() // the same, without secrets
		return fail(why.kind(loginKind(st)), opLogin, errors.New(text+why.text))
	}
	return loginError(d.needCapabilities())
}

// authenticate proves c in the one way that fits best.
func (d *dialogue) authenticate(c upstream.Credentials) (st imapguard.Status, why refusal, err error) {
	if c.Proof == upstream.Bearer {
		return d.authenticateBearer(c)
	}
	authorize, user := d.o.loginNames(c)
	switch {
	case d.caps.has("AUTH=PLAIN"):
		st, err = d.authenticatePlain(authorize, user, c.Secret)
	case authorize != "":
		err = failf(upstream.Internal, opLogin, "the server does not offer AUTH=PLAIN on this connection, without which nobody logs in for another; some servers take both names in one, see the master separator")
	case !d.caps.has("LOGINDISABLED"):
		st, err = d.loginCommand(user, c.Secret)
	default:
		err = failf(upstream.Internal, opLogin, "the server offers neither AUTH=PLAIN nor LOGIN on this connection (it may demand TLS first)")
	}
	return st, refusal{}, err
}

// loginNames are the authorization identity, "" for none, and the name that
// proves it, as a login with a password gives them.
func (o *Options) loginNames(c upstream.Credentials) (authorize, user string) {
	switch {
	case c.Authorize == "" || c.Authorize == c.User:
		return "", c.User
	case o.MasterSeparator != "":
		return "", c.Authorize + o.MasterSeparator + c.User
	}
	return c.Authorize, c.User
}

// unspeakable lists what no log may repeat of credentials, as they are sent.
func (o *Options) unspeakable(c upstream.Credentials) []string {
	secret := c.Secret.Reveal()
	if c.Proof == upstream.Bearer {
		return []string{secret, inBase64(xoauth2(c)), inBase64(o.oauthBearer(c))}
	}
	authorize, user := o.loginNames(c)
	return []string{secret, inBase64(authorize + "\x00" + user + "\x00" + secret)}
}

func inBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// id tells the server where the POP3 client is (RFC 2971 section 3.1), in the
// fields that Dovecot and its kin read, so that their own limits on guesses meet
// the guesser and not the gateway. The server's opinion of it does not matter. It
// is not sent with the login in one piece: a server may lose what comes behind a
// command before login, and a lost password looks like a dead server.
func (d *dialogue) id(c upstream.Credentials) error {
	if !d.o.SendClient || !d.caps.has("ID") || !c.Client.IsValid() {
		return nil
	}
	text := `ID ("name" "popgate"`
	for _, a := range []struct {
		what string
		addr netip.AddrPort
	}{{"originating", c.Client}, {"connected", c.Server}} {
		if a.addr.IsValid() {
			text += fmt.Sprintf(` "x-%[1]s-ip" "%[2]v" "x-%[1]s-port" "%[3]d"`, a.what, a.addr.Addr().Unmap().WithZone(""), a.addr.Port())
		}
	}
	_, err := d.exchange(text + ")")
	return err
}

func loginError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return e
	}
	return fail(upstream.Unavailable, opLogin, err)
}

// authenticatePlain is AUTHENTICATE PLAIN (RFC 4616 section 2), with the initial
// response in the command where the server takes it (RFC 4959).
func (d *dialogue) authenticatePlain(authorize, user string, secret upstream.Secret) (imapguard.Status, error) {
	mechanism, response, err := sasl.NewPlainClient(authorize, user, secret.Reveal()).Start()
	if err != nil {
		return imapguard.Status{}, err
	}
	encoded := base64.StdEncoding.EncodeToString(response)
	ir := d.caps.has("SASL-IR")
	d.caps = capabilities{} // others may be true after login
	if ir && len(encoded) < maxInitial {
		return d.exchange("AUTHENTICATE " + mechanism + " " + encoded)
	}
	return d.exchange("AUTHENTICATE "+mechanism, encoded)
}

// loginCommand is LOGIN. What is not plain enough for a quoted string goes as a
// synchronising literal: its octets are sent only once the server asked for
// them, so that they can never be taken for a command.
func (d *dialogue) loginCommand(user string, secret upstream.Secret) (imapguard.Status, error) {
	parts := []string{"LOGIN"}
	for _, arg := range []string{user, secret.Reveal()} {
		last := &parts[len(parts)-1]
		if quotable(arg) {
			*last += ` "` + arg + `"`
			continue
		}
		*last += " {" + strconv.Itoa(len(arg)) + "}"
		parts = append(parts, arg)
	}
	d.caps = capabilities{} // others may be true after login
	return d.exchange(parts[0], parts[1:]...)
}

func quotable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return len(s) <= 1000
}
