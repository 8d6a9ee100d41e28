// Package jmapmem is a small JMAP server in memory, as an http.Handler: for the
// demonstration, and below the faults of package jmaptest. It speaks the parts of
// RFC 8620 and RFC 8621 that a maildrop needs: the session resource, Mailbox/get,
// Email/query, Email/get, Email/changes, Email/set, and the download of blobs.
//
// Invariants:
//
//   - The package shares no code with a JMAP client.
//   - Each method call is executed in one piece: no other sees a part of it.
//   - A change is told to [Options].Changed before the answer that tells of it.
//
// Limits: one account, no uploads, no push, filters by inMailbox and notKeyword,
// sort by receivedAt alone. What changed is kept for ever. It is no server for
// mail that anybody needs.
package jmapmem
