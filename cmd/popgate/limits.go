package main

import (
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/wrap"
)

// lockName is the lock among the limits; the others are keys of the section limits.
const lockName = "lock"

// limitNames lists what metrics call the limits: as the configuration does, so that
// who sees one hit knows what to change.
func limitNames() []string {
	var names []string
	add := func(name string) {
		if name != "" {
			names = append(names, name)
		}
	}
	for _, why := range proxy.Rejections() {
		add(limitOfRejection(why))
	}
	for _, end := range pop3.Ends() {
		add(limitOfEnd(end))
	}
	for _, by := range wrap.Stops() {
		add(limitOfStop(by))
	}
	return names
}

// limitOfRejection is the limit behind a rejection, "" where it was none.
func limitOfRejection(why proxy.Rejection) string {
	switch why {
	case proxy.TooMany:
		return "connections"
	case proxy.TooManyFromAddress:
		return "connections-per-address"
	case proxy.TooFast:
		return "rate-per-address"
	case proxy.TooManyHandshakes:
		return "handshake-time" // none of the handshakes under way ended in it
	}
	return ""
}

// limitOfEnd is the limit that ended a session, "" where it was none.
func limitOfEnd(end pop3.End) string {
	switch end {
	case pop3.EndTooManyErrors:
		return "bad-commands"
	case pop3.EndTooManyLogins:
		return "login-tries"
	case pop3.EndLoginTimeout:
		return "login-time"
	case pop3.EndAutologout:
		return "idle-time"
	}
	return ""
}

func limitOfStop(by wrap.Stop) string {
	switch by {
	case wrap.ByDelay:
		return "login-delay"
	case wrap.BySessions:
		return "sessions-per-account"
	case wrap.ByLock:
		return lockName
	case wrap.ByMessages:
		return "mailbox-messages"
	case wrap.ByOctets:
		return "mailbox-octets"
	}
	return ""
}

// hit counts a limit; "" is none.
func hit(m *metrics.Metrics, limit string) {
	if limit != "" {
		m.LimitHit(limit)
	}
}

func stopped(m *metrics.Metrics) func(wrap.Stop) {
	return func(by wrap.Stop) { hit(m, limitOfStop(by)) }
}
