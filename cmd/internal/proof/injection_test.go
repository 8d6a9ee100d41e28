package proof_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
)

// injectionServer reads commands as RFC 3501 writes them, and nothing else: what
// it cannot read it keeps as an error. It refuses every login.
type injectionServer struct {
	caps string // of the greeting

	mu    sync.Mutex
	dials int
	user  string
	pass  string
	steps []string // the verb of each command
	err   error
	conns sync.WaitGroup
}

func (s *injectionServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	s.mu.Lock()
	s.dials++
	s.mu.Unlock()
	s.conns.Go(func() {
		defer server.Close()
		if err := s.serve(server); err != nil && err != io.EOF {
			s.mu.Lock()
			s.err = errors.Join(s.err, err)
			s.mu.Unlock()
		}
	})
	return client, nil
}

func (s *injectionServer) serve(c net.Conn) error {
	in := bufio.NewReaderSize(c, 64<<10)
	say := func(format string, a ...any) { fmt.Fprintf(c, format+"\r\n", a...) }
	say("* OK [CAPABILITY IMAP4rev1 %s] x", s.caps)
	for {
		line, err := injectionLine(in)
		if err != nil {
			return err
		}
		tag, rest, ok := strings.Cut(line, " ")
		verb, rest, _ := strings.Cut(rest, " ")
		if !ok || tag == "" || strings.ContainsAny(tag, "(){%*\"\\]+") {
			return fmt.Errorf("no command: %q", line)
		}
		s.mu.Lock()
		s.steps = append(s.steps, verb)
		s.mu.Unlock()
		switch verb {
		case "AUTHENTICATE":
			mechanism, response, initial := strings.Cut(rest, " ")
			if initial && !strings.Contains(s.caps, "SASL-IR") {
				return fmt.Errorf("an initial response to a server without SASL-IR: %q", line)
			}
			if !initial {
				say("+ ")
				if response, err = injectionLine(in); err != nil {
					return err
				}
			}
			plain, err := base64.StdEncoding.Strict().DecodeString(response)
			f := strings.Split(string(plain), "\x00")
			if mechanism != "PLAIN" || err != nil || len(f) != 3 || f[0] != "" && f[0] != f[1] {
				return fmt.Errorf("AUTHENTICATE %q: %v", plain, err)
			}
			s.got(f[1], f[2])
		case "LOGIN":
			user, rest, err := injectionString(in, say, rest)
			if err != nil {
				return err
			}
			rest, ok := strings.CutPrefix(rest, " ")
			pass, rest, err := injectionString(in, say, rest)
			if !ok || err != nil || rest != "" {
				return fmt.Errorf("LOGIN: %q is left, %v", rest, err)
			}
			s.got(user, pass)
		case "CAPABILITY":
			say("* CAPABILITY IMAP4rev1 %s", s.caps)
			say("%s OK x", tag)
			continue
		case "LOGOUT":
			say("%s OK x", tag)
			return nil
		default:
			return fmt.Errorf("a command that no login has: %q", line)
		}
		say("%s NO [AUTHENTICATIONFAILED] x", tag)
	}
}

func (s *injectionServer) got(user, pass string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user, s.pass = user, pass
}

func injectionLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		if line != "" {
			err = fmt.Errorf("half a line: %q", line)
		}
		return "", err
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(text, "\r\x00") {
		return "", fmt.Errorf("no line: %q", line)
	}
	return text, nil
}

// injectionString reads a quoted string or a synchronising literal.
func injectionString(in *bufio.Reader, say func(string, ...any), text string) (value, rest string, err error) {
	switch {
	case strings.HasPrefix(text, `"`):
		for i := 1; i < len(text); i++ {
			switch c := text[i]; {
			case c == '"':
				return value, text[i+1:], nil
			case c == '\\':
				i++
				if i == len(text) || text[i] != '"' && text[i] != '\\' {
					return "", "", fmt.Errorf("a bad escape in %q", text)
				}
				value += text[i : i+1]
			case c >= 0x80:
				return "", "", fmt.Errorf("8-bit octets in a quoted string: %q", text)
			default:
				value += text[i : i+1]
			}
		}
	case strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}"):
		n, err := strconv.ParseUint(text[1:len(text)-1], 10, 20) // no "+"
		if err != nil {
			return "", "", err
		}
		say("+ x")
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			return "", "", err
		}
		rest, err := injectionLine(in)
		return string(b), rest, err
	}
	return "", "", fmt.Errorf("neither quoted string nor literal: %q", text)
}

