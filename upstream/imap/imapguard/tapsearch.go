package imapguard

import "math"

// searchTap follows a SEARCH or ESEARCH response, which may come in many
// pieces, and gives out what was found.
type searchTap struct {
	inNumber bool
	number   uint64
	first    uint64 // of a range whose end is still to come; 0 outside of one

	// Of ESEARCH alone.
	word    searchWord
	name    [4]byte // the beginning of the name under way, in upper case
	length  int     // octets of the word under way
	uids    bool    // the response tells UIDs
	depth   int     // of parentheses
	quoted  bool
	escaped bool
}

// searchWord is what a word of an ESEARCH response is.
type searchWord uint8

const (
	wordName  searchWord = iota // of a result: ALL, COUNT; or UID
	wordSet                     // what ALL found
	wordOther                   // the value of another result
)

// numbers takes a piece of a SEARCH response, behind its name: numbers with
// spaces between. It reports whether the rest of the response is of no use.
func (s *searchTap) numbers(piece []byte, search func(first, last uint32)) (over bool, err error) {
	for _, c := range piece {
		switch {
		case c >= '0' && c <= '9':
			err = s.digit(c)
		case c == ' ' || c == '\r' || c == '\n':
			err = s.found(search)
		case c == '(': // a MODSEQ that nobody asked for
			return true, nil
		default:
			err = violation("a SEARCH response that holds no number")
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// results takes a piece of an ESEARCH response (RFC 4731 section 3.1), behind
// its name: (TAG "A1") UID ALL 1:3,5 and other results. Where it tells message
// numbers in place of UIDs nothing was found.
func (s *searchTap) results(piece []byte, search func(first, last uint32)) error {
	for _, c := range piece {
		switch {
		case s.escaped:
			s.escaped = false
		case s.quoted:
			s.escaped, s.quoted = c == '\\', c != '"'
		case c == '"':
			s.quoted = true
			s.beginValue()
		case c == '(':
			s.beginValue()
			s.depth++
		case c == ')':
			s.depth--
		case s.depth > 0:
		case c == ' ' || c == '\r' || c == '\n':
			if err := s.endWord(search); err != nil {
				return err
			}
		default:
			if err := s.octet(c, search); err != nil {
				return err
			}
		}
	}
	return nil
}

// beginValue counts a string or list as part of the word under way. The
// correlator (TAG "A1"), which comes in a name's place, is no word.
func (s *searchTap) beginValue() {
	if s.word != wordName && s.depth == 0 {
		s.length++
	}
}

// octet takes one octet of a word outside of parentheses and quotes.
func (s *searchTap) octet(c byte, search func(first, last uint32)) error {
	s.length++
	switch {
	case s.word == wordName:
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if s.length <= len(s.name) {
			s.name[s.length-1] = c
		}
		return nil
	case s.word == wordOther || !s.uids:
		return nil
	case c >= '0' && c <= '9':
		return s.digit(c)
	case c == ':' && s.inNumber && s.first == 0 && s.number > 0:
		s.first, s.number, s.inNumber = s.number, 0, false
		return nil
	case c == ',':
		return s.found(search)
	}
	return violation("an ESEARCH response whose ALL is no set of numbers")
}

// endWord ends the word under way, if there is one.
func (s *searchTap) endWord(search func(first, last uint32)) error {
	name := s.name[:min(s.length, len(s.name))]
	length := s.length
	s.length = 0
	switch {
	case length == 0:
	case s.word == wordSet:
		s.word = wordName
		return s.found(search)
	case s.word == wordOther:
		s.word = wordName
	case length == 3 && string(name) == "UID":
		s.uids = true
	case length == 3 && string(name) == "ALL":
		s.word = wordSet
	default:
		s.word = wordOther
	}
	return nil
}

func (s *searchTap) digit(c byte) error {
	s.inNumber = true
	if s.number = s.number*10 + uint64(c-'0'); s.number > math.MaxUint32 {
		return violation("a UID of over 32 bits")
	}
	return nil
}

// found gives out the number or range that ends here, if there is one.
func (s *searchTap) found(search func(first, last uint32)) error {
	switch {
	case !s.inNumber && s.first == 0:
		return nil
	case s.number == 0:
		return violation("UID 0")
	}
	first, last := s.number, s.number
	if s.first != 0 {
		first, last = min(s.first, s.number), max(s.first, s.number)
	}
	s.inNumber, s.number, s.first = false, 0, 0
	search(uint32(first), uint32(last))
	return nil
}
