package imaptest

import (
	"slices"
	"strings"
	"time"
)

// A Profile says what a server is able to do and how it fails. The zero value
// is a plain RFC 3501 server without any extension.
type Profile struct {
	Name string // for the journal and for test names

	// Caps are the capabilities told after login, without IMAP4rev1, AUTH=,
	// STARTTLS and LOGINDISABLED, which follow from the other fields.
	Caps []string
	// ShortCaps tells no Caps before login but those about the login itself
	// (SASL-IR, LITERAL+, ID, ENABLE).
	ShortCaps bool
	// GreetingCaps puts the capabilities into the greeting.
	GreetingCaps bool
	// Auth are the mechanisms of AUTHENTICATE: PLAIN, LOGIN, XOAUTH2, OAUTHBEARER.
	Auth []string
	// LoginDisabled refuses LOGIN, and says so, until TLS is on.
	LoginDisabled bool
	// LoginDropsInput loses what was received behind LOGIN or AUTHENTICATE, as
	// Courier does.
	LoginDropsInput bool

	Separator string // of the levels of mailbox names; "" is "/"
	Namespace string // what the names of the user's mailboxes begin with, INBOX aside: "INBOX."

	ReadOnly       bool     // SELECT answers [READ-ONLY] and stores nothing
	ExamineNO      bool     // STORE in a read-only mailbox answers NO; else OK and nothing
	PermanentFlags []string // nil: the five system flags and \*
	NoUIDNext      bool     // SELECT and STATUS tell no UIDNEXT

	AutoExpunge   bool // a message goes the moment \Deleted is set, as in Gmail
	IgnoreStore   bool // STORE answers OK and changes nothing
	IgnoreExpunge bool // EXPUNGE and MOVE answer OK and nothing goes
	// DeafPipelined makes an EXPUNGE that was received together with the STORE
	// before it answer OK and expunge nothing, as one Dovecot does.
	DeafPipelined bool

	MaxConnections int        // 0: no limit
	LimitReply     LimitReply // what a connection over the limit is told

	// MaxLine bounds a command line in octets; 0 means 8192 (RFC 2683
	// section 3.2.1.5). A longer one is answered BAD and the connection ends.
	MaxLine int
	// Autologout is the time without a command after which the server says
	// BYE; 0 means 30 minutes (RFC 3501 section 5.4).
	Autologout time.Duration

	Dialect Dialect
}

// LimitReply is how a server turns a connection away that is one too many.
type LimitReply uint8

// The replies to a connection over Profile.MaxConnections.
const (
	LimitBYE         LimitReply = iota // BYE instead of a greeting
	LimitNO                            // LOGIN answers NO [LIMIT]
	LimitUnavailable                   // LOGIN answers NO [UNAVAILABLE]
)

// Full is a server with everything, in the manner of Dovecot.
func Full() Profile {
	return Profile{
		Name: "full",
		Caps: []string{"SASL-IR", "LITERAL+", "ID", "ENABLE", "UIDPLUS", "MOVE", "ESEARCH",
			"SPECIAL-USE", "LIST-EXTENDED", "NAMESPACE", "UNSELECT"},
		ShortCaps:    true,
		GreetingCaps: true,
		Auth:         []string{"PLAIN", "LOGIN", "XOAUTH2"},
		Dialect:      Dialect{LoginCaps: true, Gone: GoneExpungeIssued},
	}
}

// WithoutUIDPLUS is Full without UIDPLUS and MOVE.
func WithoutUIDPLUS() Profile { return Full().Without("UIDPLUS", "MOVE").Named("without-uidplus") }

// WithoutMOVE is Full without MOVE.
func WithoutMOVE() Profile { return Full().Without("MOVE").Named("without-move") }

// Courier is a server in the manner of Courier: UIDPLUS but no MOVE, ESEARCH,
// LITERAL+, SASL-IR or SPECIAL-USE, and input behind LOGIN is lost.
func Courier() Profile {
	return Profile{
		Name:            "courier",
		Caps:            []string{"UIDPLUS", "CHILDREN", "NAMESPACE", "ID", "ENABLE"},
		GreetingCaps:    true,
		LoginDropsInput: true,
		Separator:       ".",
		Namespace:       "INBOX.",
		Dialect:         Dialect{Gone: GoneMadeUp},
	}
}

// Minimal is RFC 3501 and nothing more.
func Minimal() Profile { return Profile{Name: "minimal", Dialect: Dialect{Gone: GoneNO}} }

// Profiles returns every ready-made profile, for table tests.
func Profiles() []Profile {
	return []Profile{Full(), WithoutUIDPLUS(), WithoutMOVE(), Courier(), Minimal()}
}

// With returns p with more capabilities.
func (p Profile) With(caps ...string) Profile {
	p.Caps = append(slices.Clone(p.Caps), caps...)
	return p
}

// Without returns p with fewer capabilities.
func (p Profile) Without(caps ...string) Profile {
	p.Caps = slices.DeleteFunc(slices.Clone(p.Caps), func(c string) bool { return containsFold(caps, c) })
	return p
}

// Named returns p under another name.
func (p Profile) Named(name string) Profile {
	p.Name = name
	return p
}

// Has reports whether p tells the capability after login.
func (p Profile) Has(capability string) bool { return containsFold(p.Caps, capability) }

func (p Profile) permanentFlags() []string {
	if p.PermanentFlags != nil {
		return p.PermanentFlags
	}
	return append(systemFlags(), `\*`)
}

func (p Profile) separator() string {
	if p.Separator == "" {
		return "/"
	}
	return p.Separator
}

func (p Profile) maxLine() int {
	if p.MaxLine == 0 {
		return 8192
	}
	return p.MaxLine
}

func (p Profile) autologout() time.Duration {
	if p.Autologout == 0 {
		return 30 * time.Minute
	}
	return p.Autologout
}

func systemFlags() []string {
	return []string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`}
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(e string) bool { return strings.EqualFold(e, s) })
}
