package route

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/popgate/popgate/upstream"
)

// apply does what a reply says.
func (a *AuthHTTP) apply(reply http.Header, c upstream.Credentials) (upstream.Credentials, upstream.Store, error) {
	if status := reply.Get("Auth-Status"); status != "OK" {
		return c, nil, authError(kindOf(status, reply.Get("Auth-Error-Code")), errors.New("the service says: "+printable(status, c.Secret)))
	}
	for _, field := range []struct {
		header string
		set    func(string)
	}{
		{"Auth-User", func(s string) { c.User = s }},
		{"Auth-Pass", func(s string) { c.Secret = upstream.NewSecret(s) }},
		{"Popgate-Mailbox", func(s string) { c.Mailbox = s }},
	} {
		value := reply.Get(field.header)
		if value == "" {
			continue
		}
		if field.header == "Popgate-Mailbox" {
			var err error
			if value, err = url.PathUnescape(value); err != nil || len(value) > MaxFolder || !utf8.ValidString(value) {
				return c, nil, authError(upstream.Internal, fmt.Errorf("%s is no name of a mailbox", field.header))
			}
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return c, nil, authError(upstream.Internal, fmt.Errorf("control characters in %s", field.header))
		}
		field.set(value)
	}
	store, err := a.o.Choose(Choice{
		Upstream: reply.Get("Popgate-Upstream"), Server: reply.Get("Auth-Server"), Port: reply.Get("Auth-Port"), Delete: reply.Get("Popgate-Delete"),
	})
	if err != nil {
		return c, nil, authError(upstream.Internal, err)
	}
	return c, store, nil
}

// codes are the response codes that a service can give (RFC 2449 section 8, RFC
// 3206).
var codes = map[string]upstream.Kind{
	"AUTH": upstream.Refused, "SYS/TEMP": upstream.Unavailable, "SYS/PERM": upstream.Internal,
	"IN-USE": upstream.Busy, "LOGIN-DELAY": upstream.Early,
}

// kindOf classes a login that fails. A reply code of SMTP that begins with 4 is
// for the moment as well: one service may serve both.
func kindOf(status, errorCode string) upstream.Kind {
	for _, text := range []string{errorCode, status} {
		inside, bracket := strings.CutPrefix(text, "[")
		code, _, closed := strings.Cut(inside, "]")
		if kind, known := codes[strings.ToUpper(code)]; bracket && closed && known {
			return kind
		}
	}
	if strings.HasPrefix(errorCode, "4") {
		return upstream.Unavailable
	}
	return upstream.Refused
}

// printable is a text of the service for the log: bounded, and without the secret
// should the service repeat it.
func printable(s string, secret upstream.Secret) string {
	const most = 200
	if word := secret.Reveal(); word != "" {
		s = strings.ReplaceAll(s, word, secret.String())
	}
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// wait is as long as the reply asks for, within the limit and the client's
// patience.
func (a *AuthHTTP) wait(ctx context.Context, reply http.Header) {
	seconds, err := strconv.ParseUint(reply.Get("Auth-Wait"), 10, 31)
	if err != nil || seconds == 0 {
		return
	}
	timer := time.NewTimer(min(time.Duration(seconds)*time.Second, a.o.MaxWait))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
