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
		return c.refused(statusOf(opLogin, resp))
	}
	var told struct {
		Capabilities map[string]json.RawMessage `json:"capabilities"`
		Accounts     map[string]sharedAccount   `json:"accounts"`
		Primary      map[string]string          `json:"primaryAccounts"`
		User         string                     `json:"username"`
		APIURL       string                     `json:"apiUrl"`
		DownloadURL  string                     `json:"downloadUrl"`
	}
	if err := decode(ctx, opLogin, resp, maxSession, &told); err != nil {
		return err
	}
	if _, ok := told.Capabilities[mailCapability]; !ok {
		return failf(upstream.Internal, opLogin, "the server has no %s", mailCapability)
	}
	if c.store.bearer(c.creds) && !strings.EqualFold(told.User, c.creds.User) {
		return c.refused(failf(upstream.Refused, opLogin, "the token is of another user"))
	}
	id, err := c.choose(told.Accounts, told.Primary[mailCapability])
	if err != nil {
		return err
	}
	s := session{accountID: id, base: base, readOnly: told.Accounts[id].ReadOnly}
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

// refused makes an error of a login that the server refused. Where the secret can be
// renewed it was not the client's, and nothing that the client can change.
func (c *client) refused(err *upstream.Error) *upstream.Error {
	if err.Kind == upstream.Refused && c.creds.Renewer != nil {
		err.Kind = upstream.Internal
	}
	return err
}

// sharedAccount is an account of the session resource.
type sharedAccount struct {
	Name         string                     `json:"name"`
	Personal     bool                       `json:"isPersonal"`
	ReadOnly     bool                       `json:"isReadOnly"`
	Capabilities map[string]json.RawMessage `json:"accountCapabilities"`
}

// choose returns the id of the account that is wanted: the user's own, which is
// primary for mail, or that of another user who shares it with this one.
func (c *client) choose(all map[string]sharedAccount, primary string) (id string, err error) {
	name := c.creds.Authorize
	if name == "" || name == c.creds.User {
		if _, ok := all[primary]; !ok || primary == "" {
			return "", failf(upstream.Internal, opLogin, "the user has no account for mail")
		}
		return primary, nil
	}
	for i, a := range all {
		if _, mail := a.Capabilities[mailCapability]; a.Personal || !mail || a.Name != name {
			continue
		}
		if id != "" {
			return "", failf(upstream.Internal, opLogin, "two accounts of the name that is wanted are shared with the user")
		}
		id = i
	}
	if id == "" {
		return "", failf(upstream.Refused, opLogin, "no account of the name that is wanted is shared with the user")
	}
	return id, nil
}

// mailboxName is the mailbox that is to be the maildrop; "" is the one with the
// role inbox.
func (c *client) mailboxName() string {
	name := c.creds.Mailbox
	if name == "" {
		name = c.store.o.Mailbox
	}
	if strings.EqualFold(name, "INBOX") {
		return ""
	}
	return name
}

// getSession follows the redirects from /.well-known/jmap to the session resource
// (RFC 8620 section 2.2), within its origin, and remembers for later logins where
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
			if to := origin(at); to != c.store.origin { // not even where credentials may go
				resp.Body.Close()
				return nil, nil, failf(upstream.Internal, opLogin, "a redirect to %s: %s", shown(to), staysWithin)
			}
		}
		discard(resp)
	}
	return nil, nil, failf(upstream.Internal, opLogin, "more than %d redirects", maxRedirects)
}

// resolve makes an address of the session resource absolute, and sees that
// credentials may go there.
func (c *client) resolve(base *url.URL, address string) (string, error) {
	u, err := base.Parse(address)
	if err != nil || address == "" {
		return "", errors.New("the server names no address")
	}
	if at := origin(u); c.store.origins[at] == nil || u.User != nil {
		return "", fmt.Errorf("%s is not %s: %s", shown(at), c.store.origin, staysWithin)
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
