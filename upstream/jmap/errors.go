package jmap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
)

func fail(kind upstream.Kind, op string, err error) *upstream.Error {
	return &upstream.Error{Kind: kind, Op: op, Err: err}
}

func failf(kind upstream.Kind, op, format string, args ...any) *upstream.Error {
	return fail(kind, op, fmt.Errorf(format, args...))
}

// errLost marks what ended without an answer: it is not known whether the server
// saw the request.
var errLost = errors.New("no answer")

// lost makes an error of a request that ended without an answer.
func lost(ctx context.Context, op string, err error) *upstream.Error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return failf(upstream.Unavailable, op, "%w: %w", errLost, err)
}

// statusError is an HTTP answer other than what was asked for.
type statusError struct {
	code   int
	detail string        // what the server says of it, cut and quoted
	after  time.Duration // Retry-After; -1 without
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("HTTP status %d", e.code)
	if e.detail != "" {
		text += " (" + e.detail + ")"
	}
	return text
}

// maxProblem bounds what is read of the body of such an answer, in octets.
const maxProblem = 8 << 10

// statusOf reads an answer that is no success and closes it.
func statusOf(op string, resp *http.Response) *upstream.Error {
	defer resp.Body.Close()
	e := &statusError{code: resp.StatusCode, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	var problem struct { // RFC 8620 section 3.6.1
		Type   string `json:"type"`
		Detail string `json:"detail"`
		Limit  string `json:"limit"`
	}
	if text, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem)); err == nil && json.Unmarshal(text, &problem) == nil {
		e.detail = shown(strings.TrimSpace(problem.Type + " " + problem.Limit + " " + problem.Detail))
	}
	return fail(statusKind(op, e.code, problem.Type), op, e)
}

// statusKind says what an HTTP status means. Only the session resource tells
// whether credentials are good: later on, 401 and 403 are a token that ended or a
// right that is missing.
func statusKind(op string, code int, problem string) upstream.Kind {
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		if op == opLogin {
			return upstream.Refused
		}
		if code == http.StatusForbidden {
			return upstream.Internal
		}
		return upstream.Unavailable
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		return upstream.Unavailable
	case strings.HasSuffix(problem, ":error:limit"):
		return upstream.Unavailable
	}
	return upstream.Internal
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(t.Sub(now), 0)
	}
	return -1
}

// problem is an error of one method call (RFC 8620 section 3.6.2) or of one
// object of a set (section 5.3).
type problem struct {
	Type        string `json:"type"`
	Description string `json:"description"`
}

func (p *problem) Error() string {
	if p.Description == "" {
		return shown(p.Type)
	}
	return shown(p.Type) + ": " + shown(p.Description)
}

// kind says what a problem means. The types that are listed need a person; waiting
// may cure the rest.
func (p *problem) kind() upstream.Kind {
	switch p.Type {
	case "unknownMethod", "invalidArguments", "invalidResultReference", "forbidden", "accountNotFound",
		"accountNotSupportedByMethod", "accountReadOnly", "requestTooLarge", "unsupportedSort", "unsupportedFilter",
		"overQuota", "tooLarge", "invalidPatch", "invalidProperties", "singleton", "tooManyKeywords", "tooManyMailboxes":
		return upstream.Internal
	}
	return upstream.Unavailable
}

// is reports whether err is a problem of this type.
func is(err error, kind string) bool {
	p, ok := errors.AsType[*problem](err)
	return ok && p.Type == kind
}

// shown is text of the server's as it may stand in a log: printable ASCII, 200
// octets at most.
func shown(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, text[:min(len(text), 200)])
	return text
}
