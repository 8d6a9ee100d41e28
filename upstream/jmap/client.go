package jmap

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/popgate/popgate/upstream"
)

// waits is how often a request is sent again because the server said when.
const waits = 2

// A client makes the requests of one account. It is safe for concurrent use once
// the session resource is read.
type client struct {
	store *Store
	creds upstream.Credentials
	session
	nobody bool // shows no credentials

	renewing chan struct{} // holds one, which is taken for the time of a renewal

	mu      sync.Mutex
	secret  upstream.Secret // the one that is shown: that of creds, or a later one
	renewed bool            // the last one was renewed, and not accepted yet
}

func newClient(s *Store, creds upstream.Credentials) *client {
	c := &client{store: s, creds: creds, secret: creds.Secret, renewing: make(chan struct{}, 1)}
	c.renewing <- struct{}{}
	return c
}

// authorize is the only place where credentials are put into a request, and it
// does so for the origins that the operator named and for no other. It returns the
// secret that it put there.
func (c *client) authorize(op string, req *http.Request) (upstream.Secret, error) {
	if at := origin(req.URL); c.store.origins[at] == nil {
		return upstream.Secret{}, failf(upstream.Internal, op, "the server names %s, which is not %s: %s", shown(at), c.store.origin, staysWithin)
	}
	if c.nobody {
		return upstream.Secret{}, nil
	}
	c.mu.Lock()
	secret := c.secret
	c.mu.Unlock()
	if c.store.bearer(c.creds) {
		req.Header.Set("Authorization", "Bearer "+secret.Reveal())
	} else {
		req.SetBasicAuth(c.creds.User, secret.Reveal())
	}
	return secret, nil
}

// staysWithin says why credentials are not sent.
const staysWithin = "credentials go to no origin that is not in the configuration"

// renew replaces the secret that was just refused, once for each refusal. It
// reports whether there is another one now.
func (c *client) renew(ctx context.Context, refused upstream.Secret) (bool, error) {
	if c.creds.Renewer == nil {
		return false, nil
	}
	select {
	case <-c.renewing:
	case <-ctx.Done():
		return false, failf(upstream.Unavailable, "renew", "%w", context.Cause(ctx))
	}
	defer func() { c.renewing <- struct{}{} }()
	c.mu.Lock()
	secret, renewed := c.secret, c.renewed
	c.mu.Unlock()
	switch {
	case secret != refused: // another request was refused before
		return true, nil
	case renewed:
		return false, nil
	}
	secret, err := c.creds.Renewer.Renew(ctx, refused)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secret, c.renewed = secret, true
	return true, nil
}

// accepted notes that a secret was not refused.
func (c *client) accepted(secret upstream.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret == secret {
		c.renewed = false
	}
}

// send makes one HTTP request and returns its answer, whatever its status is. It
// waits where the server says Retry-After, and renews a secret that is refused: the
// server then has not acted on the request.
func (c *client) send(ctx context.Context, op, method, address string, body []byte, header http.Header) (*http.Response, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, failf(upstream.Unavailable, op, "the server names an address that is none: %s", shown(err.Error()))
	}
	for wait := 0; ; {
		resp, secret, err := c.sendOnce(ctx, op, method, u, body, header)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusUnauthorized {
			again, err := c.renew(ctx, secret)
			if err != nil {
				discard(resp)
				return nil, fail(upstream.KindOf(err), op, fmt.Errorf("the secret is refused: %w", err))
			}
			if !again {
				return resp, nil
			}
			discard(resp)
			continue
		}
		c.accepted(secret)
		if wait == waits {
			return resp, nil
		}
		if again, err := c.waitFor(ctx, op, resp); err != nil {
			return nil, err
		} else if !again {
			return resp, nil
		}
		wait++
	}
}

func (c *client) sendOnce(ctx context.Context, op, method string, u *url.URL, body []byte, header http.Header) (*http.Response, upstream.Secret, error) {
	req := &http.Request{Method: method, URL: u, Header: header.Clone(), Host: u.Host}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "popgate")
	secret, err := c.authorize(op, req)
	if err != nil {
		return nil, secret, err
	}
	c.tell("popgate", fmt.Sprintf("%s: %s, %d octets", op, method, len(body)))
	resp, err := c.store.roundTrip(ctx, req)
	if err != nil {
		c.tell("server", op+": no answer")
		return nil, secret, lost(ctx, op, err)
	}
	c.tell("server", fmt.Sprintf("%s: HTTP %d, %d octets", op, resp.StatusCode, resp.ContentLength))
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		resp.Body.Close()
		return nil, secret, failf(upstream.Unavailable, op, "the answer is compressed (%s), which nobody asked for", shown(e))
	}
	return resp, secret, nil
}

