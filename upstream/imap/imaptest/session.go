package imaptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A session is one connection of the server, served by one goroutine.
type session struct {
	srv *Server
	n   int
	raw net.Conn // below TLS
	br  *bufio.Reader
	bw  *bufio.Writer

	tls       bool
	user      string // "" before login
	view      *view  // nil unless a mailbox is selected
	cut       *literalCut
	inFlight  bool // input was waiting behind the command in work
	storeNear bool // the command before was a STORE, with input waiting behind it
}

// A reply is a tagged reply to come.
type reply struct {
	status, text string // text may begin with a response code
	then         func() error
}

func okay(text string) reply { return reply{status: "OK", text: text} }
func no(text string) reply   { return reply{status: "NO", text: text} }
func bad(text string) reply  { return reply{status: "BAD", text: text} }

// An endError ends the session.
type endError struct {
	how Ending
	why string
}

func (e *endError) Error() string { return e.why }

// timedConn gives every read and write a deadline of its own.
type timedConn struct {
	net.Conn
	idle time.Duration
}

func (c timedConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c timedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// handshakeTime bounds a TLS handshake.
const handshakeTime = 30 * time.Second

func (s *Server) serve(n int, c net.Conn) {
	sess := &session{srv: s, n: n, raw: c}
	s.journal.add(Entry{Conn: n, Kind: Connected})
	s.mu.Lock()
	s.open++
	over := s.profile.MaxConnections > 0 && s.open > s.profile.MaxConnections
	s.mu.Unlock()
	err := sess.run(over)
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	s.journal.add(Entry{Conn: n, Kind: Ended, Line: err.Error()})
	c.SetDeadline(time.Time{})
	end, ok := errors.AsType[*endError](err)
	if !ok {
		return
	}
	finish(c, end.how)
}

func (s *session) use(c net.Conn) {
	t := timedConn{c, s.srv.profile.autologout()}
	s.br, s.bw = bufio.NewReader(t), bufio.NewWriter(t)
}

func (s *session) startTLS() error {
	c := tls.Server(s.raw, s.srv.tls)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	s.tls = true
	s.use(c)
	return nil
}

// run serves the connection until it ends; its error says why.
func (s *session) run(over bool) error {
	s.use(s.raw)
	if s.srv.implicit {
		if err := s.startTLS(); err != nil {
			return err
		}
	}
	if err := s.greet(over); err != nil {
		return err
	}
	for {
		if err := s.step(over); err != nil {
			return err
		}
	}
}

func (s *session) greet(over bool) error {
	greeting := Command{Conn: s.n, Verb: GREETING}
	nth, all := s.srv.rules.count(greeting)
	v := s.srv.rules.ask(true, greeting, nth, all)
	switch {
	case v.reply != nil:
		s.untagged("* %s %s", v.reply.status, v.reply.text)
		return s.bw.Flush()
	case v.decides():
		return s.obey(v)
	case over && s.srv.profile.LimitReply == LimitBYE:
		s.untagged("* BYE too many connections")
		s.bw.Flush()
		return &endError{FIN, "over the connection limit"}
	}
	code := ""
	if s.srv.profile.GreetingCaps {
		code = "[CAPABILITY " + s.capabilities() + "] "
	}
	s.untagged("* OK %sready", code)
	return s.bw.Flush()
}

// step serves one command.
func (s *session) step(over bool) error {
	raw, err := readCommand(s.br, s.srv.profile.maxLine(), s.has("LITERAL+"), s.goOn)
	if err != nil {
		return s.unread(raw, err)
	}
	s.inFlight = s.br.Buffered() > 0
	c, err := parseCommand(raw)
	c.Conn = s.n
	secret := redact(&c)
	entry := s.srv.journal.add(Entry{Conn: s.n, Kind: Received, Command: c, Secret: secret})
	if syn, ok := errors.AsType[*syntaxError](err); ok {
		return s.tagged(c, reply{status: "BAD", text: syn.text})
	}
	nth, all := s.srv.rules.count(c)
	v := s.srv.rules.ask(true, c, nth, all)
	s.cut = v.literal
	if v.decides() {
		return s.decided(c, v)
	}
	r, err := s.execute(c, entry, over)
	if err != nil {
		return err
	}
	s.catchUp(mayExpunge(c.Verb))
	v = s.srv.rules.ask(false, c, nth, all)
	if v.decides() {
		return s.decided(c, v)
	}
	if err := s.tagged(c, r); err != nil {
		return err
	}
	if r.then != nil {
		return r.then()
	}
	return nil
}

// unread answers, where it can, a command that could not be read.
func (s *session) unread(raw []byte, err error) error {
	if syn, ok := errors.AsType[*syntaxError](err); ok {
		c, _ := parseCommand(raw)
		c.Conn, c.Tag = s.n, syn.tag
		redact(&c)
		s.srv.journal.add(Entry{Conn: s.n, Kind: Received, Command: c})
		if err := s.tagged(c, reply{status: "BAD", text: syn.text}); err != nil || !syn.end {
			return err
		}
		return &endError{FIN, syn.text}
	}
	if end, ok := errors.AsType[*endError](err); ok {
		return end
	}
	if errors.Is(err, errAbandoned) {
		return nil
	}
	if len(raw) > 0 {
		s.srv.journal.add(Entry{Conn: s.n, Kind: Broken, Line: redactLine(raw)})
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		s.untagged("* BYE autologout")
		s.bw.Flush()
		return &endError{FIN, "autologout"}
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the client closed")
	}
	return err
}

// errAbandoned says that a command was answered before its literal came.
var errAbandoned = errors.New("command abandoned")

// goOn sends the continuation of a synchronising literal.
func (s *session) goOn(tag string) error {
	c := Command{Conn: s.n, Tag: tag, Verb: CONTINUE}
	nth, all := s.srv.rules.count(c)
	if v := s.srv.rules.ask(true, c, nth, all); v.decides() {
		if err := s.decided(c, v); err != nil {
			return err
		}
		return errAbandoned
	}
	return s.ask("ready for the literal")
}

// ask sends a continuation request.
func (s *session) ask(text string) error {
	fmt.Fprintf(s.bw, "+ %s\r\n", text)
	return s.bw.Flush()
}

// decided carries out what an action wants in place of the reply.
func (s *session) decided(c Command, v verdict) error {
	if v.reply != nil {
		if err := s.tagged(c, *v.reply); err != nil {
			return err
		}
		v.reply = nil
	}
	return s.obey(v)
}

// obey sends raw octets and ends the connection where v says so.
func (s *session) obey(v verdict) error {
	s.bw.Write(v.raw)
	if err := s.bw.Flush(); err != nil {
		return err
	}
	if v.end {
		return &endError{v.ending, "by an action of the test"}
	}
	return nil
}

// tagged journals and sends a tagged reply.
func (s *session) tagged(c Command, r reply) error {
	n := s.srv.journal.add(Entry{Conn: s.n, Kind: Replied, Command: c, Status: r.status})
	line := s.casing(r.status + " " + r.text)
	if r.status == "OK" && !strings.HasPrefix(r.text, "[") {
		switch s.srv.profile.Dialect.Text {
		case TextEmpty:
			line = s.casing("OK ")
		case TextNone:
			line = s.casing("OK")
		}
	}
	fmt.Fprintf(s.bw, "%s %s\r\n", c.Tag, line)
	err := s.bw.Flush()
	if err != nil {
		s.srv.journal.update(n, func(e *Entry) { e.Lost = true })
	}
	return err
}

// untagged writes a line into the buffer; a lost connection shows at the flush.
func (s *session) untagged(format string, a ...any) {
	s.bw.WriteString(s.casing(fmt.Sprintf(format, a...)))
	s.bw.WriteString("\r\n")
}

// casing lowers what stands outside quotes, where the dialect asks for it.
func (s *session) casing(line string) string {
	if !s.srv.profile.Dialect.LowerCase {
		return line
	}
	parts := strings.Split(line, `"`)
	for i := 0; i < len(parts); i += 2 {
		parts[i] = strings.ToLower(parts[i])
	}
	return strings.Join(parts, `"`)
}

// noise sends the dialect's lines for the middle of a command.
func (s *session) noise() {
	for _, line := range s.srv.profile.Dialect.Noise {
		s.untagged("%s", line)
	}
}

// catchUp tells what other clients did.
func (s *session) catchUp(expunge bool) {
	if s.view == nil {
		return
	}
	s.srv.mu.Lock()
	lines := s.view.catchUp(expunge)
	s.srv.mu.Unlock()
	for _, line := range lines {
		s.untagged("%s", line)
	}
}

// mayExpunge reports whether EXPUNGE may be told during the command
// (RFC 3501 section 7.4.1).
func mayExpunge(verb string) bool { return verb != "FETCH" && verb != "STORE" && verb != "SEARCH" }

// has reports whether a capability is on in this state: before login a server
// with ShortCaps knows only the few that matter there.
func (s *session) has(capability string) bool {
	p := s.srv.profile
	return p.Has(capability) && (s.user != "" || !p.ShortCaps || containsFold(earlyCaps(), capability))
}

func earlyCaps() []string { return []string{"SASL-IR", "LITERAL+", "ID", "ENABLE"} }
