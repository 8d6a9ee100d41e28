// Package upstreamtest is the conformance suite of the hinge: what package
// upstream promises, as tests that every store and every decorator passes.
//
// A package calls [Run] from one test of its own and gives it a function that
// makes a [Harness]: a store whose maildrop is empty, the credentials of its
// user, and the hands of another client of the same mailbox. Optional
// capabilities (a mail service that goes down, one that cuts a body, one that
// tells what was read) are functions that may be nil: what needs them is then
// skipped, with a message.
//
// Invariants:
//
//   - The suite knows nothing of what is behind the store, and nothing of POP3.
//   - It holds one session of a maildrop open at a time and closes every one, so
//     that a store with an exclusive lock passes.
//   - Each test has a harness of its own. Tests run one after the other, so
//     that a harness may use one mail service for all of them if it empties the
//     maildrop.
//
// Limits: a call that does not return within [Soon] fails its test; nothing
// else depends on time. The suite looks at octets and errors; that memory stays
// constant, and what crosses the wire, is for the store's own tests.
package upstreamtest
