package pop3

import (
	"slices"
	"time"

	"github.com/popgate/popgate/upstream"
)

// Trace is a set of functions that are told what sessions do, for metrics. Any
// of them may be nil. They are called from many goroutines and should return at
// once. Every string they get is from a closed set.
type Trace struct {
	// SessionStarted and SessionEnded are called once each for every session.
	SessionStarted func(Via)
	SessionEnded   func(Via, End, time.Duration)

	// Secured is called after the handshake of STLS, with the ids of crypto/tls.
	Secured func(via Via, version, cipher uint16)

	// Command is called when a command has its reply: a verb of [Verbs], and
	// the time from the end of its line to the end of its reply, AUTH's
	// exchange included.
	Command func(verb string, r Result, d time.Duration)

	// Login is called when a try to log in has its result, one of
	// [LoginResults], with a mechanism of [Mechanisms].
	Login func(mechanism, result string)

	// Opened is called with the time that the store took to open a maildrop.
	Opened func(d time.Duration)

	// Retrieved is called when a RETR or TOP ends, with the octets of the
	// message that were sent. whole: the client has all of the message.
	Retrieved func(octets int64, whole bool)

	// Deletions is called at most once in a session, when it ends and marked
	// something.
	Deletions func(Deletions)

	// SizeMismatch is called when the octets sent for a whole message are not
	// what the list says, with the name of the mail server (upstream.Terms).
	SizeMismatch func(upstream string, told, sent int64)

	// Panicked is called when a fault in the program ended a session.
	Panicked func()
}

// Deletions tells what became of the messages that a session marked. It
// balances: Marked == Reset+Abandoned+Removed+Missing+Kept.
type Deletions struct {
	Marked    int // DELE was answered with +OK
	Reset     int // unmarked by RSET
	Abandoned int // the session ended without UPDATE
	Removed   int // the store confirmed: out of every later session
	Missing   int // already gone when UPDATE looked
	Kept      int // still there, or not confirmed to be gone
}

// Result is how a command ended.
type Result string

// The results.
const (
	OK  Result = "ok"
	Err Result = "err"
	Cut Result = "cut" // the connection ended instead of the reply
)

// Results lists every [Result].
func Results() []Result { return []Result{OK, Err, Cut} }

// End is why a session ended.
type End string

// The ends.
const (
	EndQuit           End = "quit"
	EndClientGone     End = "client-gone"      // the connection was closed or lost
	EndAutologout     End = "autologout"       // no command for too long
	EndLoginTimeout   End = "login-timeout"    // no login in time
	EndTooManyErrors  End = "too-many-errors"  // over Options.BadCommands
	EndTooManyLogins  End = "too-many-logins"  // over Options.LoginTries
	EndLineTooLong    End = "line-too-long"    // over the limits of pop3wire
	EndNotPOP3        End = "not-pop3"         // the first line was of another protocol
	EndInputBeforeTLS End = "input-before-tls" // octets behind STLS
	EndTLSFailed      End = "tls-failed"       // the handshake of STLS
	EndDrained        End = "drained"          // the server is going down
	EndUpstreamLost   End = "upstream-lost"    // a message broke off
	EndWriteFailed    End = "write-failed"     // the client did not take a reply
	EndPanic          End = "panic"            // a fault in the program
)

// Ends lists every [End].
func Ends() []End {
	return []End{EndQuit, EndClientGone, EndAutologout, EndLoginTimeout, EndTooManyErrors, EndTooManyLogins, EndLineTooLong,
		EndNotPOP3, EndInputBeforeTLS, EndTLSFailed, EndDrained, EndUpstreamLost, EndWriteFailed, EndPanic}
}

// otherVerb stands for every verb that is not in the command table.
const otherVerb = "other"

// Verbs lists what [Trace.Command] may be called with.
func Verbs() []string {
	var verbs []string
	for _, c := range commandTable() {
		verbs = append(verbs, c.verb)
	}
	return append(verbs, otherVerb)
}

// The ways to log in that are no SASL mechanism.
const (
	mechUser = "USER" // USER and PASS
	mechAPOP = "APOP"
)

// Mechanisms lists the ways to log in.
func Mechanisms() []string {
	list := []string{mechUser, mechAPOP}
	for _, m := range mechanismTable() {
		list = append(list, m.name)
	}
	return list
}

// LoginResults lists the results of a login: "ok", and the kinds of error.
func LoginResults() []string {
	results := []string{string(OK)}
	for _, k := range upstream.Kinds() {
		results = append(results, k.String())
	}
	return slices.Clip(results)
}

// call calls f if there is one.
func call[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}

func call2[T, U any](f func(T, U), v T, u U) {
	if f != nil {
		f(v, u)
	}
}

func call3[T, U, V any](f func(T, U, V), v T, u U, w V) {
	if f != nil {
		f(v, u, w)
	}
}
