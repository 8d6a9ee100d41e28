package imap

import (
	"bytes"
	"math"
	"slices"
	"time"

	"github.com/popgate/popgate/upstream/readahead"
)

// maxAheadFailures is how often in a session fetching ahead may bring less than
// it should. Then each message is asked for on its own: a message that the
// server cannot read must not cost a window again and again.
const maxAheadFailures = 3

// held is a body, or the first piece of one, that was fetched ahead.
type held struct {
	bytes.Reader
	size int64
}

func (h *held) octets() int64 { return h.size }
func (h *held) Close() error  { return nil }
func (h *held) abandon()      {}

// takeHeld makes the body of what was fetched ahead, if it was.
func (b *body) takeHeld() bool {
	m := b.drop
	text, dropped, ok := m.window.Take(b.i, b.extent)
	if !ok {
		return false
	}
	h := &held{size: int64(len(text))}
	h.Reset(text)
	b.now = h
	if b.extent == readahead.Top {
		b.piece, b.asked = firstPiece, firstPiece
	}
	m.store.o.Trace.readAhead(1, dropped)
	return true
}

// plan decides which messages are asked for beside this one, and makes this one
// to be asked for in the same way; nil: none.
func (b *body) plan() *ahead {
	m := b.drop
	piece := int64(0)
	if b.extent == readahead.Top {
		piece = firstPiece
	}
	ranges, before := 0, b.i
	planned, dropped := m.window.Plan(b.i, b.extent, func(i int) int64 {
		if m.uids[max(i, before)]-m.uids[min(i, before)] != 1 {
			ranges++
		}
		before = i
		if ranges >= chunkRanges || m.aheadFailed >= maxAheadFailures {
			return math.MaxInt64 // more than any window has room for
		}
		return m.firstOctets(i, piece)
	})
	m.store.o.Trace.readAhead(0, dropped)
	if len(planned) == 0 {
		return nil
	}
	b.piece = piece
	return &ahead{
		uids: m.uidsAt(planned),
		room: func(uid uint32, octets int64) []byte { return m.room(uid, octets, piece) },
		end: func(whole bool, took time.Duration) {
			if whole {
				m.window.Arrived(took)
				return
			}
			m.aheadFailed++
			m.dropAhead()
		},
	}
}

// firstOctets is how many octets the server gives of message i if it is asked
// for the first piece octets; 0: for all.
func (m *maildrop) firstOctets(i int, piece int64) int64 {
	if piece != 0 {
		return min(piece, m.octets[i])
	}
	return m.octets[i]
}

// room is where a body goes that comes ahead. One that is not of its listed size
// is left to be asked for on its own: the server may have made it up.
func (m *maildrop) room(uid uint32, octets, piece int64) []byte {
	i, _ := slices.BinarySearch(m.uids, uid)
	if octets != m.firstOctets(i, piece) && (!m.inexact || piece != 0 && octets > piece) {
		m.aheadFailed++
		return nil
	}
	return m.window.Room(i, octets)
}

// dropAhead lets go of what was fetched ahead.
func (m *maildrop) dropAhead() { m.store.o.Trace.readAhead(0, m.window.Drop()) }
