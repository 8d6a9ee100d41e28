package route

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/popgate/popgate/upstream"
)

// AuthHTTPOptions are the settings of [NewAuthHTTP]. Zero values of times and
// numbers mean the defaults.
type AuthHTTPOptions struct {
	// URL is the service: https://, or http:// with a loopback address. It is
	// asked as it stands, whatever the client sends.
	URL string
	TLS *tls.Config // roots and the like; may be nil
	// KeyHeader is a request header whose value is the secret in KeyFile, by which
	// the service knows who asks; "" for none.
	KeyHeader, KeyFile string

	Timeout time.Duration // for one question, the wait for a free connection included; 10 s
	MaxWait time.Duration // of the time that Auth-Wait asks for; 10 s
	Conns   int           // to the service at a time; 64

	// Choose returns the store that a reply names, and an error where the operator
	// wrote down no such one.
	Choose func(Choice) (upstream.Store, error)
	Trace  AuthHTTPTrace
}

// AuthHTTPTrace is told what goes on. Its function may be nil, and must be safe for
// concurrent use.
type AuthHTTPTrace struct {
	// Asked ends a question: "ok" or the text of an upstream.Kind, and the time it
	// took, without that of Auth-Wait.
	Asked func(result string, d time.Duration)
}

// A Choice is where the reply of the service sends a login, in the words of the
// reply. It chooses among what the operator wrote, and no more.
type Choice struct {
	Upstream string // Popgate-Upstream
	Server   string // Auth-Server
	Port     string // Auth-Port
	Delete   string // Popgate-Delete
}

// AuthHTTP is a store that asks a service over HTTP where each login goes, in the
// protocol of nginx's mail proxy (auth_http), so that one service answers both.
//
// The request is a GET with the headers Auth-Method (plain), Auth-User, Auth-Pass,
// Auth-Protocol (pop3), Auth-Login-Attempt (1), Client-IP, with TLS Auth-SSL (on),
// and of our own Popgate-Listener and, where the client asks for a folder,
// Popgate-Mailbox. In their values "%", blanks and control characters are
// percent-encoded.
//
// The reply is in its headers, whatever its status. Auth-Status is OK, or why the
// login fails: a text that begins with a code of RFC 3206 or RFC 2449 in brackets,
// or beside it an Auth-Error-Code in brackets, is of that kind; any other text says
// that user or password are wrong. Auth-Wait is how many seconds to hold the
// answer back. With OK, Popgate-Upstream or else Auth-Server and Auth-Port say
// which upstream; Auth-User and Auth-Pass replace what the client sent;
// Popgate-Mailbox, percent-encoded, names the mailbox; Popgate-Delete the deletion
// policy. A redirect is not followed. A service that does not answer, or without
// an Auth-Status, never refuses anybody: that is Unavailable, or Internal.
type AuthHTTP struct {
	o         AuthHTTPOptions
	url       *url.URL
	transport *http.Transport
}

// maxReply is the bound on the headers of a reply in octets. A body is not read.
const maxReply = 16 << 10

// NewAuthHTTP checks the options. It does not connect.
func NewAuthHTTP(o AuthHTTPOptions) (*AuthHTTP, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("auth_http: %w", err)
	case u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("auth_http: the URL is not http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH")
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		return nil, errors.New("auth_http: http:// would send passwords in clear text, and is for loopback addresses alone")
	case o.Choose == nil:
		return nil, errors.New("auth_http: no upstreams to choose from")
	}
	o.Timeout, o.MaxWait, o.Conns = cmp.Or(o.Timeout, 10*time.Second), cmp.Or(o.MaxWait, 10*time.Second), cmp.Or(o.Conns, 64)
	dialer := &net.Dialer{Timeout: o.Timeout}
	if u.Scheme == "http" {
		dialer.Control = loopbackOnly
	}
	return &AuthHTTP{o: o, url: u, transport: &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        o.TLS,
		TLSHandshakeTimeout:    o.Timeout,
		MaxResponseHeaderBytes: maxReply,
		MaxConnsPerHost:        o.Conns,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		Protocols:              http1(),
	}}, nil
}

func http1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

func loopbackHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && a.Unmap().IsLoopback()
}

// loopbackOnly looks at the address that a name was resolved to.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is no loopback address", address)
	}
	return nil
}

// Close closes the connections to the service that wait for a next question.
func (a *AuthHTTP) Close() error {
	a.transport.CloseIdleConnections()
	return nil
}

// Login asks the service, and logs in where it says. An authorization identity is
// passed on as it is: it must be the operator's.
func (a *AuthHTTP) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	if c.Proof != upstream.Password {
		return nil, refused("the auth_http service proves passwords alone")
	}
	start, given := time.Now(), c.Secret
	reply, err := a.ask(ctx, c)
	var store upstream.Store
	if err == nil {
		c, store, err = a.apply(reply, c)
	}
	if f := a.o.Trace.Asked; f != nil {
		result := "ok"
		if err != nil {
			result = upstream.KindOf(err).String()
		}
		f(result, time.Since(start))
	}
	if err != nil {
		a.wait(ctx, reply)
		return nil, err
	}
	return logIn(ctx, store, c, given)
}

// ask puts one question, and returns the headers of the reply.
func (a *AuthHTTP) ask(ctx context.Context, c upstream.Credentials) (http.Header, error) {
	request, err := a.request(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.o.Timeout, fmt.Errorf("no answer within %v", a.o.Timeout))
	defer cancel()
	reply, err := a.transport.RoundTrip(request.WithContext(ctx)) // which follows no redirect
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, authError(upstream.Unavailable, err)
	}
	_ = reply.Body.Close() // nobody reads it
	if reply.Header.Get("Auth-Status") != "" {
		return reply.Header, nil
	}
	kind := upstream.Internal
	if reply.StatusCode >= 500 || reply.StatusCode == http.StatusTooManyRequests || reply.StatusCode == http.StatusRequestTimeout {
		kind = upstream.Unavailable
	}
	return nil, authError(kind, fmt.Errorf("status %d and no Auth-Status", reply.StatusCode))
}

func (a *AuthHTTP) request(c upstream.Credentials) (*http.Request, error) {
	h := http.Header{
		"Auth-Method":        {"plain"},
		"Auth-User":          {escape(c.User)},
		"Auth-Pass":          {escape(c.Secret.Reveal())},
		"Auth-Protocol":      {"pop3"},
		"Auth-Login-Attempt": {"1"},
		"Client-IP":          {c.Client.Addr().Unmap().WithZone("").String()},
		"Popgate-Listener":   {escape(c.Listener)},
	}
	if c.TLS {
		h["Auth-SSL"] = []string{"on"}
	}
	if c.Mailbox != "" {
		h.Set("Popgate-Mailbox", escape(c.Mailbox))
	}
	if a.o.KeyHeader != "" {
		key, err := secretOf(a.o.KeyFile)
		if err != nil {
			return nil, err
		}
		h.Set(a.o.KeyHeader, key.Reveal())
	}
	h.Set("User-Agent", "popgate")
	return &http.Request{Method: http.MethodGet, URL: a.url, Host: a.url.Host, Header: h}, nil
}

// escape encodes what would end a value or be cut off from it, as nginx does, and
// DEL.
func escape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c != '%' && c != 0x7f {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func authError(kind upstream.Kind, err error) error {
	return &upstream.Error{Kind: kind, Op: "auth_http", Err: err}
}
