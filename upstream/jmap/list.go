package jmap

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/popgate/popgate/upstream"
)

const (
	listTries = 3    // of a list in which a page lost its place
	pageSize  = 4096 // messages in a page, where the server allows as many

	maxID    = 255           // octets of an id (RFC 8620 section 1.2)
	maxText  = math.MaxInt32 // octets of all ids of a mailbox
	maxState = 255           // octets of a state that is kept

	// What an answer may take: for the frame, and for each object.
	frameOctets  = 256 << 10
	objectOctets = 2 << 10
)

func answerLimit(objects int) int64 { return frameOctets + objectOctets*int64(objects) }

// list makes the snapshot: of the one that an earlier session left and what has
// changed since, or else from the start.
func (m *maildrop) list(ctx context.Context) error {
	t := m.client.store.o.ListTime
	ctx, cancel := context.WithTimeoutCause(ctx, t, fmt.Errorf("not listed within %v", t))
	defer cancel()
	cache, key := m.client.store.o.Cache, m.cacheKey()
	if known := cache.get(key); known != nil {
		if s, how := m.since(ctx, known); s != nil {
			m.snapshot = s
			if s != known {
				cache.put(key, s)
			}
			m.client.store.o.Trace.listed(how)
			return nil
		}
	}
	if err := m.findMailbox(ctx); err != nil {
		return err
	}
	for try := 1; ; try++ {
		s, err := m.pages(ctx)
		if err == nil {
			m.snapshot = s
			if s.state == "" {
				s = nil
			}
			cache.put(key, s)
			m.client.store.o.Trace.listed(listedFull)
			return nil
		}
		if !is(err, "anchorNotFound") || try == listTries {
			return err
		}
	}
}

// cacheKey names the mailbox as this very user names it.
func (m *maildrop) cacheKey() cacheKey {
	c := m.client
	return newCacheKey(c.store.origin, c.creds.User, c.accountID, c.mailboxName())
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
//
// The snapshot has a state if all of it was listed in that one: the account was in
// it before the first query and behind the last page.
func (m *maildrop) pages(ctx context.Context) (*snapshot, error) {
	l, state, still := &listing{}, "", true
	limit := m.client.store.o.MaxMessages
	for anchor := ""; ; {
		p, err := m.page(ctx, anchor)
		if err != nil {
			return nil, err
		}
		if *p.Total > int64(limit) {
			return nil, failf(upstream.TooBig, opList, "the mailbox has %d messages, over the limit of %d", *p.Total, limit)
		}
		if anchor == "" {
			state = p.before
		}
		still = still && p.got.State == state
		for _, e := range p.got.List {
			l.add(e)
		}
		if len(l.text) > maxText {
			return nil, failf(upstream.TooBig, opList, "the ids of the first %d messages take more than %d octets", len(l.order), maxText)
		}
		if p.Position+int64(len(p.IDs)) >= *p.Total {
			s := l.freeze()
			if still && int64(s.len()) == *p.Total && len(state) <= maxState {
				s.mailbox, s.state = m.mailbox, state
			}
			return s, nil
		}
		if len(p.IDs) == 0 || len(l.order) > 2*limit+pageSize {
			// Clients forget what a list lacks: no list is better.
			return nil, failf(upstream.Unavailable, opList, "the server lists other messages than it announces: place %d, total %d", p.Position, *p.Total)
		}
		anchor = p.IDs[len(p.IDs)-1]
	}
}

// page is one page of the list.
type page struct {
	query
	got    emails
	before string // the state before the query, of the first page
}

// page asks for one page and sees that it is whole.
func (m *maildrop) page(ctx context.Context, anchor string) (p page, err error) {
	size := m.mostInGet()
	var calls []call
	var before emails
	if anchor == "" && m.client.limits.allow(3) {
		calls = append(calls, getCall([]string{}, &before, "id"))
	}
	list := map[string]any{"limit": size}
	if anchor != "" {
		list["anchor"], list["anchorOffset"] = anchor, 1
	}
	calls = append(calls, m.queryCall(list, &p.query))
	calls = append(calls, getOf(len(calls)-1, "Email/query", "/ids", &p.got, listed...))
	if err = m.client.do(ctx, opList, answerLimit(size), calls...); err != nil {
		return p, err
	}
	p.before = before.State
	if p.Total == nil || p.Position < 0 || len(p.IDs) > size {
		return p, failf(upstream.Unavailable, opList, "the answer to Email/query is not what JMAP says")
	}
	return p, p.got.complete(p.IDs)
}

// mostInGet is how many messages one Email/get is asked for.
func (m *maildrop) mostInGet() int {
	return m.client.limits.perCall(pageSize, m.client.limits.Get, maxID+8)
}

// listed is what a list needs of an Email.
var listed = []string{"id", "size", "receivedAt"}

// queryCall asks for the messages that are shown, the oldest first, as args says.
func (m *maildrop) queryCall(args map[string]any, out *query) call {
	args["filter"] = map[string]any{"inMailbox": m.mailbox, "notKeyword": HiddenKeyword}
	args["sort"] = []any{map[string]any{"property": "receivedAt", "isAscending": true}}
	args["calculateTotal"] = true
	return call{"Email/query", args, out}
}

// getOf asks for the Emails that the response to call number of the request names
// at path (RFC 8620 section 3.7).
func getOf(number int, name, path string, out *emails, properties ...string) call {
	return call{"Email/get", map[string]any{
		"#ids":       map[string]any{"resultOf": fmt.Sprint(number), "name": name, "path": path},
		"properties": properties,
	}, out}
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
