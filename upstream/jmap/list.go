package jmap

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/popgate/popgate/upstream"
)

const (
	listTries = 3    // of a list in which a page lost its place
	pageSize  = 4096 // messages in a page, where the server allows as many

	maxID   = 255           // octets of an id (RFC 8620 section 1.2)
	maxText = math.MaxInt32 // octets of all ids of a mailbox

	// What an answer may take: for the frame, and for each object.
	frameOctets  = 256 << 10
	objectOctets = 2 << 10
)

func answerLimit(objects int) int64 { return frameOctets + objectOctets*int64(objects) }

// list makes the snapshot.
func (m *maildrop) list(ctx context.Context) error {
	t := m.client.store.o.ListTime
	ctx, cancel := context.WithTimeoutCause(ctx, t, fmt.Errorf("not listed within %v", t))
	defer cancel()
	if err := m.findMailbox(ctx); err != nil {
		return err
	}
	for try := 1; ; try++ {
		var l listing
		err := m.pages(ctx, &l)
		if err == nil {
			l.freeze(m)
			return nil
		}
		if !is(err, "anchorNotFound") || try == listTries {
			return err
		}
	}
}

// query is the answer to Email/query (RFC 8621 section 4.4), as far as it is
// looked at.
type query struct {
	IDs      []string `json:"ids"`
	Position int64    `json:"position"`
	Total    *int64   `json:"total"`
}

// email is what is asked of an Email, now this and now that (RFC 8621 section 4.1).
type email struct {
	ID        string          `json:"id"`
	Blob      string          `json:"blobId"`
	Size      int64           `json:"size"`
	Received  time.Time       `json:"receivedAt"`
	Mailboxes map[string]bool `json:"mailboxIds"`
	Keywords  map[string]bool `json:"keywords"`
}

// emails is the answer to Email/get.
type emails struct {
	State    string   `json:"state"`
	List     []email  `json:"list"`
	NotFound []string `json:"notFound"`
}

// pages lists page after page. Each begins behind the last message of the one
// before, which is its anchor (RFC 8620 section 5.5): messages that come and go
// meanwhile then move no other out of sight. Only if the anchor itself goes away
// is the place lost.
func (m *maildrop) pages(ctx context.Context, l *listing) error {
	limit := m.client.store.o.MaxMessages
	page := m.client.limits.perCall(pageSize, m.client.limits.Get, maxID+8)
	for anchor := ""; ; {
		q, got, err := m.page(ctx, anchor, page)
		if err != nil {
			return err
		}
		if *q.Total > int64(limit) {
			return failf(upstream.TooBig, opList, "the mailbox has %d messages, over the limit of %d", *q.Total, limit)
		}
		for _, e := range got {
			l.add(e)
		}
		if len(l.text) > maxText {
			return failf(upstream.TooBig, opList, "the ids of the first %d messages take more than %d octets", len(l.order), maxText)
		}
		if q.Position+int64(len(q.IDs)) >= *q.Total {
			return nil
		}
		if len(q.IDs) == 0 || len(l.order) > 2*limit+pageSize {
			// Clients forget what a list lacks: no list is better.
			return failf(upstream.Unavailable, opList, "the server lists other messages than it announces: place %d, total %d", q.Position, *q.Total)
		}
		anchor = q.IDs[len(q.IDs)-1]
	}
}

// page asks for one page and sees that it is whole.
func (m *maildrop) page(ctx context.Context, anchor string, size int) (query, []email, error) {
	var q query
	var got emails
	args := map[string]any{
		"filter":         map[string]any{"inMailbox": m.mailbox, "notKeyword": HiddenKeyword},
		"sort":           []any{map[string]any{"property": "receivedAt", "isAscending": true}},
		"limit":          size,
		"calculateTotal": true,
	}
	if anchor != "" {
		args["anchor"], args["anchorOffset"] = anchor, 1
	}
	err := m.client.do(ctx, opList, answerLimit(size),
		call{"Email/query", args, &q},
		call{"Email/get", map[string]any{
			"#ids":       map[string]any{"resultOf": "0", "name": "Email/query", "path": "/ids"},
			"properties": []string{"id", "size", "receivedAt"},
		}, &got})
	if err != nil {
		return q, nil, err
	}
	if q.Total == nil || q.Position < 0 || len(q.IDs) > size {
		return q, nil, failf(upstream.Unavailable, opList, "the answer to Email/query is not what JMAP says")
	}
	return q, got.List, got.complete(q.IDs)
}

// complete checks that the answer tells of exactly these ids.
func (e *emails) complete(asked []string) error {
	open := make(map[string]bool, len(asked))
	for _, id := range asked {
		if !validID(id) {
			return failf(upstream.Unavailable, opList, "%q is no id", shown(id))
		}
		open[id] = true
	}
	for _, m := range e.List {
		if !open[m.ID] {
			return failf(upstream.Unavailable, opList, "the server tells of %q, which nobody asked for, or twice", shown(m.ID))
		}
		if m.Size < 0 {
			return failf(upstream.Unavailable, opList, "%q has %d octets", m.ID, m.Size)
		}
		delete(open, m.ID)
	}
	for _, id := range e.NotFound {
		delete(open, id)
	}
	if len(open) > 0 {
		return failf(upstream.Unavailable, opList, "the server does not tell of %d of the messages that it was asked for", len(open))
	}
	return nil
}

// validID is wider than RFC 8620 section 1.2, as servers are.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e {
			return false
		}
	}
	return true
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

func (l *listing) id(e entry) []byte { return l.text[e.at : e.at+uint32(e.length)] }

// freeze puts the messages in order and makes them the snapshot. The time of
// receipt is of whole seconds on some servers, which tell messages of one second
// in any order: the id decides.
func (l *listing) freeze(m *maildrop) {
	slices.SortFunc(l.order, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.received, b.received), bytes.Compare(l.id(a), l.id(b)))
	})
	l.order = slices.CompactFunc(l.order, func(a, b entry) bool { return bytes.Equal(l.id(a), l.id(b)) })
	m.ids, m.octets = packIDs(len(l.order), func(i int) []byte { return l.id(l.order[i]) }), make([]int64, len(l.order))
	for i, e := range l.order {
		m.octets[i] = e.octets
	}
}
