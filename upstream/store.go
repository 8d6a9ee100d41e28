package upstream

import (
	"context"
	"io"
)

// A Store proves who a client is. It is safe for concurrent use.
type Store interface {
	// Login proves c to the mail service. On success the caller owns the
	// Account and must close it. A wrong user or secret is an error of kind
	// [Refused]; a service that is down, full or over its own limits is
	// [Unavailable] and never Refused.
	Login(ctx context.Context, c Credentials) (Account, error)
}

// An Account is a proven user whose maildrop is not yet taken. It serves one
// POP3 session and is not safe for concurrent use, Close of an open maildrop
// excepted.
//
// Login and Open are apart because the exclusive lock of RFC 1939 section 4
// belongs between them: taken before the proof, a guesser of passwords could
// lock the owner out; taken after the list, the list could be older than the
// lock.
type Account interface {
	// Key is the canonical name of the maildrop: equal for equal maildrops,
	// different for different ones. Locks and limits are kept by it. It holds
	// no secret.
	Key() string

	// Terms is what the operator wants of sessions on this account. It does not
	// change.
	Terms() Terms

	// Open takes the maildrop and lists it. It is called at most once. The
	// Maildrop lives until Close.
	Open(ctx context.Context) (Maildrop, error)

	// Close lets the account and its maildrop go, an open Body with them. It
	// removes nothing and does not wait for the mail service. It may be called
	// more than once, and after Open by another goroutine too: a call that is
	// under way then ends in an error.
	Close() error
}

// Terms are what the operator has set for the sessions on an account. The zero
// value has no wish.
type Terms struct {
	Upstream string // the mail server's name in the configuration, for metrics
	ReadOnly bool   // no message can be marked as deleted
	MarkSeen bool   // UPDATE marks as read what was retrieved whole
}

// A Snapshot is a maildrop as it stood when it was opened. Indexes run from 0
// to Len()-1; any other index panics.
type Snapshot interface {
	// Len is the number of messages.
	Len() int
	// Size is what the store says of message i: octets, with CRLF line ends
	// (RFC 1939 section 11), 0 or more.
	Size(i int) int64
	// AppendUIDL appends the unique-id of message i: 1 to [MaxUIDL] octets of
	// 0x21 to 0x7E, unique in the snapshot (RFC 1939 section 7).
	AppendUIDL(dst []byte, i int) []byte
}

// A Maildrop serves one POP3 session. It is not safe for concurrent use.
type Maildrop interface {
	Snapshot

	// Retrieve starts to read message i. At most one Body is open at a time:
	// close it before the next call of any method but those of Snapshot. The
	// context governs the whole life of the Body.
	//
	// A message that is no longer there is an error of kind [Gone]; one that
	// cannot be read for now is [Unavailable]; a mailbox that is no longer the
	// one that was listed is [Changed].
	Retrieve(ctx context.Context, i int, want Extent) (Body, error)

	// Update is POP3's UPDATE state: it applies ch, once or not at all, and
	// returns when the mail service has confirmed it. The Receipt is valid
	// beside an error too. A nil error with Kept == 0 means that no later
	// session shows any message of ch.Remove.
	//
	// What could not be done for ch.Seen is reported through the store's own
	// trace and never in the error.
	Update(ctx context.Context, ch Changes) (Receipt, error)
}

// A Body is the raw octets of one message, as the store has them, pulled from
// the mail service no faster than they are read.
type Body interface {
	// Read returns io.EOF only after the whole body was received and its
	// completeness confirmed by the mail service.
	io.Reader
	// Close ends the transfer. It is idempotent.
	io.Closer
	// Octets is the count that the mail service announced for this body, or
	// -1 if it announced none. It counts what Read will give.
	Octets() int64
}

// Extent says how much of a message is wanted. It is a hint, which lets a
// store leave the rest of a large message where it is: a Body may hold more
// than was asked for, never less. The zero value asks for the whole message.
type Extent struct {
	Top   bool // the header and Lines lines of the body, RFC 1939 section 7 (TOP)
	Lines int  // 0 or more; only with Top
}

// Changes is what one POP3 session asks of UPDATE. Both lists are indexes into
// the snapshot, ascending, without repetition.
type Changes struct {
	Remove []int // messages marked as deleted
	Seen   []int // messages to mark as read
}

// A Receipt tells what became of Changes.Remove.
type Receipt struct {
	Removed int // confirmed to be out of every later POP3 session
	Missing int // already gone when UPDATE looked
	Kept    int // still there, against the client's wish
}
