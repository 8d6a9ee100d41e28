package pop3

import (
	"strconv"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// has returns whether message number n is there and not marked. A message
// number stays what it is however many are marked (RFC 1939 section 5).
func (s *session) has(n int) bool { return n <= s.drop.Len() && !s.marks.deleted.has(index(n)) }

func (s *session) noSuchMessage() Result { return s.err(pop3wire.NoCode, "no such message") }

// okPair replies +OK and two numbers.
func (s *session) okPair(n int, octets int64) Result {
	return s.status(pop3wire.AppendScan(append(s.out.Available(), "+OK "...), n, octets))
}

func (s *session) stat(arguments) Result { return s.okPair(s.marks.totals()) }

func (s *session) list(a arguments) Result {
	if a.n != 0 {
		if !s.has(a.n) {
			return s.noSuchMessage()
		}
		return s.okPair(a.n, s.drop.Size(index(a.n)))
	}
	return s.listing(func(dst []byte, n int) []byte { return pop3wire.AppendScan(dst, n, s.drop.Size(index(n))) })
}

func (s *session) uidl(a arguments) Result {
	if a.n != 0 {
		if !s.has(a.n) {
			return s.noSuchMessage()
		}
		return s.status(s.appendUIDL(append(s.out.Available(), "+OK "...), a.n))
	}
	return s.listing(s.appendUIDL)
}

// appendUIDL appends the unique-id listing of message number n.
func (s *session) appendUIDL(dst []byte, n int) []byte {
	dst = append(strconv.AppendInt(dst, int64(n), 10), ' ')
	return append(s.drop.AppendUIDL(dst, index(n)), "\r\n"...)
}

// listing replies with a line for every message that is not marked: one appends
// that of a message number. No line begins with a dot.
func (s *session) listing(one func(dst []byte, n int) []byte) Result {
	n, octets := s.marks.totals()
	line := strconv.AppendInt(append(s.out.Available(), "+OK "...), int64(n), 10)
	line = strconv.AppendInt(append(line, " messages ("...), octets, 10)
	s.status(append(line, " octets)\r\n"...))
	for n := 1; n <= s.drop.Len(); n++ {
		if s.marks.deleted.has(index(n)) {
			continue
		}
		if _, err := s.out.Write(one(s.out.Available(), n)); err != nil {
			return s.cutOff(EndWriteFailed, err)
		}
	}
	s.writeLine(".")
	return OK
}

func (s *session) dele(a arguments) Result {
	switch {
	case s.terms.ReadOnly:
		return s.err(pop3wire.NoCode, "this maildrop is read-only")
	case !s.has(a.n):
		return s.noSuchMessage()
	case s.unread.has(a.n):
		return s.err(pop3wire.NoCode, "the message could not be read: not marked")
	}
	s.marks.delete(index(a.n))
	s.tally.deletions.Marked++
	return s.ok("marked as deleted")
}

func (s *session) rset(arguments) Result {
	s.tally.deletions.Reset += s.marks.reset()
	return s.ok("no message is marked")
}

func (s *session) noop(arguments) Result { return s.ok("") }

// last answers LAST, which RFC 1725 removed. A number that is not kept from
// session to session would make clients fetch everything again; told that there
// is none, they use UIDL.
func (s *session) last(arguments) Result { return s.err(pop3wire.NoCode, "no LAST, use UIDL") }
