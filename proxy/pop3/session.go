package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
	"github.com/popgate/popgate/upstream"
)

// A session is one client's connection. One goroutine runs it.
type session struct {
	server *Server
	opts   *Options
	ctx    context.Context // ends when the server will wait no longer
	via    Via
	log    *slog.Logger
	conn   *conn
	in     *pop3wire.Reader
	out    *pop3wire.Writer

	client    netip.AddrPort
	encrypted bool
	clearOK   bool // a login without TLS is accepted
	began     time.Time

	state  state
	end    End  // "" while the session lives
	cut    bool // what is not yet sent must not be sent
	cause  error
	errors int // bad commands so far; STLS does not forget them
	tries  int // refused logins so far

	timestamp string // of the greeting; "" without APOP

	user    string // given by USER, or logged in
	account upstream.Account
	terms   upstream.Terms
	drop    upstream.Maildrop
	marks   *marks

	unread     unread
	tally      tally
	transcript *transcript // nil where nobody asked for one
}

// tally is what the closing line of the log tells.
type tally struct {
	retrieved int   // messages sent whole
	octets    int64 // of messages, whole or not
	deletions Deletions
}

func newSession(ctx context.Context, s *Server, nc net.Conn, via Via) *session {
	x := &session{
		server: s, opts: &s.opts, ctx: ctx, via: via,
		conn:   &conn{raw: nc, top: nc, writeTime: s.opts.WriteTime},
		client: addrPort(nc.RemoteAddr()), encrypted: via.TLS,
		began: time.Now(), state: authorization,
	}
	loopback := x.client.Addr().IsLoopback() && addrPort(nc.LocalAddr()).Addr().IsLoopback()
	x.clearOK = loopback || s.opts.AllowClearText
	x.log = s.opts.Logger.With("listener", via.Listener, "peer", x.client.Addr(), "port", x.client.Port())
	if s.opts.Watch != nil {
		x.transcript = &transcript{log: x.log}
	}
	x.in = pop3wire.NewReader(x.conn)
	x.out = pop3wire.NewWriter(x.conn, &s.buffers)
	return x
}

// run is the session, from the greeting to its end.
func (s *session) run() {
	if t, ok := s.conn.raw.(*tls.Conn); ok { // at once where the handshake is done
		if err := s.handshake(t); err != nil {
			s.cutOff(EndTLSFailed, err)
			return
		}
	}
	s.greet()
	first := true
	for s.end == "" {
		if first && !s.looksLikePOP3() {
			return
		}
		s.unread.forget(s.in)
		if line, ok := s.readLine(s.in.ReadCommand); ok {
			s.command(line, first)
			first = false
		}
	}
}

// greet sends the greeting. Angle brackets in it offer APOP (RFC 1939 section 7).
func (s *session) greet() {
	text := "POP3 ready"
	if s.server.digests != nil {
		s.timestamp = newTimestamp()
		text += " " + s.timestamp
	}
	s.ok(text)
}

// readLine flushes what the client must see before it goes on, then reads one
// line by the deadline of the state. ok is false where the session has ended.
func (s *session) readLine(read func() ([]byte, error)) (line []byte, ok bool) {
	// Whoever waits has all there is for it. While the client has more to ask
	// (RFC 2449 section 6.6), replies are gathered here and not in the kernel: a
	// small segment that is held back there for the acknowledgement of the one
	// before (Nagle) waits for as long as the client delays that, since it has
	// nothing to send. TCP_NODELAY, which package net sets, sends at once, and
	// each write is as large as it can be.
	if !s.in.HasLine() {
		s.out.Flush()
	}
	if s.conn.writeErr != nil {
		s.cutOff(EndWriteFailed, s.conn.writeErr)
		return nil, false
	}
	if s.ctx.Err() != nil {
		s.drain()
		return nil, false
	}
	s.conn.armRead(s.deadline())
	line, err := read()
	if err == nil {
		return line, true
	}
	s.inputEnded(err)
	return nil, false
}

// deadline is the time by which the next line must be there. Before login it is
// fixed: a client that sends an octet now and then gains nothing by it.
func (s *session) deadline() time.Time {
	if s.state == authorization {
		return s.began.Add(s.opts.LoginTime)
	}
	return time.Now().Add(s.opts.IdleTime)
}

