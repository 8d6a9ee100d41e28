package imaptest

// A Dialect says how a server words its replies, within the grammar of
// RFC 3501 and, where a field says so, outside of it. The zero value is the
// plainest form.
type Dialect struct {
	Order      ItemOrder // of the items of a FETCH reply
	ExtraItems []string  // raw items at the end of every FETCH reply that answers a FETCH: "MODSEQ (8)"
	ExtraFlags bool      // FLAGS are told in every FETCH reply, asked for or not
	Body       BodyForm
	Gone       GoneForm

	// Backwards answers a FETCH of several messages from the last to the first.
	Backwards bool
	// FlagsFirst sends an unsolicited FETCH (UID u FLAGS ...) of the same
	// message right before the one with its body.
	FlagsFirst bool
	// SyncInside tells what other clients did in the middle of UID FETCH,
	// before each message, and not only at the end of the command.
	SyncInside bool
	// Noise are raw lines without CRLF sent in the middle of every FETCH,
	// STORE and SEARCH: "* VANISHED 41", "* X-ANY thing", "* 23 EXISTS".
	Noise []string

	LowerCase bool     // every keyword of a reply in lower case
	Text      TextForm // the human text of tagged OK
	LoginCaps bool     // the OK of LOGIN and AUTHENTICATE holds the capabilities
}

// ItemOrder is the order of items in a FETCH reply.
type ItemOrder uint8

// The orders of FETCH items.
const (
	UIDFirst  ItemOrder = iota // UID, the others as asked, the body
	UIDLast                    // the body, the others, UID
	SizeFirst                  // RFC822.SIZE, UID, the others, the body
)

// BodyForm is how a body section is sent.
type BodyForm uint8

// The forms of a body section.
const (
	BodyLiteral BodyForm = iota
	BodyQuoted           // a quoted string where the octets allow it, else a literal
	BodyNIL              // NIL, although the message is there
)

// GoneForm is the answer to a FETCH of a message that another client expunged
// and whose EXPUNGE this session was not told yet. Once told, and for a UID
// that never was, every server answers nothing and OK.
type GoneForm uint8

// The forms of "that message is gone".
const (
	GoneNothing       GoneForm = iota // nothing and OK
	GoneNIL                           // the section is NIL, and OK
	GoneNO                            // nothing and NO
	GoneExpungeIssued                 // the section is NIL, and OK [EXPUNGEISSUED] (RFC 5530)
	GoneMadeUp                        // another message, which says so, and OK, as Courier does it
)

// TextForm is the human text of a tagged OK.
type TextForm uint8

// The forms of the text.
const (
	TextPlain TextForm = iota
	TextEmpty          // "A1 OK " and CRLF
	TextNone           // "A1 OK" and CRLF
)
