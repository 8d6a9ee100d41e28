// Package ledger remembers which messages of a mailbox POP3 clients were shown,
// where a window shows them a part of it. What was shown once stays until it is
// deleted: a client that no longer finds a unique-id takes the message for gone.
//
// A maildrop's entry is a [Set] of UIDs under one UIDVALIDITY. Package imap asks
// for it at each login ([Ledger.Shown]) and writes down what comes to it before
// the client sees it ([Ledger.Show]).
//
// Invariants:
//
//   - Show returns when what it was given is on the disk. An error means that
//     nothing of it may be shown.
//   - Nothing is forgotten but messages that the mailbox no longer has, and all
//     under a UIDVALIDITY that is over: no later message has their unique-ids.
//   - A ledger that is damaged is an error, at the start where it can be seen
//     then, and is never begun anew in silence. What is read counts only if its
//     checksum, which covers the name of the maildrop, holds.
//   - The file holds no names, but digests of them, and belongs to its owner alone
//     (0600). One process has it at a time.
//
// A file that is not there is made, and the log tells: at the first start there
// is none. If it was lost, messages that earlier sessions showed and that are
// outside of the window are shown no more; no unique-id comes to mean another
// message, and nothing is deleted. The file belongs into the backup.
//
// Limits: the entries take [Options].Octets at most, about 70 for most
// maildrops and a few more for each hole in what was shown; the file takes up to
// four times that. A ledger that is full takes nothing new: those sessions fail
// until the limit is raised.
package ledger
