package imap

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

// A dialogue speaks IMAP by hand until the connection is authenticated. Each
// command waits for the reply to the one before: Courier loses what is sent
// behind LOGIN, and nothing may be sent ahead of a STARTTLS or a refusal.
type dialogue struct {
	guard *imapguard.Conn
	tag   string // unpredictable, so that no reply can be prepared
	n     int
	caps  capabilities

	sendClient bool // tell the server the client's address
}

// capabilities is a set of capability names in upper case.
type capabilities map[string]bool

func newDialogue(g *imapguard.Conn) *dialogue {
	var r [4]byte
	rand.Read(r[:]) // never fails
	return &dialogue{guard: g, tag: "p" + hex.EncodeToString(r[:])}
}

// greeting reads the server's first line (RFC 3501 section 7.1).
func (d *dialogue) greeting() error {
	line, err := d.guard.ReadLine()
	if err != nil {
		return eofAsCut(err)
	}
	switch _, word, _ := splitStatus(line); word {
	case "OK":
		d.caps = codeCapabilities(line)
		return nil
	case "PREAUTH":
		// Nobody knows whose mailbox this would be.
		return errors.New("the server greets with PREAUTH, which leaves no place for the user's credentials")
	case "BYE":
		return fmt.Errorf("the server greets with %v", d.guard.Status())
	}
	return errors.New("what answers is no IMAP server")
}

// startTLS secures the connection (RFC 3501 section 6.2.1). Whatever the server
// does instead of agreeing ends the connection.
func (d *dialogue) startTLS(ctx context.Context, config *tls.Config) error {
	if err := d.needCapabilities(); err != nil {
		return err
	}
	if !d.caps["STARTTLS"] {
		return failf(upstream.Internal, opConnect, "the server does not offer STARTTLS, without which no password is sent to it")
	}
	st, err := d.exchange("STARTTLS")
	if err != nil {
		return err
	}
	if st.Type != "OK" {
		return fmt.Errorf("STARTTLS: %v", st)
	}
	d.caps = nil // RFC 3501 section 6.2.1: what was said in clear text is forgotten
	return d.guard.StartTLS(ctx, config)
}

// login authenticates with what the server offers, and learns the capabilities.
func (d *dialogue) login(c upstream.Credentials) error {
	d.guard.Withhold(unspeakable(c)...)
	if err := d.needCapabilities(); err != nil {
		return loginError(err)
	}
	if err := d.id(c); err != nil {
		return loginError(err)
	}
	var st imapguard.Status
	var err error
	switch {
	case d.caps["AUTH=PLAIN"]:
		st, err = d.authenticatePlain(c)
	case !d.caps["LOGINDISABLED"]:
		st, err = d.loginCommand(c)
	default:
		return failf(upstream.Internal, opLogin, "the server offers neither AUTH=PLAIN nor LOGIN on this connection (it may demand TLS first)")
	}
	if err != nil {
		return loginError(err)
	}
	if st.Type != "OK" {
		return fail(loginKind(st), opLogin, errors.New(d.guard.Status().String())) // the same, without secrets
	}
	return loginError(d.needCapabilities())
}

// unspeakable lists what no log may repeat of credentials, as they are sent.
func unspeakable(c upstream.Credentials) []string {
	secret := c.Secret.Reveal()
	return []string{secret, base64.StdEncoding.EncodeToString([]byte("\x00" + c.User + "\x00" + secret))}
}

