// Popgate is a POP3 gateway in front of IMAP mailboxes: mail programs that
// speak POP3 read, keep and delete the mail of an IMAP account.
//
// This package is the command line and the assembly. It is the only one that
// knows every other: it turns the configuration into the options of each
// package, and joins their traces to the metrics.
//
// Invariants:
//
//   - Data goes one way: file and flags -> config.Config -> each package's
//     Options -> behaviour -> Trace -> metrics. Nothing else is shared.
//   - The exit code is 0 when all went well, 1 when something failed while
//     running, 2 when the command line or the configuration is wrong.
//   - The first SIGTERM or SIGINT drains, the second ends the process at once.
//   - Of the environment a process reads what systemd tells it, and what a person
//     at a terminal wants of colours (NO_COLOR, TERM).
//
// Limits: descriptors are counted before the first client is let in; the
// metrics listener takes 32 connections at a time.
package main
