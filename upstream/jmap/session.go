package jmap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
)

const (
	coreCapability = "urn:ietf:params:jmap:core"
	mailCapability = "urn:ietf:params:jmap:mail"

	maxSession   = 1 << 20 // octets of the session resource
	maxRedirects = 3       // from the address that was given to the session resource
)

// session is what the session resource tells (RFC 8620 section 2).
type session struct {
	accountID string
	readOnly  bool
	base      *url.URL // where it is: other addresses are relative to it
	apiURL    string
	download  string // template
	limits    limits
}

// limits are those of the server (RFC 8620 section 2, maxSizeRequest and so on).
// Zero is not told.
type limits struct {
	RequestOctets int64 `json:"maxSizeRequest"`
	Calls         int64 `json:"maxCallsInRequest"`
	Concurrent    int64 `json:"maxConcurrentRequests"`
	Get           int64 `json:"maxObjectsInGet"`
	Set           int64 `json:"maxObjectsInSet"`
}

// perCall is how many objects go into one call, where each takes octets of the
// request: as many as want, the server's limit, and the size of a request allow.
func (l limits) perCall(want, limit, octets int64) int {
	if limit > 0 {
		want = min(want, limit)
	}
	if l.RequestOctets > 0 {
		want = min(want, (l.RequestOctets-1024)/octets)
	}
	return int(max(want, 1))
}

// allow reports whether a request may have n calls.
func (l limits) allow(n int64) bool { return l.Calls <= 0 || l.Calls >= n }

// fetchSession reads the session resource, which proves the credentials.
func (c *client) fetchSession(ctx context.Context) error {
	err := c.fetchSessionOnce(ctx)
	if c.store.mayRepeat(ctx, err) {
		err = c.fetchSessionOnce(ctx)
	}
	return err
}

func (c *client) fetchSessionOnce(ctx context.Context) error {
	t := c.store.o.CallTime
	ctx, cancel := context.WithTimeoutCause(ctx, t, fmt.Errorf("no login within %v", t))
	defer cancel()
	resp, base, err := c.getSession(ctx, c.store.sessionURL.Load())
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return statusOf(opLogin, resp)
	}
	var told struct {
		Capabilities map[string]json.RawMessage `json:"capabilities"`
		Accounts     map[string]struct {
			ReadOnly bool `json:"isReadOnly"`
		} `json:"accounts"`
		Primary     map[string]string `json:"primaryAccounts"`
		User        string            `json:"username"`
		APIURL      string            `json:"apiUrl"`
		DownloadURL string            `json:"downloadUrl"`
	}
	if err := decode(ctx, opLogin, resp, maxSession, &told); err != nil {
		return err
	}
	if _, ok := told.Capabilities[mailCapability]; !ok {
		return failf(upstream.Internal, opLogin, "the server has no %s", mailCapability)
	}
	id := told.Primary[mailCapability]
	account, ok := told.Accounts[id]
	switch {
	case id == "" || !ok:
		return failf(upstream.Internal, opLogin, "the user has no account for mail")
	case c.store.o.Auth == Bearer && !strings.EqualFold(told.User, c.creds.User):
		return failf(upstream.Refused, opLogin, "the token is of another user")
	}
	s := session{accountID: id, base: base, readOnly: account.ReadOnly}
	if err := json.Unmarshal(told.Capabilities[coreCapability], &s.limits); err != nil {
		return failf(upstream.Unavailable, opLogin, "the limits of the server: %s", shown(err.Error()))
	}
	if s.limits.Calls == 1 {
		return failf(upstream.Internal, opLogin, "the server takes one call in a request, and two are needed")
	}
	if s.apiURL, err = c.resolve(base, told.APIURL); err != nil {
		return failf(upstream.Internal, opLogin, "apiUrl: %w", err)
	}
	// A template is resolved as it is: its braces must stay what they are.
	s.download = told.DownloadURL
	if !strings.Contains(s.download, "{blobId}") {
		return failf(upstream.Internal, opLogin, "downloadUrl has no place for the blob")
	}
	expanded := expand(s.download, map[string]string{"accountId": "a", "blobId": "b", "type": "t", "name": "n"})
	if _, err := c.resolve(base, expanded); err != nil {
		return failf(upstream.Internal, opLogin, "downloadUrl: %w", err)
	}
	c.session = s
	return nil
}

// getSession follows the redirects from /.well-known/jmap to the session resource
// (RFC 8620 section 2.2), within the origin, and remembers for later logins where
// they lead.
func (c *client) getSession(ctx context.Context, at *url.URL) (*http.Response, *url.URL, error) {
	for range 2 + maxRedirects {
		resp, err := c.send(ctx, opLogin, http.MethodGet, at.String(), nil, http.Header{"Accept": {"application/json"}})
		if err != nil {
			return nil, nil, err
		}
		switch {
		case resp.StatusCode == http.StatusOK:
			c.store.sessionURL.Store(at)
			return resp, at, nil
		case resp.StatusCode == http.StatusNotFound && at == c.store.sessionURL.Load() && at != c.store.start:
			at = c.store.start // it has moved since the last login
			c.store.sessionURL.Store(at)
		case resp.StatusCode/100 != 3:
			return resp, at, nil
		default:
			if at, err = resp.Location(); err != nil {
				resp.Body.Close()
				return nil, nil, failf(upstream.Unavailable, opLogin, "a redirect to nowhere")
			}
		}
		discard(resp)
	}
	return nil, nil, failf(upstream.Internal, opLogin, "more than %d redirects", maxRedirects)
}

// resolve makes an address of the session resource absolute, and sees that it is
// within the origin.
func (c *client) resolve(base *url.URL, address string) (string, error) {
	u, err := base.Parse(address)
	if err != nil || address == "" {
		return "", errors.New("the server names no address")
	}
	if at := origin(u); at != c.store.origin || u.User != nil {
		return "", fmt.Errorf("%s is not %s: credentials stay within one origin", shown(at), c.store.origin)
	}
	return u.String(), nil
}

// blobURL is where a blob is downloaded (RFC 8620 section 6.2).
func (c *client) blobURL(blob string) (string, error) {
	return c.resolve(c.base, expand(c.download, map[string]string{
		"accountId": c.accountID, "blobId": blob, "type": "message/rfc822", "name": "message.eml",
	}))
}

// expand puts values into a template of level 1 (RFC 6570 section 3.2.2).
func expand(template string, values map[string]string) string {
	var pairs []string
	for name, v := range values {
		pairs = append(pairs, "{"+name+"}", escape(v))
	}
	return strings.NewReplacer(pairs...).Replace(template)
}

// escape leaves nothing but unreserved characters (RFC 3986 section 2.3).
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func (s *Store) traceEnd(op string, start time.Time, err error) {
	result := "ok"
	if err != nil {
		result = upstream.KindOf(err).String()
	}
	s.o.Trace.request(op, result, time.Since(start))
}
