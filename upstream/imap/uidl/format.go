package uidl

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/popgate/popgate/upstream"
)

// Default is the form of the zero Format.
const Default = "%v.%u"

// A Format is the form of unique-ids. The zero value is [Default]. It is safe for
// concurrent use.
type Format struct {
	text          string // as it was given
	lead          string // before the first number
	first, second number
	between, tail string
}

// A number is one of the two in a form.
type number struct {
	validity bool // UIDVALIDITY, and not the UID
	hex      bool // in small letters
	width    int  // least digits, with zeros before
}

// verb matches one number: %v or %u, with an X before the letter for hexadecimal,
// and before that 0 and the least number of digits.
var verb = regexp.MustCompile(`%(?:0([1-9][0-9]?))?(X?)([uv])`)

// Parse reads a form: text in which %v stands for the UIDVALIDITY and %u for the
// UID, each once. %Xu is hexadecimal in small letters, and %08Xu has at least 8 digits:
// what Dovecot means by them. An error says what is wrong with it, and
// what to do.
func Parse(text string) (Format, error) {
	if text == Default {
		return Format{}, nil
	}
	found := verb.FindAllStringSubmatchIndex(text, -1)
	var f Format
	switch {
	case !strings.Contains(text, "%"):
		return f, errors.New("there is no number in it; %v is the UIDVALIDITY and %u the UID")
	case strings.Count(text, "%") != len(found):
		return f, errors.New("%v, %u, %Xv, %Xu and these with a width such as %08Xu are what may stand behind a %; write one of them")
	case len(found) != 2 || text[found[0][6]] == text[found[1][6]]:
		return f, errors.New("it needs %v and %u, each once: without the UIDVALIDITY an id would mean another message once the mailbox is made anew")
	}
	a, b := found[0], found[1]
	f = Format{text: text, lead: text[:a[0]], between: text[a[1]:b[0]], tail: text[b[1]:]}
	f.first, f.second = parseNumber(text, a), parseNumber(text, b)
	if f.runsTogether() {
		return Format{}, fmt.Errorf("the end of the first number cannot be told from the second; put a character such as . between them, or give the first a width of %d digits", f.first.most())
	}
	if n := len(f.lead) + len(f.between) + len(f.tail) + max(f.first.width, f.first.most()) + max(f.second.width, f.second.most()); n > upstream.MaxUIDL {
		return Format{}, fmt.Errorf("its ids have up to %d characters, and POP3 allows %d; shorten it", n, upstream.MaxUIDL)
	}
	if !upstream.ValidUIDL(f.Append(nil, 1, 1)) {
		return Format{}, errors.New("POP3 allows no spaces, no control characters and nothing beyond ASCII in it; leave them out")
	}
	return f, nil
}

func parseNumber(text string, at []int) number {
	n := number{validity: text[at[6]] == 'v', hex: at[4] < at[5]}
	if at[2] >= 0 {
		n.width, _ = strconv.Atoi(text[at[2]:at[3]]) // two digits
	}
	return n
}

// most is the number of digits that 32 bits need.
func (n number) most() int {
	if n.hex {
		return 8
	}
	return 10
}

func (n number) fixed() bool { return n.width >= n.most() }

// runsTogether reports whether two pairs of numbers could have one text: neither
// number has always as many digits, and what stands between them may be taken for
// a digit of the first.
func (f Format) runsTogether() bool {
	if f.first.fixed() || f.second.fixed() {
		return false
	}
	digits := "0123456789"
	if f.first.hex {
		digits = "0123456789abcdef"
	}
	return f.between == "" || strings.Contains(digits, f.between[:1])
}

// String is the form as Parse reads it.
func (f Format) String() string {
	if f.text == "" {
		return Default
	}
	return f.text
}

// MarshalText returns String.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// Append appends the unique-id of the message that has this UID in a mailbox of
// this UIDVALIDITY: 1 to [upstream.MaxUIDL] octets.
func (f Format) Append(dst []byte, uidValidity, uid uint32) []byte {
	if f.text == "" {
		dst = strconv.AppendUint(dst, uint64(uidValidity), 10)
		return strconv.AppendUint(append(dst, '.'), uint64(uid), 10)
	}
	dst = f.first.append(append(dst, f.lead...), uidValidity, uid)
	dst = f.second.append(append(dst, f.between...), uidValidity, uid)
	return append(dst, f.tail...)
}

func (n number) append(dst []byte, uidValidity, uid uint32) []byte {
	value, base := uint64(uid), 10
	if n.validity {
		value = uint64(uidValidity)
	}
	if n.hex {
		base = 16
	}
	var digits [10]byte
	text := strconv.AppendUint(digits[:0], value, base)
	for i := len(text); i < n.width; i++ {
		dst = append(dst, '0')
	}
	return append(dst, text...)
}
