// Package proxy takes connections from the network: listeners, the accept loop,
// the PROXY protocol, TLS from the first byte, admission limits, and the drain. It
// hands each connection to a handler and knows nothing of what is spoken on it.
//
// Invariants:
//
//   - All listeners are bound or none.
//   - The accept loop neither dies nor spins, whatever the system says: when
//     descriptors or memory run out it waits 5 ms to 1 s and tries again.
//   - Nothing is read from a client in the accept loop, and nothing written that
//     could wait for it.
//   - A connection counts towards the limits from the moment it is accepted until
//     its handler has returned and it is closed, and towards them only once.
//   - Behind a proxy the client is who the PROXY header says, and nobody but a
//     listed proxy is asked for one: a connection without a right header is
//     closed, and so is everybody else's.
//   - The memory for addresses has a bound, and an address that has done nothing
//     for a minute is forgotten.
//   - A panic of a handler ends its own connection and nothing else.
//
// A server lives through New, Listen, Serve, Shutdown. Serve returns when no more
// connections are accepted, which its context decides; Shutdown then gives the
// open ones their time, and cancels the context of those that are left.
//
// Limits: a handler that does not end when its context does keeps Shutdown
// waiting. A PROXY header has 5 s and 4112 octets; what it says besides the
// client's address is not used. TCP keepalive finds a peer that has vanished from
// an idle connection after about two minutes; while octets of ours are
// unacknowledged the system sends no keepalive, and the deadlines of the handler
// decide.
package proxy
