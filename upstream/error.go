package upstream

import (
	"errors"
	"fmt"
)

// Kind classes an error by what the POP3 engine does about it. The set is
// closed; a kind exists only where the engine would act differently.
type Kind uint8

// The kinds, with the reply code that each becomes (RFC 2449 section 8,
// RFC 3206).
const (
	Internal    Kind = iota // needs a person: a fault, a setting, missing rights; [SYS/PERM]
	Refused                 // the credentials are the cause; [AUTH]
	Unavailable             // waiting may cure it; [SYS/TEMP]
	Busy                    // another session holds the maildrop; [IN-USE]
	Early                   // the user may not log in again yet; [LOGIN-DELAY]
	Gone                    // that message is no longer there
	Changed                 // the mailbox is no longer the one that was listed; [SYS/TEMP]
	TooBig                  // over a limit of ours; [SYS/PERM]
)

// String returns the kind in one lower-case word, for logs and metric labels.
func (k Kind) String() string {
	switch k {
	case Internal:
		return "internal"
	case Refused:
		return "refused"
	case Unavailable:
		return "unavailable"
	case Busy:
		return "busy"
	case Early:
		return "early"
	case Gone:
		return "gone"
	case Changed:
		return "changed"
	case TooBig:
		return "toobig"
	}
	return "invalid"
}

// Kinds lists every kind, for metrics that create their labels in advance.
func Kinds() []Kind {
	return []Kind{Internal, Refused, Unavailable, Busy, Early, Gone, Changed, TooBig}
}

// Error is the only error that the POP3 engine looks inside. Err is for the
// log; no text of it reaches a client.
type Error struct {
	Kind Kind
	Op   string // what was being done, lower case: "login", "list", "retrieve"
	Sent bool   // a request that changes the store may have arrived: do not retry
	Err  error  // the cause; holds no secret
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Op, e.Kind)
	}
	return fmt.Sprintf("%s: %s: %v", e.Op, e.Kind, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [*Error] in err's chain, and Internal
// where there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
