package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The states of an account with an access token.
const (
	TokenGood       = "good"
	TokenFailing    = "failing"    // a person must act
	TokenUnreadable = "unreadable" // its file cannot be read
)

// TokenStates lists the states of an account with an access token.
func TokenStates() []string { return []string{TokenGood, TokenFailing, TokenUnreadable} }

// OAuth is what is counted of access tokens. No series is of one account: there
// are as many as there are grants in the configuration.
type OAuth struct {
	grants, outcomes set

	requests *prometheus.CounterVec
	time     prometheus.Histogram
	accounts *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
	expiry   *prometheus.GaugeVec
}

// NewOAuth adds the collectors of access tokens to m, once.
func (m *Metrics) NewOAuth(grants, outcomes []string) *OAuth {
	f := factory{m.registry}
	o := &OAuth{grants: grants, outcomes: outcomes}
	grant := label{"grant", o.grants}
	o.requests = f.counters("oauth_requests_total", "Tries to get an access token, by grant and outcome; with `bad_grant` and `bad_client` a person must act.",
		grant, label{"outcome", o.outcomes})
	o.time = f.histogram("oauth_request_duration_seconds", "Time to get an access token.")
	o.accounts = f.gauges("oauth_accounts", "Accounts with a token, by grant and state; for those that are `failing` or `unreadable` a person must act: `popgate oauth status`.",
		grant, label{"state", TokenStates()})
	o.oldest = f.gauges("oauth_oldest_success_timestamp_seconds", "When a token was last issued for the account that has waited longest for one; 0 if there is none.", grant)
	o.expiry = f.gauges("oauth_refresh_token_expiry_timestamp_seconds", "When the first of the refresh tokens ends if it is not used; 0 if no end is known.", grant)
	return o
}

// Requested counts a try to get an access token.
func (o *OAuth) Requested(grant, outcome string, took time.Duration) {
	o.requests.WithLabelValues(o.grants.of(grant), o.outcomes.of(outcome)).Inc()
	o.time.Observe(took.Seconds())
}

// Accounts tells how many accounts of a grant are in which state, when the one
// that has waited longest had a token, and when the first of the refresh tokens
// ends; zero where that is not known.
func (o *OAuth) Accounts(grant string, good, failing, unreadable int, oldest, expiry time.Time) {
	grant = o.grants.of(grant)
	for state, n := range map[string]int{TokenGood: good, TokenFailing: failing, TokenUnreadable: unreadable} {
		o.accounts.WithLabelValues(grant, state).Set(float64(n))
	}
	o.oldest.WithLabelValues(grant).Set(timestamp(oldest))
	o.expiry.WithLabelValues(grant).Set(timestamp(expiry))
}

func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}
