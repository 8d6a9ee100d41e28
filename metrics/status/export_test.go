package status

// Names lists the metrics that the page rests on.
func Names() []string {
	return []string{sessions, sessionsEnded, connections, connsLimit, upstreamConns, logins, routeLogins, messages, octets, deletions,
		limitHits, rejected, throttled, commandTime, requests, requestTime, sizeMismatch, idsChanged, certGood, configGood, configTime,
		tokenAccounts, panics, certificateExpiry}
}

// Columns is how many numbers are kept, and Most how many may be.
func (p *Page) Columns() int { return len(p.history.columns) }

// The limits.
const (
	Most  = maxColumns
	Lines = maxLines
	Rows  = maxRows
)
