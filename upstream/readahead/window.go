package readahead

import (
	"slices"
	"time"
)

// A window begins small and grows fast, as long as it is filled in no time.
const (
	firstOctets = 64 << 10
	grows       = 4
	fast        = 250 * time.Millisecond // filled in less, a window may grow
	slow        = time.Second            // filled in more, it shrinks
	maxMessages = 1000
	overhead    = 64 // octets that a message costs beside its text
)

// Extent is what of a message is asked for. A window holds one Extent at a time.
type Extent uint8

// The extents.
const (
	Whole Extent = iota
	Top          // the first octets, as many as the store likes to fetch
)

// A Window holds what one session was fetched ahead. Messages are indexes into
// the snapshot. It is not safe for concurrent use.
type Window struct {
	pool *Pool
	len  int // messages of the maildrop

	// The sequence that is under way.
	begun  bool
	last   int // what was asked for last
	step   int // 1 or -1; 0: no two in a row yet
	extent Extent
	octets int64 // what the next window may hold

	held     []message // in the order of the sequence
	arriving []message // planned; those with a text have come
}

type message struct {
	i        int
	reserved int64
	text     []byte // nil: has not come
}

// NewWindow returns an empty window for a maildrop of len messages.
func NewWindow(p *Pool, len int) *Window {
	return &Window{pool: p, len: len, octets: firstOctets}
}

// Take returns the text of message i, which is asked for now, if the window holds
// it; the text is the caller's then. dropped is the number of messages before
// it that were passed over.
func (w *Window) Take(i int, e Extent) (text []byte, dropped int, ok bool) {
	if e != w.extent {
		return nil, 0, false
	}
	at := slices.IndexFunc(w.held, func(m message) bool { return m.i == i })
	if at < 0 {
		return nil, 0, false
	}
	text = w.held[at].text
	for _, m := range w.held[:at+1] {
		w.pool.give(m.reserved)
	}
	clear(w.held[:at+1])
	w.held = w.held[at+1:]
	w.last = i
	return text, at, true
}

// Plan is told that message i is asked for and not held. It returns what to fetch
// beside it, ascending, i not among it, and reserves the room: cost is the most
// octets that a message may take. What the window still held is dropped.
func (w *Window) Plan(i int, e Extent, cost func(i int) int64) (ahead []int, dropped int) {
	dropped = w.Drop()
	step := i - w.last
	switch next := w.begun && e == w.extent; {
	case next && w.step != 0 && step == w.step: // the sequence goes on
	case next && (step == 1 || step == -1): // it is seen to be one
		w.step, w.octets = step, firstOctets
	default:
		w.step = 0
	}
	w.begun, w.last, w.extent = true, i, e
	if w.step == 0 || w.pool == nil {
		return nil, dropped
	}
	room := min(w.octets, w.pool.window)
	w.octets = min(w.octets*grows, max(w.pool.window, firstOctets))
	for j := i + w.step; j >= 0 && j < w.len && len(ahead) < maxMessages; j += w.step {
		n := cost(j)
		if n > room-overhead || !w.pool.take(n+overhead) {
			break
		}
		n += overhead
		room -= n
		w.arriving = append(w.arriving, message{i: j, reserved: n})
		ahead = append(ahead, j)
	}
	slices.Sort(ahead)
	return ahead, dropped
}

// Room returns where the text of message i goes, octets long; nil if the message
// was not planned, has come already, or is larger than there is room for.
func (w *Window) Room(i int, octets int64) []byte {
	if len(w.arriving) == 0 {
		return nil
	}
	at := (i - w.arriving[0].i) * w.step // what is planned has no gaps
	if at < 0 || at >= len(w.arriving) || w.arriving[at].text != nil {
		return nil
	}
	m := &w.arriving[at]
	if octets > w.pool.window {
		return nil
	}
	if more := octets + overhead - m.reserved; more > 0 {
		if !w.pool.take(more) {
			return nil
		}
		m.reserved += more
	}
	m.text = make([]byte, octets)
	return m.text
}

// Arrived says that every text that Room gave a place is there, and whole. took
// is how long the mail service took to bring them.
func (w *Window) Arrived(took time.Duration) {
	for _, m := range w.arriving {
		if m.text == nil {
			w.pool.give(m.reserved)
			continue
		}
		w.held = append(w.held, m)
	}
	w.arriving = nil
	switch {
	case took > slow:
		w.octets = max(firstOctets/grows, w.octets/(grows*grows))
	case took > fast:
		w.octets = max(firstOctets/grows, w.octets/grows) // as it was
	}
}

// Drop lets go of everything that is held or planned, and returns the number of
// texts that it let go. The sequence goes on.
func (w *Window) Drop() (dropped int) {
	for _, m := range slices.Concat(w.held, w.arriving) {
		w.pool.give(m.reserved)
		if m.text != nil {
			dropped++
		}
	}
	w.held, w.arriving = nil, nil
	return dropped
}
