// Package uidl writes the unique-ids of messages behind IMAP: two numbers, the
// UIDVALIDITY of the mailbox and the UID of the message, in a form that another
// POP3 server may have used before. Clients that leave mail on the server know it
// by these texts alone: with the same texts they do not fetch it a second time.
//
// Invariants:
//
//   - Two messages never have the same unique-id. A form that could give it to them
//     is refused: one without UIDVALIDITY, or one whose numbers run into each other.
//   - A unique-id is 1 to 70 octets of 0x21 to 0x7E (RFC 1939 section 7).
//   - The default form is kept for ever.
//
// Limits: forms of anything but these two numbers (file names, hashes, GUIDs)
// cannot be made from what IMAP tells of a mailbox in one command.
package uidl
