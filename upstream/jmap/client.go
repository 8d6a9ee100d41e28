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
	"time"

	"github.com/popgate/popgate/upstream"
)

// waits is how often a request is sent again because the server said when.
const waits = 2

// A client makes the requests of one account.
type client struct {
	store *Store
	creds upstream.Credentials
	session
}

// authorize is the only place where credentials are put into a request, and it
// does so for the origin that the operator named and for no other.
func (c *client) authorize(op string, req *http.Request) error {
	if at := origin(req.URL); at != c.store.origin {
		return failf(upstream.Internal, op, "the server names %s, which is not %s: credentials stay within one origin", shown(at), c.store.origin)
	}
	if c.store.o.Auth == Bearer {
		req.Header.Set("Authorization", "Bearer "+c.creds.Secret.Reveal())
		return nil
	}
	req.SetBasicAuth(c.creds.User, c.creds.Secret.Reveal())
	return nil
}

// send makes one HTTP request and returns its answer, whatever its status is. It
// waits where the server says Retry-After: it then has not acted on the request.
func (c *client) send(ctx context.Context, op, method, address string, body []byte, header http.Header) (*http.Response, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, failf(upstream.Unavailable, op, "the server names an address that is none: %s", shown(err.Error()))
	}
	for try := 0; ; try++ {
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
		if err := c.authorize(op, req); err != nil {
			return nil, err
		}
		c.tell("popgate", fmt.Sprintf("%s: %s, %d octets", op, method, len(body)))
		resp, err := c.store.roundTrip(ctx, req)
		if err != nil {
			c.tell("server", op+": no answer")
			return nil, lost(ctx, op, err)
		}
		c.tell("server", fmt.Sprintf("%s: HTTP %d, %d octets", op, resp.StatusCode, resp.ContentLength))
		if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
			resp.Body.Close()
			return nil, failf(upstream.Unavailable, op, "the answer is compressed (%s), which nobody asked for", shown(e))
		}
		if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable || try == waits {
			return resp, nil
		}
		after := retryAfter(resp.Header.Get("Retry-After"), time.Now())
		end, limited := ctx.Deadline()
		if after < 0 || after > c.store.o.RetryWait || limited && time.Until(end) <= after {
			return resp, nil
		}
		discard(resp)
		if err := wait(ctx, after); err != nil {
			return nil, fail(upstream.Unavailable, op, err)
		}
	}
}

// tell lets an operator who asked for it read along: what is asked for and how it
// ends, and nothing of what is in it.
func (c *client) tell(from, text string) {
	if t := c.creds.Transcript; t != nil {
		t.Note(from, text)
	}
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
