package imaptest

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/popgate/popgate/upstream"
)

// EventKind is the kind of an Event.
type EventKind uint8

// What a POP3 client can see or do.
const (
	Named       EventKind = iota // a line of UIDL: Number, UIDL
	Sized                        // a line of LIST: Number, Octets
	Marked                       // DELE was answered +OK: Number
	Unmarked                     // RSET was answered +OK
	Retrieved                    // RETR was answered: Number, Octets, Body, Whole
	Topped                       // TOP was answered: Number, Lines, Body, Whole
	QuitSent                     // a complete QUIT line was sent
	QuitReplied                  // Whole is true for +OK, false for -ERR
)

// An Event is one thing that a POP3 client saw, whatever store is behind it.
type Event struct {
	Kind EventKind
	// At is Journal.Len when it happened: for QuitSent before the last octet
	// went out, for all else after the reply was read.
	At     int
	Number int    // message number, from 1
	UIDL   string // unique-id
	Octets int64  // Sized: of the line; Retrieved: told in the +OK, -1 for none
	Lines  int    // Topped: the argument of TOP
	Body   []byte // what came, dot-stuffing undone, the terminator not in it
	Whole  bool   // the terminator came
}

// A Judge holds what POP3 clients saw against what the journal says. It finds
// for these invariants, as far as the two can tell:
//
//	I1  nothing changes before a complete QUIT, and nothing but what was marked is removed
//	I2  +OK to QUIT means that every marked message was confirmed to be gone
//	I3  a terminator stands only behind the whole of the message
//	I4  a message number means one message and one size all session long
//	I5  a unique-id is legal and means one message for ever
//	I6  LIST tells the size that the store claims, RETR the octets that it sends
type Judge struct {
	Journal *Journal
	// User and Mailbox name the maildrop; empty is INBOX of DefaultUser.
	User, Mailbox string
	// Where reads a unique-id; nil reads "<UIDVALIDITY>.<UID>" in decimal.
	Where func(uidl string) (uidValidity, uid uint32, ok bool)
	// Hidden reports that no POP3 session shows a message with these flags; nil
	// hides none.
	Hidden func(flags []string) bool
}

// Violations judges the sessions of one maildrop, each the events of one POP3
// session in order. No violation is an empty list.
func (j Judge) Violations(sessions ...[]Event) []string {
	v := &verdicts{Judge: j, entries: j.Journal.Entries(), names: map[Place]string{}, origins: map[Place]*Mutation{}}
	for i := range v.entries {
		if m := &v.entries[i].Mutation; v.entries[i].Kind == Mutated && m.Change == Appended {
			v.origins[m.Place()] = m
		}
	}
	if v.User == "" {
		v.User = DefaultUser
	}
	if v.Mailbox == "" {
		v.Mailbox = "INBOX"
	}
	if v.Where == nil {
		v.Where = decimalUIDL
	}
	var quits []quit
	for n, events := range sessions {
		quits = append(quits, v.session(n+1, events)...)
	}
	v.mutations(quits)
	return v.found
}

// verdicts is the work of one judgement.
type verdicts struct {
	Judge
	entries []Entry
	names   map[Place]string    // the unique-id under which a message was shown
	origins map[Place]*Mutation // how a message came to be
	found   []string
}

// quit is a complete QUIT: what was marked, and the place in the journal.
type quit struct {
	at    int
	marks []Place
}

func (v *verdicts) say(invariant, format string, a ...any) {
	v.found = append(v.found, invariant+": "+fmt.Sprintf(format, a...))
}

func decimalUIDL(uidl string) (uidValidity, uid uint32, ok bool) {
	a, b, found := strings.Cut(uidl, ".")
	x, err1 := strconv.ParseUint(a, 10, 32)
	y, err2 := strconv.ParseUint(b, 10, 32)
	return uint32(x), uint32(y), found && err1 == nil && err2 == nil
}

// session judges what one client saw and returns its QUITs.
func (v *verdicts) session(n int, events []Event) (quits []quit) {
	uidls, sizes, marked := map[int]string{}, map[int]int64{}, map[int]bool{}
	for _, e := range events { // names first: a RETR may come before UIDL
		if e.Kind == Named {
			if was, ok := uidls[e.Number]; ok && was != e.UIDL {
				v.say("I4", "session %d: number %d was %q and became %q", n, e.Number, was, e.UIDL)
			}
			for other, id := range uidls {
				if id == e.UIDL && other != e.Number {
					v.say("I5", "session %d: numbers %d and %d are both %q", n, other, e.Number, id)
				}
			}
			uidls[e.Number] = e.UIDL
			v.name(n, e)
		}
	}
	place := func(number int) (Place, *Mutation) {
		p, _ := v.place(uidls[number])
		return p, v.origins[p]
	}
	for _, e := range events {
		p, m := place(e.Number)
		switch e.Kind {
		case Sized:
			if was, ok := sizes[e.Number]; ok && was != e.Octets {
				v.say("I4", "session %d: number %d had %d octets and then %d", n, e.Number, was, e.Octets)
			}
			sizes[e.Number] = e.Octets
			if m != nil && m.Size != e.Octets {
				v.say("I6", "session %d: LIST says %d octets of message %d, the store %d", n, e.Octets, e.Number, m.Size)
			}
		case Marked:
			marked[e.Number] = true
		case Unmarked:
			clear(marked)
		case Retrieved, Topped:
			v.body(n, e, m)
		case QuitSent:
			q := quit{at: e.At}
			for number := range marked {
				p, _ := place(number)
				q.marks = append(q.marks, p)
			}
			quits = append(quits, q)
		case QuitReplied:
			if !e.Whole {
				continue
			}
			for number := range marked {
				p, _ = place(number)
				if why := v.remains(p, e.At); why != "" {
					v.say("I2", "session %d: +OK to QUIT, but message %d (%d.%d) %s", n, number, p.UIDValidity, p.UID, why)
				}
			}
		}
	}
	return quits
}

