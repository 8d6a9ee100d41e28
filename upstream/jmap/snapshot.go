package jmap

import (
	"bytes"
	"cmp"
	"slices"
)

// snapshot is a mailbox as it was listed once. It is never written: sessions and
// the cache share it. Messages ascend by the time of receipt, then by id: the
// time is of whole seconds on some servers, which tell messages of one second in
// any order.
type snapshot struct {
	mailbox  string // its id, where there is a state
	state    string // of the query that listed it; "" where it cannot be continued
	ids      ids
	octets   numbers
	received numbers // milliseconds since 1970
}

func (s *snapshot) len() int { return s.octets.n }

// snapshotOverhead is what a snapshot takes beside its messages in the cache, in
// octets: itself, its key, its place in the map and in the order of use.
const snapshotOverhead = 640

// memory is what the snapshot takes, in octets.
func (s *snapshot) memory() int64 {
	return int64(snapshotOverhead + len(s.mailbox) + len(s.state) + cap(s.ids.shape) + cap(s.ids.packed) + cap(s.ids.plain) + 4*cap(s.ids.ends) +
		cap(s.octets.packed) + cap(s.received.packed))
}

// listing collects the messages of a mailbox: their ids in one piece of memory,
// and where each stands in it.
type listing struct {
	text  []byte
	order []entry
}

type entry struct {
	received int64 // milliseconds since 1970
	octets   int64
	at       uint32 // where the id begins
	length   uint8
}

func (l *listing) add(e email) {
	l.order = append(l.order, entry{received: e.Received.UnixMilli(), octets: e.Size, at: uint32(len(l.text)), length: uint8(len(e.ID))})
	l.text = append(l.text, e.ID...)
}

// addAll adds the messages of s but those that are out.
func (l *listing) addAll(s *snapshot, out map[string]bool) {
	for i := range s.len() {
		at := len(l.text)
		l.text = s.ids.append(l.text, i)
		if out[string(l.text[at:])] {
			l.text = l.text[:at]
			continue
		}
		l.order = append(l.order, entry{received: s.received.at(i), octets: s.octets.at(i), at: uint32(at), length: uint8(len(l.text) - at)})
	}
}

func (l *listing) id(e entry) []byte { return l.text[e.at : e.at+uint32(e.length)] }

// freeze puts the messages in order, each once.
func (l *listing) freeze() *snapshot {
	slices.SortFunc(l.order, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.received, b.received), bytes.Compare(l.id(a), l.id(b)))
	})
	l.order = slices.CompactFunc(l.order, func(a, b entry) bool { return bytes.Equal(l.id(a), l.id(b)) })
	n := len(l.order)
	return &snapshot{
		ids:      packIDs(n, func(i int) []byte { return l.id(l.order[i]) }),
		octets:   packNumbers(n, func(i int) int64 { return l.order[i].octets }),
		received: packNumbers(n, func(i int) int64 { return l.order[i].received }),
	}
}
