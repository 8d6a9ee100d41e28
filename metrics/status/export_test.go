package status

// Names lists the metrics that the page rests on.
func Names() []string {
	return []string{sessions, sessionsEnded, connections, upstreamConns, logins, messages, octets, deletions, rejected, throttled,
		commandTime, requests, requestTime, sizeMismatch, certFailures, panics, expiryPrefix + "certificate" + expirySuffix}
}

// Columns is how many numbers are kept, and Most how many may be.
func (p *Page) Columns() int { return len(p.history.columns) }

// The limits.
const (
	Most  = maxColumns
	Lines = maxLines
	Rows  = maxRows
)