// name judges a unique-id.
func (v *verdicts) name(n int, e Event) {
	p, ok := v.place(e.UIDL)
	if !upstream.ValidUIDL([]byte(e.UIDL)) || !ok {
		v.say("I5", "session %d: %q is no unique-id", n, e.UIDL)
		return
	}
	if v.origins[p] == nil {
		v.say("I5", "session %d: %q names a message that never was", n, e.UIDL)
	}
	if was, ok := v.names[p]; ok && was != e.UIDL {
		v.say("I5", "session %d: %q is the message that was %q", n, e.UIDL, was)
	}
	v.names[p] = e.UIDL
}

func (v *verdicts) place(uidl string) (Place, bool) {
	validity, uid, ok := v.Where(uidl)
	return Place{v.User, v.Mailbox, validity, uid}, ok
}

// body judges a retrieved message.
func (v *verdicts) body(n int, e Event, m *Mutation) {
	if m == nil {
		if e.Whole {
			v.say("I3", "session %d: message %d was retrieved under no known unique-id", n, e.Number)
		}
		return
	}
	if e.Kind == Retrieved && e.Octets >= 0 && e.Octets != m.Body.Size() {
		v.say("I6", "session %d: RETR %d told %d octets, the store sends %d", n, e.Number, e.Octets, m.Body.Size())
	}
	if !e.Whole {
		return
	}
	want, err := io.ReadAll(io.NewSectionReader(m.Body, 0, m.Body.Size()))
	if err != nil {
		v.say("I3", "the body of message %d cannot be read: %v", e.Number, err)
		return
	}
	want = canonical(want)
	if e.Kind == Topped {
		want = top(want, e.Lines)
	}
	if !bytes.Equal(want, e.Body) {
		v.say("I3", "session %d: message %d ended in a terminator with %d octets, not the %d that it has", n, e.Number, len(e.Body), len(want))
	}
}

// canonical is a message as POP3 sends it: CRLF for every bare LF, and one at
// the end.
func canonical(b []byte) []byte {
	b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if len(b) > 0 && !bytes.HasSuffix(b, []byte("\r\n")) {
		b = append(b, "\r\n"...)
	}
	return b
}

// top is the header, its empty line, and n lines of the body (RFC 1939
// section 7).
func top(b []byte, n int) []byte {
	end, inBody := 0, false
	for line := range bytes.Lines(b) {
		if inBody && n == 0 {
			break
		}
		if inBody {
			n--
		}
		inBody = inBody || len(line) == 2
		end += len(line)
	}
	return b[:end]
}

// remains says why a message cannot be called gone at a place of the journal;
// "" if it can.
func (v *verdicts) remains(p Place, at int) string {
	gone, confirmed := 0, false
	for _, e := range v.entries[:min(at, len(v.entries))] {
		switch {
		case e.Kind == Mutated && gone == 0 && v.ends(e.Mutation, p):
			gone = e.N
		case e.Kind == Mutated && gone > 0 && e.Mutation.Change == Flagged && e.Mutation.Place() == p && !v.ends(e.Mutation, p):
			gone, confirmed = 0, false // it was hidden, and another client brought it back
		case e.Kind == Replied && gone > 0 && e.Status == "OK" && !e.Lost:
			confirmed = true
		}
	}
	switch {
	case gone == 0:
		return "is there"
	case !confirmed:
		return "went without a confirmation"
	}
	return ""
}

// ends reports whether after m no POP3 session shows the message at p.
func (v *verdicts) ends(m Mutation, p Place) bool {
	switch {
	case m.Change == Recreated:
		return m.User == p.User && m.Mailbox == p.Mailbox && m.UIDValidity != p.UIDValidity
	case m.Place() != p:
		return false
	case m.Change == Flagged || m.Change == Appended:
		return v.Hidden != nil && v.Hidden(m.Flags)
	}
	return m.Change == Expunged
}

// mutations judges what the sessions of the store did.
func (v *verdicts) mutations(quits []quit) {
	for _, e := range v.entries {
		if e.Kind != Mutated || e.Conn == 0 {
			continue
		}
		m := e.Mutation
		p := m.Place()
		if m.From != nil {
			p = *m.From
		}
		if p.User != v.User {
			continue // another maildrop, another judgement
		}
		after, asked := false, false
		for _, q := range quits {
			after = after || e.N > q.at
			asked = asked || e.N > q.at && slices.Contains(q.marks, p)
		}
		switch {
		case !after:
			v.say("I1", "%v (entry %d), and no QUIT before it", m, e.N)
		case !asked && v.removes(m):
			v.say("I1", "%v (entry %d), which nobody marked", m, e.N)
		}
	}
}

// removes reports whether m removes a message or prepares its removal. To set
// \Seen alone does not.
func (v *verdicts) removes(m Mutation) bool {
	return m.Change != Flagged || len(m.Removed) > 0 ||
		slices.ContainsFunc(m.Added, func(f string) bool { return !strings.EqualFold(f, `\Seen`) })
}
