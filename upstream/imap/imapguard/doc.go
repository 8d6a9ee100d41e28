// Package imapguard is the connection that stands between go-imap's client and
// an IMAP server: a [net.Conn] that owns the deadlines, bounds what the server
// may send, and hides from the client library what it cannot bear.
//
// A [Conn] lives in two phases. In the dialogue the caller speaks IMAP by hand,
// a bounded line at a time: greeting, STARTTLS, authentication. After
// [Conn.Handover] the library reads from it: first a synthetic PREAUTH greeting
// with the capabilities, then the server's responses, filtered:
//
//   - Only the response types that the library needs go through; the rest
//     (VANISHED, X-..., RECENT, EXPUNGE, flag updates) is swallowed, because
//     an unknown response or fetch item makes the library drop the connection,
//     and a flag update can take the place of an awaited body.
//   - FETCH goes through only where the command in flight awaits a body
//     ([Expect.Body], [Expect.Bodies]); where it is one, and its UID comes after it,
//     the UID is put before.
//   - Listings and search results never reach the library: they are read here,
//     without allocation, and given to [Expect.List] and [Expect.Search]. The
//     ranges of an ESEARCH (RFC 4731) are given as they are.
//   - A CAPABILITY code behind the greeting is hidden: the library would loop over
//     a malformed one, and go by it in how it removes messages.
//   - Response codes are folded to upper case, and flags of illegal characters
//     are made legal.
//   - The last NO, BAD, BYE or ALERT is kept, so that errors can tell the true
//     cause ([Conn.Status]), and the response codes seen ([Conn.Saw]).
//
// Limits ([Limits]): octets of one response outside literals, nesting depth,
// size of a literal that is no body, octets of one command's responses in all.
// What breaks one is a [*Violation], and the connection is over. Literals that
// are bodies pass with constant memory. The end of the stream inside a literal
// is [ErrCut], never a clean end.
//
// Deadlines: each read has to make progress within Limits.Progress while a
// command is in flight and within Limits.Idle otherwise, and bring
// Limits.Trickle octets in each Limits.Progress of waiting; the clock stands
// while the reader does not read, so a slow POP3 client trips nothing. Deadlines
// set by the library are ignored.
package imapguard
