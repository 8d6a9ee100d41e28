// Package metrics counts what the gateway does, for Prometheus.
//
// It is a leaf: it imports the Prometheus client and no other package of
// popgate. The methods of [Metrics] take plain values, so that they fit the
// trace hooks of the other packages; package main of popgate joins the two.
//
// Invariants:
//
//   - Label values come from the closed sets in [Sets], which the owners of the
//     words give to [New]. Any other value is counted under [Other]: no peer
//     can create a series.
//   - Every series exists from the start, at zero, so that the first event of
//     its kind is visible as a rise.
//   - The series of upstreams and routes are those of the configuration in use. What
//     a reload brings has series of its own at once. What it takes away goes: a gauge
//     that nobody moves and an alert that never clears would tell of a mail server
//     that nobody uses, and reloads without end would leave series without end. The
//     sessions that are still open there are counted no more; a login that ends on a
//     route that is gone is counted under [Other].
//   - No label holds a user name, an address or a text from the network.
//   - Histograms are classic and native in one, so that every Prometheus has what
//     it can take.
//   - Deletions balance once all sessions have ended: marked = reset +
//     abandoned + removed + missing + kept.
//
// Limits: the configuration decides how many series there are, those of the runtime
// and the process included. They are at most 223, and 45 for each listener, 182 for
// each upstream (97 over JMAP), 3 for each route and 12 for each grant, and 85 more
// where there are shared secrets, tokens or certificates of clients, an auth_http
// service or grants: fewer than 500 for two listeners and one upstream. [MaxUpstreams]
// and [MaxRoutes] have series of their own.
//
// All methods are safe for concurrent use.
package metrics
