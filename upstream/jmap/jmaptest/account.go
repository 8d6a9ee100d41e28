package jmaptest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Mailbox of the account.
type Mailbox struct{ ID, Name, Parent, Role string }

// An Email of the account.
type Email struct {
	ID, Blob  string
	Body      []byte
	Received  time.Time
	Mailboxes map[string]bool
	Keywords  map[string]bool
}

// Inbox is the id of the mailbox with the role inbox, Trash and Archive those of
// the other two.
const (
	Inbox   = "inbox-1"
	Trash   = "trash-1"
	Archive = "archive-1"
)

// epoch is when the first message is received; each later one a second later.
var epoch = time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)

// Deliver puts a message into the inbox and returns its id.
func (s *Server) Deliver(body []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deliver(body, epoch.Add(time.Duration(s.delivered)*time.Second), Inbox)
}

// DeliverAt puts a message that was received then into these mailboxes.
func (s *Server) DeliverAt(body []byte, received time.Time, mailboxes ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deliver(body, received, mailboxes...)
}

func (s *Server) deliver(body []byte, received time.Time, mailboxes ...string) string {
	s.delivered++
	sum := sha256.Sum256([]byte(fmt.Sprint(s.delivered)))
	digits := hex.EncodeToString(sum[:])
	e := &Email{ID: "M" + digits[:24], Blob: "G" + digits[:40], Body: bytes.Clone(body), Received: received,
		Mailboxes: map[string]bool{}, Keywords: map[string]bool{}}
	if s.o.ID != nil {
		e.ID = s.o.ID(s.delivered)
	}
	for _, m := range mailboxes {
		e.Mailboxes[m] = true
	}
	s.changed(e.ID)
	s.emails[e.ID] = e
	return e.ID
}

// Destroy removes a message, as another client.
func (s *Server) Destroy(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed(id)
	delete(s.emails, id)
}

// Put sets whether a message is in a mailbox, as another client.
func (s *Server) Put(id, mailbox string, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed(id)
	set(s.emails[id].Mailboxes, mailbox, in)
}

// Mark sets whether a message has a keyword, as another client.
func (s *Server) Mark(id, keyword string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed(id)
	set(s.emails[id].Keywords, keyword, on)
}

// Forget makes the server forget what changed so far.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history, s.forgotten = nil, s.state
}

// A change of the account, by the state that it began.
type change struct {
	state int
	id    string
	new   bool // the message was not there before
}

// changed notes that a message is about to change.
func (s *Server) changed(id string) {
	s.state++
	s.history = append(s.history, change{s.state, id, s.emails[id] == nil})
}

// Touch changes the state of the account and nothing else.
func (s *Server) Touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state++
}

// SetMailboxes replaces the mailboxes of the account.
func (s *Server) SetMailboxes(list ...Mailbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mailboxes = nil
	for _, m := range list {
		s.mailboxes = append(s.mailboxes, &m)
	}
}

func set(m map[string]bool, key string, on bool) {
	if on {
		m[key] = true
	} else {
		delete(m, key)
	}
}

// Emails lists the messages of a mailbox, oldest first; of the account where
// mailbox is "".
func (s *Server) Emails(mailbox string) []Email {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Email
	for _, e := range s.list(func(e *Email) bool { return mailbox == "" || e.Mailboxes[mailbox] }) {
		c := *e
		c.Mailboxes, c.Keywords = maps.Clone(e.Mailboxes), maps.Clone(e.Keywords)
		out = append(out, c)
	}
	return out
}

// list is the order of Email/query.
func (s *Server) list(has func(*Email) bool) []*Email {
	var out []*Email
	for _, e := range s.emails {
		if has(e) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *Email) int {
		// Within a second the order is not that of the ids.
		return cmp.Or(a.Received.Compare(b.Received), cmp.Compare(b.ID, a.ID))
	})
	return out
}

// An Entry of the journal.
type Entry struct {
	// What is "request" or one of the changes: "destroy", "update".
	What string
	// Detail is, of a request, what it is for and the methods that it calls; of a
	// change, the id of the Email and what became of it.
	Detail string
}

// Journal returns what happened so far.
func (s *Server) Journal() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.journal)
}

// Requests lists the details of the requests.
func (s *Server) Requests() []string {
	var out []string
	for _, e := range s.Journal() {
		if e.What == "request" {
			out = append(out, e.Detail)
		}
	}
	return out
}

func (s *Server) note(what, detail string) { s.journal = append(s.journal, Entry{what, detail}) }
