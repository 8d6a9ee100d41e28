package imap

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unique"

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

	o *Options
}

// capabilities is a set of capability names. All connections to a server have the
// same, and share its memory. The zero value: not told.
type capabilities struct {
	names unique.Handle[string] // in upper case, each between two spaces
}

func (c capabilities) told() bool { return c != capabilities{} }

// has reports whether name, which is in upper case, is one of them.
func (c capabilities) has(name string) bool {
	return c.told() && strings.Contains(c.names.Value(), " "+name+" ")
}

func newDialogue(g *imapguard.Conn, o *Options) *dialogue {
	var r [4]byte
	rand.Read(r[:]) // never fails
	return &dialogue{guard: g, tag: "p" + hex.EncodeToString(r[:]), o: o}
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
	if !d.caps.has("STARTTLS") {
		return failf(upstream.Internal, opConnect, "the server does not offer STARTTLS, without which no password is sent to it")
	}
	st, err := d.exchange("STARTTLS")
	if err != nil {
		return err
	}
	if st.Type != "OK" {
		return fmt.Errorf("STARTTLS: %v", st)
	}
	d.caps = capabilities{} // RFC 3501 section 6.2.1: what was said in clear text is forgotten
	return d.guard.StartTLS(ctx, config)
}

// needCapabilities asks for the capabilities unless the server has told them.
func (d *dialogue) needCapabilities() error {
	if d.caps.has("IMAP4REV1") || d.caps.has("IMAP4REV2") {
		return nil
	}
	st, err := d.exchange("CAPABILITY")
	if err != nil {
		return err
	}
	if st.Type != "OK" || !d.caps.told() {
		return fmt.Errorf("CAPABILITY: %v", d.guard.Status())
	}
	return nil
}

// exchange sends a command and then each of the continuations, one for each
// "+" of the server. A tagged reply ends it: what was not asked for is not sent.
func (d *dialogue) exchange(text string, continuations ...string) (imapguard.Status, error) {
	st, err := d.converse(text, func([]byte) (string, error) {
		if len(continuations) == 0 {
			return "", errors.New("the server asks for octets that no command has")
		}
		next := continuations[0]
		continuations = continuations[1:]
		return next, nil
	})
	if err == nil && st.Type == "OK" && len(continuations) > 0 {
		return imapguard.Status{}, errEarlyOK
	}
	return st, err
}

var errEarlyOK = &imapguard.Violation{Reason: "OK to a command whose rest it did not ask for"}

// converse sends a command and, for each "+" of the server, what answer makes of
// the text behind it, until a tagged reply ends it.
func (d *dialogue) converse(text string, answer func(challenge []byte) (string, error)) (imapguard.Status, error) {
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
			_, challenge, _ := bytes.Cut(line, []byte(" "))
			next, err := answer(challenge)
			if err == nil {
				err = d.send(next)
			}
			if err != nil {
				return imapguard.Status{}, err
			}
		case first == tag:
			if caps := codeCapabilities(line); word == "OK" && caps.told() {
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

// codeCapabilities returns the set of an [CAPABILITY ...] response code, if
// there is one.
func codeCapabilities(line []byte) capabilities {
	_, rest, ok := bytes.Cut(line, []byte("["))
	if !ok {
		return capabilities{}
	}
	code, _, ok := bytes.Cut(rest, []byte("]"))
	name, list, _ := bytes.Cut(code, []byte(" "))
	if !ok || !bytes.EqualFold(name, []byte("CAPABILITY")) {
		return capabilities{}
	}
	return wordSet(list)
}

// wordSet returns the set of a list with spaces between the names.
func wordSet(list []byte) capabilities {
	words := strings.Fields(strings.ToUpper(string(list)))
	return capabilities{unique.Make(" " + strings.Join(words, " ") + " ")}
}

func eofAsCut(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the server closed the connection")
	}
	return err
}
