// Package listcache keeps the lists of IMAP mailboxes from one session to the
// next, so that a mailbox that did not change need not be listed again.
//
// A [List] is the UIDs and sizes of a mailbox as it stood once. Package imap
// proves at each login how much of it still holds; this package keeps it, in
// memory and, where a file is named, over a restart.
//
// Invariants:
//
//   - A list that was given to anybody is never written again: cache and
//     sessions share it.
//   - An older list is as true as a newer one, as a list of an older time: what
//     is lost on the way to the file makes nothing wrong.
//   - Keys are digests of names. The file holds no names, and belongs to its
//     owner alone (0600). Who has the file can still try names against it.
//   - What is read from the file counts only if its checksum, which covers the
//     key too, and its order hold; otherwise it is absent, and the log tells.
//   - No login waits for a write of the file.
//
// Limits: 12 octets a message in memory, and some hundred for each list; the
// lists in memory, those that wait for the file, and those in the file are each
// bounded in octets, and the ones used last are kept. The file may grow to four
// times its lists; one list in it is at most a quarter of all.
package listcache
