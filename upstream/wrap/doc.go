// Package wrap holds decorators over the hinge: each takes an upstream.Store
// and returns one that does a single thing more.
//
//   - [Lock] is the exclusive lock of RFC 1939 section 4.
//   - [Limit] refuses a maildrop that is too large.
//   - [Contract] checks that both sides keep what package upstream promises.
//
// From the outside to the inside the order is Lock, Limit, Contract, store: a
// maildrop that Limit refuses gives the lock free at once, and Contract sees
// what the store itself says.
//
// Invariants:
//
//   - A decorator uses the interface alone. What needs to know the identity of
//     messages or connections lives in the store.
//   - Errors of the store pass through as they are, unless [Contract] finds that
//     they are none of the hinge's.
//   - Each decorator passes the conformance suite of package upstreamtest.
//
// Limits: a decorator keeps state in this process only; two processes before
// one mail service do not see each other's locks.
package wrap
