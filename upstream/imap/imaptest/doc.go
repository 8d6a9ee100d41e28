// Package imaptest is the fault bench for everything that speaks IMAP: a
// scripted server that keeps mailboxes in memory, writes down all that it is
// told and all that it does, and breaks where a test asks it to. It is a test
// double; only tests import it.
//
// The parts:
//
//   - [Server] speaks IMAP4rev1 (RFC 3501) and the extensions that its
//     [Profile] names. [Dialect] says how it words what it says.
//   - [Mailbox] is the hand of another client in the same mailbox, and the
//     view of what remains.
//   - [Server.Before] and [Server.After] put an [Action] at a command: another
//     answer, a lost connection, a stall, a literal that breaks off.
//   - [Conversation] plays fixed octets, for servers that follow no rule.
//   - [CutConn] ends or fails a connection at an exact octet or call.
//   - [Journal] holds commands, replies and mutations in one order; [Judge]
//     reads it beside what a POP3 client saw.
//
// Invariants:
//
//   - The package shares no code with any IMAP client: a fault in a codec
//     cannot hide on both sides.
//   - Untagged data goes out only where RFC 3501 section 7.4.1 allows it,
//     unless the Dialect or an Action says otherwise.
//   - A mutation is journalled before the reply that tells of it, and a reply
//     before its octets go out.
//   - Every goroutine, listener and connection of a server ends with the test.
//   - All of it works under testing/synctest over net.Pipe, and over TCP on a
//     loopback address.
//
// Limits: no APPEND or CREATE, no IDLE, no BODYSTRUCTURE or ENVELOPE, no
// CONDSTORE, no nested mailboxes. Command lines end at [Profile.MaxLine]
// octets, literals at 64 KiB. net.Pipe holds no octets: where both ends write at
// once, as in a TLS handshake that the client breaks off, only deadlines end it.
// Take [TCP] for those.
package imaptest
