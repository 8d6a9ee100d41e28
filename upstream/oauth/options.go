package oauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// A Grant says what an access token is issued for.
type Grant uint8

const (
	// Refresh is the consent that each user gave once, kept as a refresh token
	// (RFC 6749 section 6): see [Tokens.Device] and [Tokens.Browser].
	Refresh Grant = iota
	// ClientCredentials is the client's own right, to any mailbox that the issuer
	// lets it (RFC 6749 section 4.4). One access token serves all mailboxes.
	ClientCredentials
	// ServiceAccount is an assertion of the client's that names the mailbox
	// (RFC 7523 section 2.1), as Google's service accounts do.
	ServiceAccount
)

// Options are the settings of [New].
type Options struct {
	Name   string // of this grant, 1 to 64 octets: records are kept under it
	Grant  Grant
	Client Client

	Endpoint Endpoint
	Scopes   []string
	// Prompt are further parameters of the page where a user consents.
	Prompt url.Values
	// Redirect is the host name in the redirect URI of that page, as the issuer
	// knows it: "127.0.0.1", or "localhost".
	Redirect string
	// Idle is for how long the issuer keeps a refresh token that is not used; 0 is
	// for ever, or unknown.
	Idle time.Duration

	// Folder keeps the refresh tokens; for [Refresh] alone.
	Folder *tokenfile.Folder
	// Mailboxes are those that may be opened, octet by octet. It is required where
	// the grant opens others as well ([Tokens.AppOnly]), and is not used else. At
	// most [tokenfile.MaxAccounts].
	Mailboxes []string

	Early    time.Duration // before its end an access token is replaced; 5 min
	Every    time.Duration // each account's token is refreshed; 24 h
	Time     time.Duration // for one access token, all told; 20 s
	Requests int           // at the issuer at a time; 16

	TLS       *tls.Config       // towards the issuer; nil: the roots of the system
	Transport http.RoundTripper // nil: one of its own, with TLS
	Logger    *slog.Logger      // nil: none
	Trace     Trace
}

// Client is what popgate is to the issuer.
type Client struct {
	ID     string
	Secret upstream.Secret // empty for a public client and for one with a key
	// Basic sends id and secret in the header (RFC 6749 section 2.3.1) and not
	// among the parameters.
	Basic bool
	// Key proves the client by an assertion (RFC 7523); nil for none.
	Key *Key
}

// Endpoint are the URLs of the issuer: https, or http to a loopback address.
type Endpoint struct {
	Token     string
	Device    string // "" where it has none
	Authorize string
}

// Trace tells what happens to the tokens. Nil functions are not called; they are
// called from many goroutines.
type Trace struct {
	// Requested is called after each try to get an access token, with the time
	// that it took.
	Requested func(Outcome, time.Duration)
	// Kept is called after each round of [Tokens.Keep].
	Kept func(Summary)
}

const (
	defaultEarly    = 5 * time.Minute
	defaultEvery    = 24 * time.Hour
	defaultTime     = 20 * time.Second
	defaultRequests = 16
	dialTime        = 10 * time.Second
	maxHeader       = 64 << 10
)

// check fills what is not set, and says what is wrong.
func (o *Options) check() error {
	if o.Name == "" || len(o.Name) > 64 {
		return errors.New("the name of a grant has 1 to 64 octets")
	}
	if o.Early == 0 {
		o.Early = defaultEarly
	}
	if o.Every == 0 {
		o.Every = defaultEvery
	}
	if o.Time == 0 {
		o.Time = defaultTime
	}
	if o.Requests == 0 {
		o.Requests = defaultRequests
	}
	if o.Redirect == "" {
		o.Redirect = "127.0.0.1"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Early < 0 || o.Every < time.Minute || o.Time < 0 || o.Requests < 0 {
		return fmt.Errorf("grant %s: a time or a number is out of range", o.Name)
	}
	for _, e := range []string{o.Endpoint.Token, o.Endpoint.Device, o.Endpoint.Authorize} {
		if e != "" {
			if err := secure(e); err != nil {
				return fmt.Errorf("grant %s: %w", o.Name, err)
			}
		}
	}
	if o.Endpoint.Token == "" {
		return fmt.Errorf("grant %s: the token endpoint is missing", o.Name)
	}
	if o.Client.ID == "" {
		return fmt.Errorf("grant %s: the client id is missing", o.Name)
	}
	return o.checkGrant()
}

func (o *Options) checkGrant() error {
	appOnly := false
	switch o.Grant {
	case Refresh:
		if o.Folder == nil {
			return fmt.Errorf("grant %s: refresh tokens need a folder", o.Name)
		}
	case ClientCredentials:
		appOnly = true
		if o.Client.Key == nil && o.Client.Secret == (upstream.Secret{}) {
			return fmt.Errorf("grant %s: client credentials need a secret or a key", o.Name)
		}
	case ServiceAccount:
		appOnly = true
		if o.Client.Key == nil {
			return fmt.Errorf("grant %s: a service account needs a key", o.Name)
		}
	default:
		return fmt.Errorf("grant %s: there is no such kind of grant", o.Name)
	}
	switch {
	case appOnly && len(o.Mailboxes) == 0:
		return fmt.Errorf("grant %s opens any mailbox of its organisation: list those that it may open", o.Name)
	case len(o.Mailboxes) > tokenfile.MaxAccounts:
		return fmt.Errorf("grant %s has more than %d mailboxes", o.Name, tokenfile.MaxAccounts)
	case slices.Contains(o.Mailboxes, ""):
		return fmt.Errorf("grant %s: a mailbox has no name", o.Name)
	case appOnly && slices.ContainsFunc(o.Mailboxes, func(m string) bool { return strings.ContainsAny(m, "*?") }):
		return fmt.Errorf("grant %s: mailboxes are named one by one, without patterns", o.Name)
	}
	return nil
}

// secure refuses URLs that would let a secret cross the network in the clear.
func secure(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%q is no URL of an endpoint", endpoint)
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%s must begin with https://", endpoint)
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// transport is the way to the issuer. No proxy is read from the environment.
func (o *Options) transport() http.RoundTripper {
	if o.Transport != nil {
		return o.Transport
	}
	dialer := net.Dialer{Timeout: dialTime}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		},
		TLSHandshakeTimeout:    dialTime,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: maxHeader,
		MaxConnsPerHost:        o.Requests,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		t.TLSClientConfig = o.TLS.Clone()
	}
	return t
}
