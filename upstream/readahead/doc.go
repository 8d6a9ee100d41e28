// Package readahead decides which messages a store fetches before its client
// asks for them, and holds them until it does.
//
// A POP3 client asks for one message after the other, and waits for each. A mail
// service that is 20 ms away then gives 50 messages a second, however fast it
// is. A store that can ask for many messages in one round trip keeps a [Window]
// for each session: it tells the window what is asked for, and the window says
// what to fetch beside it.
//
// Invariants:
//
//   - Nothing is fetched ahead until two messages in a row were asked for, up or
//     down. A client that goes elsewhere costs what the window holds at that time
//     and no more.
//   - What is held was reserved before it was asked for, by sizes known in
//     advance, from the window's own limit and from the [Pool] that all windows
//     share. Where there is no room, less is fetched ahead, or nothing.
//   - A window holds nothing of a fetch until its store says that all of it
//     arrived.
//   - A window grows only while the mail service fills it in an instant: a client
//     waits for the end of its message as long as that takes.
//
// The package is pure: it has no clock, no log and no connection. It imports the
// standard library only.
package readahead
