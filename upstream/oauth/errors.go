package oauth

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
)

// Outcome is what came of a try to get an access token.
type Outcome string

// The outcomes. The set is closed.
const (
	Issued    Outcome = "issued"
	BadGrant  Outcome = "bad_grant"  // the consent of the user has ended, or never was: a person must log in
	BadClient Outcome = "bad_client" // the issuer does not take the client as it is set up
	Throttled Outcome = "throttled"  // the issuer wants fewer requests
	Down      Outcome = "down"       // the issuer does not answer, or not in sense
	BadFile   Outcome = "bad_file"   // the refresh token cannot be read
	NotKept   Outcome = "not_kept"   // the refresh token cannot be written, or another process has it
)

// Outcomes lists every outcome, for metrics that create their labels in advance.
func Outcomes() []Outcome {
	return []Outcome{Issued, BadGrant, BadClient, Throttled, Down, BadFile, NotKept}
}

// A failure is why there is no access token. Its text holds no secret.
type failure struct {
	outcome Outcome
	text    string
	code    string        // the issuer's error code, if it gave one
	retry   time.Duration // how long the issuer wants to be left alone; 0: it did not say
	err     error         // further cause, or nil
}

func (f *failure) Error() string {
	if f.err != nil {
		return f.text + ": " + f.err.Error()
	}
	return f.text
}

func (f *failure) Unwrap() error { return f.err }

// kind is what a client is told.
func (f *failure) kind() upstream.Kind {
	switch f.outcome {
	case Throttled, Down, NotKept:
		return upstream.Unavailable
	}
	return upstream.Internal
}

// outcomeOf classes a refusal: the error codes of RFC 6749 section 5.2 and of the
// mail services, and else the HTTP status.
func outcomeOf(status int, code string) Outcome {
	switch {
	case code == "temporarily_unavailable" || code == "server_error":
		return Down
	case code == "slow_down" || status == http.StatusTooManyRequests:
		return Throttled
	case status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooEarly:
		return Down
	case code == "invalid_grant" || code == "interaction_required" || code == "consent_required" || code == "login_required" ||
		code == "access_denied" || code == "expired_token":
		return BadGrant
	}
	return BadClient
}

// maxRetry bounds how long an issuer can have itself left alone.
const maxRetry = 5 * time.Minute

// retryAfter reads the header of RFC 9110 section 10.2.3: seconds or a date.
func retryAfter(text string) time.Duration {
	text = strings.TrimSpace(text)
	wait := time.Duration(0)
	if s, err := strconv.ParseUint(text, 10, 32); err == nil {
		wait = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return max(0, min(wait, maxRetry))
}
