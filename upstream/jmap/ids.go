package jmap

// ids keeps the ids of a maildrop small. The ids of one server are mostly alike:
// as long as each other, with letters in common places and hexadecimal digits
// in the rest. Then a letter that all have costs nothing, a digit half an octet,
// and the 25 letters of Cyrus or Fastmail 12 octets. Other ids are kept as they
// are, with 4 octets more.
type ids struct {
	// Alike.
	shape  []byte // per letter: what all have, or hexDigit, or anyLetter
	width  int    // octets of one id in packed
	packed []byte

	// Not alike.
	plain []byte
	ends  []uint32
}

// What a place of ids.shape holds beside letters, which are 0x21 or more.
const (
	anyLetter = 0
	hexDigit  = 1
)

const digits = "0123456789abcdef"

// packIDs packs n ids of 0x21 to 0x7E, which take maxText octets at most.
func packIDs(n int, at func(i int) []byte) ids {
	if n == 0 {
		return ids{}
	}
	shape, alike := shapeOf(n, at)
	if !alike {
		total := 0
		for i := range n {
			total += len(at(i))
		}
		l := ids{plain: make([]byte, 0, total), ends: make([]uint32, 0, n)}
		for i := range n {
			l.plain = append(l.plain, at(i)...)
			l.ends = append(l.ends, uint32(len(l.plain)))
		}
		return l
	}
	halves := 0
	for _, s := range shape {
		halves += halvesOf(s)
	}
	l := ids{shape: shape, width: (halves + 1) / 2}
	l.packed = make([]byte, n*l.width)
	for i := range n {
		l.pack(l.packed[i*l.width:], at(i))
	}
	return l
}

// shapeOf returns what n ids have in common, if they have one length.
func shapeOf(n int, at func(i int) []byte) (shape []byte, alike bool) {
	first := at(0)
	shape = append(shape, first...)
	for i := range n {
		id := at(i)
		if len(id) != len(first) {
			return nil, false
		}
		for p, c := range id {
			switch s := shape[p]; {
			case s == c, s == anyLetter, s == hexDigit && isDigit(c):
			case isDigit(c) && isDigit(first[p]) && s != anyLetter:
				shape[p] = hexDigit
			default:
				shape[p] = anyLetter
			}
		}
	}
	return shape, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func halvesOf(s byte) int {
	switch s {
	case anyLetter:
		return 2
	case hexDigit:
		return 1
	}
	return 0
}

func (l *ids) pack(to, id []byte) {
	at := 0
	put := func(half byte) {
		to[at/2] |= half << (4 * (1 - at%2))
		at++
	}
	for p, s := range l.shape {
		c := id[p]
		switch s {
		case anyLetter:
			put(c >> 4)
			put(c & 15)
		case hexDigit:
			if c >= 'a' {
				c -= 'a' - 10
			}
			put(c & 15)
		}
	}
}

// append appends id i.
func (l *ids) append(dst []byte, i int) []byte {
	if l.shape == nil {
		start := uint32(0)
		if i > 0 {
			start = l.ends[i-1]
		}
		return append(dst, l.plain[start:l.ends[i]]...)
	}
	from, at := l.packed[i*l.width:(i+1)*l.width], 0
	get := func() byte {
		half := from[at/2] >> (4 * (1 - at%2)) & 15
		at++
		return half
	}
	for _, s := range l.shape {
		switch s {
		case anyLetter:
			s = get()<<4 | get()
		case hexDigit:
			s = digits[get()]
		}
		dst = append(dst, s)
	}
	return dst
}
