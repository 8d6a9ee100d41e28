package pop3

import (
	"context"
	"crypto/tls"
	"strconv"
	"strings"
	"time"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
	"github.com/popgate/popgate/upstream"
)

// capa answers CAPA (RFC 2449 section 5). Clients decide on what they see before
// login, so both states show the same, but for STLS (RFC 2595 section 8).
func (s *session) capa(arguments) Result {
	s.ok("capabilities follow")
	for _, line := range s.capabilities() {
		s.writeLine(line)
	}
	s.writeLine(".")
	return OK
}

func (s *session) capabilities() []string {
	caps := []string{"TOP", "UIDL"}
	if s.mayLogIn() {
		caps = append(caps, "USER")
	}
	if names := s.mechanisms(); len(names) > 0 {
		caps = append(caps, "SASL "+strings.Join(names, " "))
	}
	if s.state == authorization && !s.encrypted && s.opts.TLS != nil {
		caps = append(caps, "STLS")
	}
	caps = append(caps, "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")
	if s.opts.Expire != ExpireOmitted {
		caps = append(caps, "EXPIRE "+s.opts.Expire)
	}
	if d := s.opts.LoginDelay; d > 0 {
		caps = append(caps, "LOGIN-DELAY "+strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10))
	}
	return append(caps, "IMPLEMENTATION "+s.opts.Implementation)
}

// mayLogIn reports whether a password may be sent over this connection.
func (s *session) mayLogIn() bool { return s.encrypted || s.clearOK }

// needsTLS refuses a login over clear text. It has no response code: the
// credentials are not the cause.
func (s *session) needsTLS() Result { return s.bad("no login without TLS") }

// userName answers USER: always +OK, so that nobody learns which users exist.
func (s *session) userName(a arguments) Result {
	if !s.mayLogIn() {
		return s.needsTLS()
	}
	s.user = string(a.text)
	return s.ok("")
}

func (s *session) pass(a arguments) Result {
	if !s.mayLogIn() {
		return s.needsTLS()
	}
	if s.user == "" {
		return s.bad("USER comes first")
	}
	user := s.user
	s.user = "" // RFC 1939 section 7: after -ERR it begins with USER again
	return s.logIn(mechUser, credentials{user: user, secret: string(a.text)})
}

// logIn proves the client to the store and takes the maildrop.
func (s *session) logIn(mechanism string, c credentials) Result {
	if err := c.check(); err != nil {
		return s.loginFailed(mechanism, c, &upstream.Error{Kind: upstream.Refused, Op: "login", Err: err})
	}
	m, err := s.takeMaildrop(upstream.Credentials{
		User: c.user, Secret: upstream.NewSecret(c.secret), Proof: c.proof, Authorize: c.authorize,
		Client: s.client, Server: addrPort(s.conn.raw.LocalAddr()), Listener: s.via.Listener, TLS: s.encrypted,
		Transcript: s.watched(c.user),
	})
	if err == errClientGone {
		s.finish(EndClientGone)
		return Cut
	}
	if err != nil {
		s.closeAccount()
		return s.loginFailed(mechanism, c, err)
	}
	if c.agreed != nil {
		if over := s.agree(c.agreed); over != "" {
			s.closeAccount()
			return over
		}
	}
	call2(s.opts.Trace.Login, mechanism, string(OK))
	if s.transcript != nil && !s.transcript.on {
		s.transcript = nil // nobody asked for this user's
	}
	s.enterTransaction(c.user, m)
	return s.ok("logged in")
}

// watched returns where it is written down what is said to the mail service; nil
// where nobody asked for that.
func (s *session) watched(user string) upstream.Transcript {
	if s.transcript == nil {
		return nil
	}
	if !s.opts.Watch(user, s.client.Addr()) {
		s.transcript.pause()
		return nil
	}
	s.transcript.begin()
	return s.transcript
}

// takeMaildrop returns errClientGone where that is the reason, or a panic, which
// has ended the session.
func (s *session) takeMaildrop(c upstream.Credentials) (m upstream.Maildrop, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.opts.UpstreamTime)
	defer cancel()
	err = errClientGone
	gone := s.whileConnected(ctx, func(ctx context.Context) { m, err = s.open(ctx, c) })
	if gone && err != nil {
		err = errClientGone
	}
	return m, err
}

// open logs in to the store and opens the maildrop.
func (s *session) open(ctx context.Context, c upstream.Credentials) (upstream.Maildrop, error) {
	account, err := s.opts.Store.Login(ctx, c)
	if err != nil {
		return nil, err
	}
	s.account, s.terms = account, account.Terms()
	start := time.Now()
	m, err := account.Open(ctx)
	if err == nil {
		call(s.opts.Trace.Opened, time.Since(start))
	}
	return m, err
}

// loginFailed replies to a login that failed. Its message and the names of its
// attributes stay as they are: programs that ban addresses read them.
func (s *session) loginFailed(mechanism string, c credentials, err error) Result {
	kind := upstream.KindOf(err)
	s.log.Warn("login failed", "cause", kind.String(), "mechanism", mechanism, "tls", s.encrypted, "user", clip(c.user), "error", err)
	call2(s.opts.Trace.Login, mechanism, kind.String())
	if kind == upstream.Refused && c.refused != nil {
		if _, over := s.challenge(c.refused); over != "" { // what the client says to it means nothing
			return over
		}
	}
	s.failed(kind)
	if kind != upstream.Refused {
		s.countError() // no fault of the client's, but no reason to go on for ever
	} else if s.tries++; s.tries >= s.opts.LoginTries {
		s.finish(EndTooManyLogins)
	}
	return Err
}

// stls answers STLS (RFC 2595 section 4).
func (s *session) stls(arguments) Result {
	switch {
	case s.encrypted:
		return s.bad("TLS is active")
	case s.opts.TLS == nil:
		return s.bad("STLS is not offered")
	case s.in.Buffered() > 0:
		// Somebody on the way may have put it there, to be taken later for
		// what the client said under TLS.
		s.finish(EndInputBeforeTLS)
		return s.err(pop3wire.NoCode, "nothing may follow STLS")
	}
	s.ok("begin TLS")
	if err := s.out.Flush(); err != nil {
		return s.cutOff(EndWriteFailed, err)
	}
	secure := tls.Server(s.conn.raw, s.opts.TLS)
	if err := s.handshake(secure); err != nil {
		if s.ctx.Err() != nil {
			return s.cutOff(EndDrained, err)
		}
		return s.cutOff(EndTLSFailed, err)
	}
	// What was said before TLS may have been said by anybody: it is forgotten,
	// but for the count of errors.
	agreed := secure.ConnectionState()
	call3(s.opts.Trace.Secured, s.via, agreed.Version, agreed.CipherSuite)
	s.conn.upgrade(secure)
	s.in = pop3wire.NewReader(s.conn)
	s.encrypted = true
	s.user = ""
	return OK
}

// handshake takes no longer than its own time and what is left for the login.
func (s *session) handshake(secure *tls.Conn) error {
	by := time.Now().Add(s.opts.HandshakeTime)
	if login := s.deadline(); login.Before(by) {
		by = login
	}
	ctx, cancel := context.WithDeadline(s.ctx, by)
	defer cancel()
	s.conn.raw.SetDeadline(by)
	return secure.HandshakeContext(ctx)
}
