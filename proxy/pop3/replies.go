package pop3

import (
	"github.com/popgate/popgate/proxy/pop3/pop3wire"
	"github.com/popgate/popgate/upstream"
)

// failed replies -ERR for an error of the store. The phrases are fixed: text of
// a mail service never reaches a client.
func (s *session) failed(kind upstream.Kind) Result {
	code, text := kindReply(kind)
	return s.err(code, text)
}

// kindReply is the reply for a kind of error (RFC 2449 section 8.1, RFC 3206).
func kindReply(kind upstream.Kind) (pop3wire.Code, string) {
	switch kind {
	case upstream.Refused:
		return pop3wire.Auth, "wrong user or password"
	case upstream.Unavailable:
		return pop3wire.SysTemp, "the mail service is not available, try again later"
	case upstream.Busy:
		return pop3wire.InUse, "another session uses this maildrop"
	case upstream.Early:
		return pop3wire.LoginDelay, "too soon after the last login"
	case upstream.Gone:
		return pop3wire.NoCode, "the message is no longer there"
	case upstream.Changed:
		return pop3wire.SysTemp, "the mailbox is no longer the same, log in again"
	case upstream.TooBig:
		return pop3wire.SysPerm, "over a limit of this server"
	}
	return pop3wire.SysPerm, "this does not work, ask the administrator"
}