// id tells the server where the POP3 client is (RFC 2971 section 3.1), in the
// fields that Dovecot and its kin read, so that their own limits on guesses meet
// the guesser and not the gateway. The server's opinion of it does not matter. It
// is not sent with the login in one piece: a server may lose what comes behind a
// command before login, and a lost password looks like a dead server.
func (d *dialogue) id(c upstream.Credentials) error {
	if !d.sendClient || !d.caps["ID"] || !c.Client.IsValid() {
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

// authenticatePlain is AUTHENTICATE PLAIN, with the initial response in the
// command where the server takes it (RFC 4959).
func (d *dialogue) authenticatePlain(c upstream.Credentials) (imapguard.Status, error) {
	mechanism, response, err := sasl.NewPlainClient("", c.User, c.Secret.Reveal()).Start()
	if err != nil {
		return imapguard.Status{}, err
	}
	encoded := base64.StdEncoding.EncodeToString(response)
	ir := d.caps["SASL-IR"]
	d.caps = nil // others may be true after login
	if ir && len(encoded) < 4000 {
		return d.exchange("AUTHENTICATE " + mechanism + " " + encoded)
	}
	return d.exchange("AUTHENTICATE "+mechanism, encoded)
}

// loginCommand is LOGIN. What is not plain enough for a quoted string goes as a
// synchronising literal: its octets are sent only once the server asked for
// them, so that they can never be taken for a command.
func (d *dialogue) loginCommand(c upstream.Credentials) (imapguard.Status, error) {
	parts := []string{"LOGIN"}
	for _, arg := range []string{c.User, c.Secret.Reveal()} {
		last := &parts[len(parts)-1]
		if quotable(arg) {
			*last += ` "` + arg + `"`
			continue
		}
		*last += " {" + strconv.Itoa(len(arg)) + "}"
		parts = append(parts, arg)
	}
	d.caps = nil // others may be true after login
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

// needCapabilities asks for the capabilities unless the server has told them.
func (d *dialogue) needCapabilities() error {
	if d.caps["IMAP4REV1"] || d.caps["IMAP4REV2"] {
		return nil
	}
	st, err := d.exchange("CAPABILITY")
	if err != nil {
		return err
	}
	if st.Type != "OK" || d.caps == nil {
		return fmt.Errorf("CAPABILITY: %v", d.guard.Status())
	}
	return nil
}

// exchange sends a command and then each of the continuations, one for each
// "+" of the server. A tagged reply ends it: what was not asked for is not sent.
func (d *dialogue) exchange(text string, continuations ...string) (imapguard.Status, error) {
	d.n++
	tag := d.tag + strconv.Itoa(d.n)
	d.guard.Told(tag + " " + shownCommand(text))
	if err := d.send(tag + " " + text); err != nil {
		return imapguard.Status{}, err
	}
	for {
		line, err := d.guard.ReadLine()
		if err != nil {
			return imapguard.Status{}, eofAsCut(err)
		}
		switch first, word, rest := splitStatus(line); {
		case first == "+":
			if len(continuations) == 0 {
				return imapguard.Status{}, errors.New("the server asks for octets that no command has")
			}
			if err := d.send(continuations[0]); err != nil {
				return imapguard.Status{}, err
			}
			continuations = continuations[1:]
		case first == tag && word == "OK" && len(continuations) > 0:
			return imapguard.Status{}, &imapguard.Violation{Reason: "OK to a command whose rest it did not ask for"}
		case first == tag:
			if caps := codeCapabilities(line); word == "OK" && caps != nil {
				d.caps = caps
			}
			return parseTagged(word, rest), nil
		case first == "*" && word == "CAPABILITY":
			d.caps = wordSet(rest)
		case first == "*" && word == "BYE":
			return imapguard.Status{}, fmt.Errorf("the server says %v", d.guard.Status())
		case first != "*":
			return imapguard.Status{}, &imapguard.Violation{Reason: "a reply to a command that was not sent"}
		}
	}
}

// shownCommand is what a transcript shows of a command before the login: its name,
// and of AUTHENTICATE the mechanism's.
func shownCommand(text string) string {
	name, rest, _ := strings.Cut(text, " ")
	if rest == "" {
		return name
	}
	if name == "AUTHENTICATE" {
		mechanism, _, _ := strings.Cut(rest, " ")
		name += " " + mechanism
	}
	return name + " (hidden)"
}

func (d *dialogue) send(line string) error {
	_, err := io.WriteString(d.guard, line+"\r\n")
	return err
}

// splitStatus returns the first two words of a line, the second in upper case,
// and the rest.
func splitStatus(line []byte) (first, word string, rest []byte) {
	a, b, _ := bytes.Cut(line, []byte(" "))
	w, rest, _ := bytes.Cut(b, []byte(" "))
	return string(a), strings.ToUpper(string(w)), rest
}

func parseTagged(word string, rest []byte) imapguard.Status {
	return imapguard.ParseStatus(append([]byte("* "+word+" "), rest...))
}

// codeCapabilities returns the set of an [CAPABILITY ...] response code, nil if
// there is none.
func codeCapabilities(line []byte) capabilities {
	_, rest, ok := bytes.Cut(line, []byte("["))
	if !ok {
		return nil
	}
	code, _, ok := bytes.Cut(rest, []byte("]"))
	name, list, _ := bytes.Cut(code, []byte(" "))
	if !ok || !bytes.EqualFold(name, []byte("CAPABILITY")) {
		return nil
	}
	return wordSet(list)
}

func wordSet(b []byte) capabilities {
	caps := capabilities{}
	for _, w := range strings.Fields(strings.ToUpper(string(b))) {
		caps[w] = true
	}
	return caps
}

func eofAsCut(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the server closed the connection")
	}
	return err
}
