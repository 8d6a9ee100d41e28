package config

import "reflect"

// Fixed lists, by name, what differs in next and holds as long as the process
// lives. All else can be put into use while it serves.
func (c Config) Fixed(next Config) []string {
	a, b := c.Limits, next.Limits
	// What the engine or an upstream asks for with each session can change.
	for _, l := range []*Limits{&a, &b} {
		l.BadCommands, l.LoginTries, l.LoginTime, l.IdleTime, l.UpstreamConnectTime = 0, 0, 0, 0, 0
	}
	var out []string
	for _, s := range []struct {
		name      string
		now, next any
	}{
		{"listen", c.Listen, next.Listen},
		{"tls", c.TLS, next.TLS},
		{"accounts", c.Accounts, next.Accounts},
		{"oauth", c.OAuth, next.OAuth},
		{"lock", c.Lock, next.Lock},
		{"read-ahead", c.ReadAhead, next.ReadAhead},
		{"metrics", c.Metrics, next.Metrics},
		{"status", c.Status, next.Status},
		{"drain", c.Drain, next.Drain},
		{"log.format", c.Log.Format, next.Log.Format},
		{"cache", c.Cache, next.Cache},
		{"ledger", c.Ledger, next.Ledger},
		{"limits (connections, handshake-time, mailbox, sessions-per-account, login-delay)", a, b},
		{"throttle", c.Throttle, next.Throttle},
	} {
		if !reflect.DeepEqual(s.now, s.next) {
			out = append(out, s.name)
		}
	}
	return out
}
