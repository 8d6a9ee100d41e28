// Package jmaptest is a small JMAP server for tests: it keeps one account in
// memory, writes down what it is asked and what it changes, and breaks where a
// test asks it to. It is a test double; only tests import it.
//
// The parts:
//
//   - [Server] speaks the parts of RFC 8620 and RFC 8621 that a maildrop needs:
//     the session resource, Mailbox/get, Email/query, Email/get, Email/set, and the
//     download of blobs. [Options] says how it does so: relative addresses, ranges,
//     limits, the form of ids.
//   - [Server.Deliver] and its neighbours are the hand of another client in the
//     same account, and the view of what remains.
//   - [Server.Hook] puts a [Fault] at an HTTP request: another status, an answer
//     that breaks off, a stall, a wrong length. [Server.OnCall] answers a method
//     call in the server's place or lets something happen before it.
//   - [Server.Journal] holds requests and changes in one order.
//
// Invariants:
//
//   - The package shares no code with a JMAP client.
//   - A change is journalled before the answer that tells of it.
//   - Every goroutine, listener and connection of a server ends with the test.
//   - All of it works under testing/synctest over net.Pipe, and over TCP on a
//     loopback address.
//
// Limits: one account, no uploads, no push, filters by inMailbox and notKeyword,
// sort by receivedAt alone.
package jmaptest
