package imapguard

import "math"

// tapPlainLine takes exactly "* n FETCH (UID u RFC822.SIZE s)", the items in
// either order, and reports whether it did. It is the fast path of a listing.
func tapPlainLine(line []byte, list func(number, uid uint32, size int64)) bool {
	p := cursor{b: trimLineEnd(line)}
	if !p.lit("* ") {
		return false
	}
	number, ok := p.number()
	if !ok || number > math.MaxUint32 || !p.lit(" FETCH (") {
		return false
	}
	var uid, size uint64
	ok = false
	if p.lit("UID ") {
		uid, ok = p.number()
		ok = ok && p.lit(" RFC822.SIZE ")
		if ok {
			size, ok = p.number()
		}
	} else if p.lit("RFC822.SIZE ") {
		size, ok = p.number()
		ok = ok && p.lit(" UID ")
		if ok {
			uid, ok = p.number()
		}
	}
	if !ok || !p.lit(")") || len(p.b) != 0 || uid == 0 || uid > math.MaxUint32 || size > math.MaxInt64 {
		return false
	}
	list(uint32(number), uint32(uid), int64(size))
	return true
}

// tapLine takes a FETCH line that has UID and RFC822.SIZE among other items,
// and ignores one that lacks either: flag updates come in between.
func tapLine(line []byte, list func(number, uid uint32, size int64)) error {
	p := cursor{b: trimLineEnd(line)}
	p.lit("* ")
	number, _ := p.number()
	p.lit(" ")
	p.word() // FETCH in any case
	p.lit(" ")
	if !p.lit("(") {
		return nil
	}
	var uid, size uint64
	var haveUID, haveSize bool
	for len(p.b) > 0 && p.b[0] != ')' {
		name := p.word()
		if !p.lit(" ") {
			return nil
		}
		ok := true
		switch {
		case equalFold(name, "UID"):
			uid, ok = p.number()
			haveUID = true
		case equalFold(name, "RFC822.SIZE"):
			size, ok = p.number()
			haveSize = true
		default:
			p.value()
		}
		if !ok {
			return violation("a FETCH response without a number where one must be")
		}
		p.lit(" ")
	}
	switch {
	case !haveUID || !haveSize:
		return nil
	case number > math.MaxUint32:
		return violation("a message number of over 32 bits")
	case uid == 0 || uid > math.MaxUint32:
		return violation("a UID that is no UID")
	case size > math.MaxInt64:
		return violation("a size of over 2^63 octets")
	}
	list(uint32(number), uint32(uid), int64(size))
	return nil
}

// cursor reads a line from left to right.
type cursor struct{ b []byte }

func (p *cursor) lit(s string) bool {
	if len(p.b) < len(s) || string(p.b[:len(s)]) != s {
		return false
	}
	p.b = p.b[len(s):]
	return true
}

func (p *cursor) number() (uint64, bool) {
	var n uint64
	i := 0
	for i < len(p.b) && p.b[i] >= '0' && p.b[i] <= '9' {
		if n > (math.MaxUint64-9)/10 {
			return 0, false
		}
		n = n*10 + uint64(p.b[i]-'0')
		i++
	}
	p.b = p.b[i:]
	return n, i > 0
}

func (p *cursor) word() []byte {
	i := 0
	for i < len(p.b) && p.b[i] != ' ' && p.b[i] != '(' && p.b[i] != ')' {
		i++
	}
	w := p.b[:i]
	p.b = p.b[i:]
	return w
}

// value skips an atom, a quoted string or a parenthesised list.
func (p *cursor) value() {
	depth, quoted := 0, false
	i := 0
loop:
	for ; i < len(p.b); i++ {
		switch c := p.b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			if depth == 0 {
				break loop
			}
			depth--
		case c == ' ' && depth == 0:
			break loop
		}
	}
	p.b = p.b[min(i, len(p.b)):]
}
