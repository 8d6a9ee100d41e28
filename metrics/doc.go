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
//   - No label holds a user name, an address or a text from the network.
//   - Histograms are classic and native in one, so that every Prometheus has what
//     it can take.
//   - Deletions balance once all sessions have ended: marked = reset +
//     abandoned + removed + missing + kept.
//
// Limits: a gateway with two listeners tells fewer than 500 series, those of the
// runtime and the process included; each listener more adds about 30.
//
// All methods are safe for concurrent use.
package metrics
