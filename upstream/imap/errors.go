package imap

import (
	"context"
	"errors"
	"fmt"
	"strings"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

func fail(kind upstream.Kind, op string, err error) *upstream.Error {
	return &upstream.Error{Kind: kind, Op: op, Err: err}
}

func failf(kind upstream.Kind, op, format string, args ...any) *upstream.Error {
	return fail(kind, op, fmt.Errorf(format, args...))
}

// refused reports whether err is the server's tagged NO or BAD: the command
// was answered and the connection lives.
func refused(err error) bool {
	_, ok := errors.AsType[*imap2.Error](err)
	return ok
}

// classify makes an error of the hinge out of what ended a command.
func classify(ctx context.Context, op string, err error, last imapguard.Status) *upstream.Error {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*imap2.Error](err); ok {
		st := imapguard.Status{Type: string(e.Type), Code: strings.ToUpper(string(e.Code)), Text: last.Text}
		return fail(statusKind(st), op, errors.New(st.String()))
	}
	if cause := context.Cause(ctx); cause != nil {
		return fail(upstream.Unavailable, op, cause)
	}
	if last.Type != "" {
		err = fmt.Errorf("%w (the server's last word: %v)", err, last)
	}
	return fail(upstream.Unavailable, op, err)
}

// statusKind maps a tagged NO or BAD outside of login (RFC 5530).
func statusKind(st imapguard.Status) upstream.Kind {
	switch st.Code {
	case "INUSE":
		return upstream.Busy
	case "EXPUNGEISSUED":
		return upstream.Gone
	case "NOPERM", "CONTACTADMIN", "CORRUPTION", "SERVERBUG", "CANNOT", "NONEXISTENT", "TRYCREATE", "OVERQUOTA", "ALREADYEXISTS", "READ-ONLY":
		return upstream.Internal
	}
	return upstream.Unavailable
}

// loginKind maps the reply that ended a login without success. Without a code
// that says otherwise a NO means that the credentials are wrong, as servers
// older than RFC 5530 say it; but a server that is down, full or over a limit
// must never look like a wrong password.
func loginKind(st imapguard.Status) upstream.Kind {
	if st.Type != "NO" {
		return upstream.Unavailable
	}
	switch st.Code {
	case "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED":
		return upstream.Refused
	case "INUSE":
		return upstream.Busy
	case "UNAVAILABLE", "LIMIT", "SERVERBUG", "THROTTLED", "OVERQUOTA":
		return upstream.Unavailable
	case "PRIVACYREQUIRED", "CONTACTADMIN", "NOPERM", "CORRUPTION":
		return upstream.Internal
	}
	if soundsTemporary(st.Text) {
		return upstream.Unavailable
	}
	return upstream.Refused
}

// soundsTemporary knows the wordings of servers that refuse a login without a
// code for reasons that are not the password: Dovecot and Gmail over their
// connection limits, Exchange in trouble, Cyrus and Courier with a broken
// authentication service.
func soundsTemporary(text string) bool {
	text = strings.ToLower(text)
	for _, s := range []string{
		"too many", "maximum number of connections", "connection limit", "temporar", "unavailable",
		"try again", "internal error", "server error", "timed out", "timeout", "throttl", "overload",
		"not connected", "no resources", "shutting down",
	} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}
