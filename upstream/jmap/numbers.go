package jmap

import "fmt"

// numbers keeps integers small: each takes as many octets as the largest less the
// smallest of them.
type numbers struct {
	n      int
	base   int64 // the smallest
	width  int   // octets of one in packed, 0 to 8
	packed []byte
}

// packNumbers packs n integers, of which no two are further apart than an int64
// holds.
func packNumbers(n int, at func(i int) int64) numbers {
	if n == 0 {
		return numbers{}
	}
	low, high := at(0), at(0)
	for i := range n {
		low, high = min(low, at(i)), max(high, at(i))
	}
	l := numbers{n: n, base: low}
	for most := uint64(high - low); most > 0; most >>= 8 {
		l.width++
	}
	l.packed = make([]byte, n*l.width)
	for i := range n {
		v := uint64(at(i) - low)
		for k := range l.width {
			l.packed[i*l.width+k] = byte(v)
			v >>= 8
		}
	}
	return l
}

// at returns number i; it panics out of range.
func (l *numbers) at(i int) int64 {
	if i < 0 || i >= l.n {
		panic(fmt.Sprintf("jmap: index %d of %d", i, l.n))
	}
	v := uint64(0)
	for k := l.width - 1; k >= 0; k-- {
		v = v<<8 | uint64(l.packed[i*l.width+k])
	}
	return l.base + int64(v)
}
