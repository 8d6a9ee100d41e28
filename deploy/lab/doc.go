// Package lab runs real servers for tests: private instances of Dovecot, Cyrus,
// Courier and HAProxy, each with its own configuration, mail store, ports and
// certificate inside one folder.
//
// Invariants:
//
//   - Servers listen on 127.0.0.1 alone, on ports that were free at start.
//   - A server is a child of the calling process and is stopped by its own
//     process id. Nothing is stopped by name.
//   - No file outside the folder is touched, with one exception: Courier's
//     authdaemond has the paths of /etc/courier compiled in. What is changed
//     there is saved first and put back by [Server.Stop]; a lock makes sure
//     that only one lab does it at a time.
//
// Limits: Linux and Debian's packages; root, because the mail servers drop
// privileges on their own; the folder's path must be short (under 60 octets),
// since the servers put UNIX sockets into it. The passwords are no secrets.
package lab
