// Package memdrop is a mail service in memory: an upstream.Store for tests and
// examples.
//
// A [Store] holds users with a password and a maildrop of [Message] values,
// oldest first. Another client of the same mailbox is played by
// [Store.Deliver] and [Store.Expunge], at any moment; the snapshot of a session
// that is open stays as it is. [Faults] makes calls fail, stall, or end a body
// too early. [Store.Calls], [Store.InUse], [Store.Seen] and [Store.Messages]
// tell what happened.
//
// Invariants:
//
//   - Nothing is removed but by [Store.Expunge] and by Update.
//   - An id names one message for ever: it cannot be delivered twice to one
//     user, not even after the first message has gone.
//   - A caller that breaks a promise of the hinge (two bodies at a time, a
//     second Open or Update, indexes out of order) gets an error of kind
//     Internal that says so.
//
// Limits: message bodies are shared, not copied, and must not be changed after
// they were handed over. Nothing is stored beyond the life of the process.
package memdrop
