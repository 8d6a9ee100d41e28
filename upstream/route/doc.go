// Package route decides where a login goes: to which mail service, to which
// mailbox, and with whose credentials.
//
// A [Table] is a list of routes. The first one that matches a login takes it, in
// the order of the list. It proves the client where the mail service is not to do
// that, rewrites the user, lets its steps put other credentials in place, and logs
// in at its store. A login that no route takes is refused as a wrong password is.
// [Store] makes an upstream.Store of a table, which can be replaced while it
// serves. [AuthHTTP] is a store that asks a service over HTTP where to go, by the
// protocol of nginx's mail proxy.
//
// Invariants:
//
//   - The octets that a client sends are compared with the table and fill
//     templates of users and mailboxes; they choose among what the operator wrote
//     and make no host, no port, no path and no pattern.
//   - What a client asks for besides its own maildrop (an authorization identity,
//     another folder) is granted only by a route that says so.
//   - The client is proved by its own name, before anything is rewritten.
//   - A login is decided by one table, from its first rule to its store.
//   - No secret is in an error or in what [Table.Explain] tells.
//
// Limits: matching takes time that grows with the number of routes and with the
// length of the user; patterns are RE2, whose time is linear. A folder has at most
// [MaxFolder] octets. A secret in a file has at most [MaxSecret] octets.
package route
