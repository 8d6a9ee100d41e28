// Package upstream says what a maildrop is: the one hinge between the POP3
// engine and the mailboxes behind it.
//
// POP3 promises to prove who the client is, to take the maildrop, to show a
// frozen list of it, and to commit once. A [Store] gives exactly that, in that
// order: [Store.Login] proves, [Account.Open] takes and lists, [Maildrop]
// reads, [Maildrop.Update] commits.
//
// Invariants that every store and every decorator keeps (package
// upstreamtest checks them):
//
//   - A [Snapshot] never changes, whatever other clients do to the mailbox.
//   - A unique-id, once shown, means that message for ever.
//   - Nothing is removed except by [Maildrop.Update], and then only what
//     [Changes.Remove] names.
//   - A [Body] ends in io.EOF only if the whole of it was received and
//     confirmed. Every other end is an error.
//   - A [Receipt] balances: Removed+Missing+Kept == len(Changes.Remove), also
//     beside an error.
//   - Every error that a store returns is an [*Error].
//   - Close is idempotent, removes nothing, and works after every error.
//
// What a store can tell an operator beside this ([Prober], [Inspector]) changes
// nothing.
//
// The package knows no message number (they belong to the POP3 engine) and no
// UID, flag or HTTP word (they belong to the stores): messages are indexes
// into the snapshot, from 0. It imports the standard library only.
package upstream
