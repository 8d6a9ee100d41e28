// Package boltfile is a file of bbolt that may be damaged, and that another process
// may have: the list cache and the ledger keep what they know in one each.
//
// Invariants:
//
//   - A file with other buckets than those that were asked for is not touched.
//   - Pages that make no sense, and a file that was cut under us, are an error and no
//     crash: the file is then not touched again, and every use of it is [ErrDamaged].
//   - An entry counts only if its checksum holds, which covers its key too: neither a
//     changed octet nor an entry under another key is read ([Seal], [Unseal]).
//   - A file of another process is [ErrInUse]: an old gateway gives it up when a new
//     one takes over, and [Await] waits for that.
//
// Limits: the file takes up to four times the octets that its user keeps in it, and 1
// MiB. Opening waits for a second at most.
package boltfile
