// Package pop3 is the POP3 session: it speaks RFC 1939 with one client, over one
// maildrop of package upstream.
//
// A [Server] holds what all sessions share; [Server.Serve] runs one connection
// to its end. A session is a loop of five steps: arm the deadline, read one
// bounded line, look the verb up in the command table, call its handler, reply.
// Obeyed are RFC 1939, 2449 (CAPA), 2595 (STLS), 1734 and 5034 (AUTH), and 3206
// (response codes).
//
// A client logs in by USER and PASS or AUTH PLAIN and LOGIN; where [Options] says
// so by APOP, CRAM-MD5 and SCRAM-SHA-256 with a shared secret, by XOAUTH2 and
// OAUTHBEARER with a token, and by EXTERNAL with a certificate that was verified.
//
// Invariants:
//
//   - A message is removed only if DELE marked it and a complete QUIT line came
//     in the TRANSACTION state. Maildrop.Update has one caller, in update.go.
//   - +OK to QUIT is written after the store has confirmed every removal and
//     the account was closed, so that the maildrop is free when it is read.
//   - Message numbers, sizes and unique-ids are those of the snapshot for as
//     long as the session lives.
//   - The terminator of a message is written after the store has confirmed that
//     the whole of it came. Everything else ends the connection without one.
//   - The engine lets nobody in: the store is asked after a wrong digest too, with an
//     empty secret, so that who guesses meets the throttle around it and a user
//     without a shared secret is like any other.
//   - No secret crosses the network without TLS, but where [Options] says so.
//   - Every command has one reply, and no reply repeats octets of the client or
//     text of the mail service.
//   - Who waits for the other has sent all: nothing that the client could read
//     is held back while the session reads.
//   - A fault ends one session, never the program, and removes nothing.
//
// Limits: the fields of [Options]; lines as package pop3wire bounds them; one
// message body at a time, in pieces of 32 KiB, and replies of 32 KiB; an idle
// session has no buffer for either. Connections, rates, PROXY headers
// and TLS from the first octet belong to package proxy; exclusive locks and
// guessing to the decorators of the store.
package pop3
