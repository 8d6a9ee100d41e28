// Package demo is `popgate demo`: an IMAP or JMAP server in memory with sample mail,
// the gateway in front of it, and one POP3 session that is played over TCP and
// printed as it goes.
//
// The session is a test as much as a show: every reply is checked, and every
// message that is retrieved is compared with the one that was put in.
//
// Invariants:
//
//   - The package does not know how a gateway is put together: [Options].Start
//     is given to it.
//   - The samples are the same on every run. They name roles at example.com
//     and nobody else.
//
// Limits: the mail server keeps its mail in memory and forgets it at the end;
// it is for trying things out and listens on a loopback address.
package demo
