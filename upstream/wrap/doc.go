// Package wrap holds decorators over the hinge: each takes an upstream.Store
// and returns one that does a single thing more.
//
//   - [Observe] tells which limit a login met.
//   - [Throttle] limits guesses of passwords.
//   - [LoginDelay] is the least time between two logins of RFC 2449 section 6.5.
//   - [Sessions] limits the sessions of one account.
//   - [Lock] is the exclusive lock of RFC 1939 section 4.
//   - [Limit] refuses a maildrop that is too large.
//   - [Contract] checks that both sides keep what package upstream promises.
//
// From the outside to the inside the order is that of the list, then the store:
// what is refused before the lock does not wait for it, a maildrop that Limit
// refuses gives the lock free at once, and Contract sees what the store itself
// says.
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
// one mail service do not see each other's locks or guesses, and a new process
// begins with none.
package wrap