// injectionFronts are the ways in which a client gives its credentials; ok is
// false where it cannot give these. trimmed is what the client is taken to mean.
var injectionFronts = []struct {
	name string
	say  func(user, pass string) (commands, trimmed string, ok bool)
}{
	{"USER", func(user, pass string) (string, string, bool) {
		// A line cannot hold LF, and spaces at its end are not of the argument.
		ok := !strings.Contains(user+pass, "\n") && len(user) < 500
		return "USER " + user + "\r\nPASS " + pass + "\r\n", strings.TrimRight(user, " "), ok
	}},
	{"PLAIN", func(user, pass string) (string, string, bool) {
		return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+pass)) + "\r\n", user, len(user+pass) < 12_000
	}},
	{"LOGIN", func(user, pass string) (string, string, bool) {
		e := base64.StdEncoding.EncodeToString
		return "AUTH LOGIN\r\n" + e([]byte(user)) + "\r\n" + e([]byte(pass)) + "\r\n", user, true
	}},
}

// TestInjection gives every octet, in every place of the user
// and the password, through every way in and every way out: the server reads
// exactly this user and this password in exactly one command, or is never asked.
func TestInjection(t *testing.T) {
	type pair struct{ user, pass string }
	var pairs []pair
	add := func(texts ...string) {
		for _, x := range texts {
			pairs = append(pairs, pair{x, "secret"}, pair{"alice", x}, pair{x, x})
		}
	}
	step := proof.Pick(5, 1, 1)
	for c := 0; c < 256; c++ {
		if c%step != 0 && !strings.ContainsRune("\x00\x01\r\n\t \"\\{}()*%+:=\x7f", rune(c)) {
			continue
		}
		o := string([]byte{byte(c)})
		add("al"+o+"ice", o+"alice", "alice"+o)
		if step == 1 {
			add(o, o+o, "al"+o+o+"ice")
		}
	}
	add("", " ", "NIL", "{5}", "{5+}", "{5}\r\nabcde", "alice {3}", `" "x`, `a" "b`, `a\`, `\"`, `a"`, "*", "+", "=", "a\x00b\x00c", "alice\x00secret\x00x",
		"alice\r\nA9 DELETE INBOX", "alice\nA9 DELETE INBOX", "x\rA9 LOGOUT", "user=x\x01auth=Bearer y\x01\x01", "{user}", "%u", "$(x)", "../x", "alice@example.org",
		"\u00fc\u00f1\u4e2d", "\xc0\x80", "\ufeffalice", strings.Repeat("x", 254), strings.Repeat("y", 999), strings.Repeat("y", 1000), strings.Repeat("y", 1001),
		strings.Repeat(`"`, 1500), strings.Repeat("z", 2990), strings.Repeat("z", 3100), strings.Repeat("z", 8000))
	logins, refused := 0, 0
	for _, caps := range []string{"AUTH=PLAIN SASL-IR", "AUTH=PLAIN", "LITERAL+"} {
		for _, front := range injectionFronts {
			for _, p := range pairs {
				commands, user, ok := front.say(p.user, p.pass)
				if !ok {
					continue
				}
				srv := &injectionServer{caps: caps}
				store, err := imap.New(imap.Options{Host: "127.0.0.1", Dial: srv.dial, ReadAhead: proofReadAhead()})
				if err != nil {
					t.Fatal(err)
				}
				got := string(fidelityPlay(t, hostileEngine(t, store, pop3.Options{}), commands+"QUIT\r\n"))
				srv.conns.Wait()
				logins++
				fault := func(format string, a ...any) {
					t.Errorf("%s to %q, user %.60q, password %.60q: %s", front.name, caps, p.user, p.pass, fmt.Sprintf(format, a...))
				}
				if srv.err != nil {
					fault("%v", srv.err)
				}
				if strings.Count(got, "-ERR") != 1 && !(front.name == "USER" && user == "") {
					fault("the client saw %q", got)
				}
				if harmless := injectionHarmless(user, p.pass); harmless != (srv.dials > 0) {
					fault("the server was asked %d times; harmless: %v", srv.dials, harmless)
				}
				if srv.dials == 0 {
					refused++
					continue
				}
				var logins []string
				for _, verb := range srv.steps {
					if verb == "AUTHENTICATE" || verb == "LOGIN" {
						logins = append(logins, verb)
					}
				}
				if srv.dials != 1 || len(logins) != 1 {
					fault("%d connections, commands %q", srv.dials, srv.steps)
				}
				if srv.user != user || srv.pass != p.pass {
					fault("the server reads user %.60q, password %.60q", srv.user, srv.pass)
				}
			}
			if t.Failed() {
				return
			}
		}
	}
	proof.Report(t, "I1", true, "%d logins with every octet in every place, 3 ways in, 3 ways out: each arrived as itself in one command, or (%d) was refused before any contact", logins, refused)
}

// injectionHarmless reports whether nothing is wrong with the credentials: they
// have to arrive then.
func injectionHarmless(user, pass string) bool {
	return user != "" && pass != "" && !strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f }) && !strings.ContainsAny(pass, "\x00\r\n")
}