// tell lets an operator who asked for it read along: what is asked for and how it
// ends, and nothing of what is in it.
func (c *client) tell(from, text string) {
	if t := c.creds.Transcript; t != nil {
		t.Note(from, text)
	}
}

// waitFor waits where an answer says Retry-After, and it is worth it.
func (c *client) waitFor(ctx context.Context, op string, resp *http.Response) (again bool, err error) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return false, nil
	}
	after := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	end, limited := ctx.Deadline()
	if after < 0 || after > c.store.o.RetryWait || limited && time.Until(end) <= after {
		return false, nil
	}
	discard(resp)
	if err := wait(ctx, after); err != nil {
		return false, fail(upstream.Unavailable, op, err)
	}
	return true, nil
}

// A call is one method call (RFC 8620 section 3.2).
type call struct {
	name string
	args map[string]any
	out  any // where the arguments of its response go
}

// changes reports whether a call changes something.
func (c call) changes() bool { return strings.HasSuffix(c.name, "/set") }

// do makes the calls in one request. limit bounds the octets of the answer. A
// request that changes nothing is sent again once if it ended without an answer.
func (c *client) do(ctx context.Context, op string, limit int64, calls ...call) error {
	start := time.Now()
	err := c.doOnce(ctx, op, limit, calls)
	if c.store.mayRepeat(ctx, err) && !anyChanges(calls) {
		err = c.doOnce(ctx, op, limit, calls)
	}
	c.store.traceEnd(op, start, err)
	return err
}

func anyChanges(calls []call) bool {
	for _, c := range calls {
		if c.changes() {
			return true
		}
	}
	return false
}

func (c *client) doOnce(ctx context.Context, op string, limit int64, calls []call) error {
	t := c.store.o.CallTime
	if anyChanges(calls) {
		t /= 3 // there must be time left to look what became of it
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t, fmt.Errorf("not answered within %v", t))
	defer cancel()
	request := struct {
		Using []string `json:"using"`
		Calls [][3]any `json:"methodCalls"`
	}{Using: []string{coreCapability, mailCapability}}
	for i, call := range calls {
		call.args["accountId"] = c.accountID
		request.Calls = append(request.Calls, [3]any{call.name, call.args, fmt.Sprint(i)})
	}
	body, err := json.Marshal(request)
	if err != nil {
		return fail(upstream.Internal, op, err)
	}
	header := http.Header{"Accept": {"application/json"}}
	if !anyChanges(calls) {
		header["X-Idempotency-Key"] = nil // tells net/http, and not the server, that it may be sent again
	}
	resp, err := c.send(ctx, op, http.MethodPost, c.apiURL, body, header)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return statusOf(op, resp)
	}
	var answer struct {
		Responses []response `json:"methodResponses"`
	}
	if err := decode(ctx, op, resp, limit, &answer); err != nil {
		return err
	}
	for i, call := range calls {
		if err := answerTo(op, call, fmt.Sprint(i), answer.Responses); err != nil {
			return err
		}
	}
	return nil
}

// answerTo finds the response to a call and decodes it. A method may have more
// than one (RFC 8620 section 3.4): the one of its own name counts, and an error
// before it.
func answerTo(op string, call call, id string, all []response) error {
	for _, r := range all {
		switch {
		case r.id != id:
		case r.name == "error":
			p := new(problem)
			if err := json.Unmarshal(r.args, p); err != nil {
				return failf(upstream.Unavailable, op, "%s: %w", call.name, err)
			}
			return failf(p.kind(), op, "%s: %w", call.name, p)
		case r.name == call.name:
			if err := json.Unmarshal(r.args, call.out); err != nil {
				return failf(upstream.Unavailable, op, "the answer to %s: %s", call.name, shown(err.Error()))
			}
			return nil
		}
	}
	return failf(upstream.Unavailable, op, "the server does not answer %s", call.name)
}

// response is one response of a method (RFC 8620 section 3.4).
type response struct {
	name string
	args json.RawMessage
	id   string
}

func (r *response) UnmarshalJSON(text []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	if len(parts) != 3 {
		return fmt.Errorf("a response of %d parts", len(parts))
	}
	r.args = parts[1]
	return errors.Join(json.Unmarshal(parts[0], &r.name), json.Unmarshal(parts[2], &r.id))
}

// decode reads an answer of limit octets at most and closes it.
func decode(ctx context.Context, op string, resp *http.Response, limit int64, to any) error {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return failf(upstream.Unavailable, op, "the answer has %d octets, over the limit of %d", resp.ContentLength, limit)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return lost(ctx, op, err)
	case int64(len(text)) > limit:
		return failf(upstream.Unavailable, op, "the answer has more than %d octets", limit)
	}
	if err := json.Unmarshal(text, to); err != nil {
		return failf(upstream.Unavailable, op, "the answer is not what JMAP says: %s", shown(err.Error()))
	}
	return nil
}