// inputEnded ends the session for an error of reading.
func (s *session) inputEnded(err error) {
	switch {
	case errors.Is(err, pop3wire.ErrLineTooLong):
		s.err(pop3wire.NoCode, "line too long")
		s.finish(EndLineTooLong)
	case errors.Is(err, os.ErrDeadlineExceeded) && s.ctx.Err() != nil:
		s.drain()
	case errors.Is(err, os.ErrDeadlineExceeded) && s.state == authorization:
		s.finish(EndLoginTimeout)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.finish(EndAutologout) // no reply, RFC 1939 section 3
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.finish(EndClientGone)
	default:
		s.cause = err
		s.finish(EndClientGone)
	}
}

// looksLikePOP3 waits for the first octet. A TLS record has no line end to wait
// for.
func (s *session) looksLikePOP3() bool {
	const tlsHandshake = 0x16
	_, ok := s.readLine(func() ([]byte, error) {
		b, err := s.in.Peek()
		if err == nil && b == tlsHandshake {
			s.notPOP3()
		}
		return nil, err
	})
	return ok && s.end == ""
}

func (s *session) notPOP3() {
	s.cut = true // not an octet to whom it was not meant for
	s.finish(EndNotPOP3)
}

func (s *session) drain() {
	s.err(pop3wire.SysTemp, "the server is going down, come back later")
	s.finish(EndDrained)
}

// cutOff ends the session in the middle of a reply: what is not yet sent stays
// unsent, and what the client has sent meanwhile is not looked at.
func (s *session) cutOff(end End, cause error) Result {
	s.cut = true
	s.cause = cause
	s.finish(end)
	return Cut
}

// ok replies +OK.
func (s *session) ok(text string) Result {
	return s.status(pop3wire.AppendOK(s.out.Available(), text))
}

// err replies -ERR.
func (s *session) err(code pop3wire.Code, text string) Result {
	s.status(pop3wire.AppendErr(s.out.Available(), code, text))
	return Err
}

// status replies with a status line.
func (s *session) status(line []byte) Result {
	if s.transcript != nil {
		s.transcript.Note("popgate", strings.TrimSuffix(string(line), "\r\n"))
	}
	s.out.Write(line)
	return OK
}

// writeLine writes a line of a multi-line response, or its terminator.
func (s *session) writeLine(line string) {
	s.out.Write(append(append(s.out.Available(), line...), "\r\n"...))
}

// bad replies -ERR to what no right client sends, and ends a session that has
// too much of it.
func (s *session) bad(text string) Result {
	s.err(pop3wire.NoCode, text)
	s.countError()
	return Err
}

func (s *session) countError() {
	if s.errors++; s.errors >= s.opts.BadCommands {
		s.finish(EndTooManyErrors)
	}
}

// guard runs f. A panic ends this session and no other.
func (s *session) guard(f func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		s.fault()
		s.log.Error("panic in a session", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		if f := s.opts.Trace.Panicked; f != nil {
			f()
		}
	}()
	f()
}

// hangUp sends what is left to send and closes the connection.
func (s *session) hangUp() {
	if !s.cut {
		s.out.Flush()
	}
	s.out.Discard()
	switch s.end {
	case EndLineTooLong, EndTooManyErrors, EndTooManyLogins, EndDrained, EndInputBeforeTLS:
		s.conn.linger()
	}
	s.conn.stream().Close()
}

// report tells the trace and the log how the session went.
func (s *session) report() {
	took := time.Since(s.began)
	d := s.tally.deletions
	if d.Marked > 0 {
		call(s.opts.Trace.Deletions, d)
	}
	size := 0
	if s.drop != nil {
		size = s.drop.Len()
	}
	attrs := []any{"reason", string(s.end), "user", clip(s.loggedIn()), "tls", s.encrypted, "duration", took,
		"retrieved", s.tally.retrieved, "octets", s.tally.octets, "marked", d.Marked, "removed", d.Removed,
		"missing", d.Missing, "kept", d.Kept, "messages", size}
	if s.cause != nil {
		attrs = append(attrs, "error", s.cause)
	}
	s.log.Info("session ended", attrs...)
	call3(s.opts.Trace.SessionEnded, s.via, s.end, took)
}

// loggedIn returns the user, "" before login.
func (s *session) loggedIn() string {
	if s.drop == nil {
		return ""
	}
	return s.user
}

// clip bounds what a log line holds of a user name.
func clip(user string) string {
	const most = 256
	return user[:min(len(user), most)]
}
