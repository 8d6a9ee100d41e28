package imaptest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// EntryKind tells what a journal entry is about.
type EntryKind uint8

// The kinds of entries.
const (
	Connected EntryKind = iota // a connection began
	Received                   // a whole command arrived: Command, Secret
	Broken                     // a connection ended inside a command: Line
	Replied                    // a tagged reply was made: Command.Tag, Status; Lost if it could not be sent
	Mutated                    // a mailbox changed: Mutation
	Ended                      // a connection ended
)

// An Entry is one line of the journal.
type Entry struct {
	N    int       // its place in the one order, from 1
	At   time.Time // the clock of the test; of the bubble under testing/synctest
	Conn int       // the connection, from 1; 0 is another client
	Kind EntryKind

	Command  Command // Received, Replied
	Secret   string  // Received: the password or token, never printed
	Line     string  // Broken: what arrived, redacted; Ended: why
	Status   string  // Replied: "OK", "NO", "BAD"
	Lost     bool    // Replied: the connection broke under it
	Mutation Mutation
}

// Change is what happened to a message or a mailbox.
type Change uint8

// The changes.
const (
	Appended  Change = iota // a new message: Body, Flags, and From if it was copied or moved
	Flagged                 // Flags is what it carries now, Added and Removed the difference
	Expunged                // it is gone for ever
	Recreated               // the mailbox is new and empty under UIDValidity
)

// A Mutation is one change of a mailbox.
type Mutation struct {
	Change      Change
	User        string
	Mailbox     string
	UIDValidity uint32
	UID         uint32 // 0 for Recreated

	Flags, Added, Removed []string
	Body                  Body   // Appended
	Size                  int64  // Appended: the RFC822.SIZE that is claimed
	From                  *Place // Appended by COPY or MOVE
}

// A Place names one message for ever.
type Place struct {
	User, Mailbox    string
	UIDValidity, UID uint32
}

// Place is where the mutated message is.
func (m Mutation) Place() Place { return Place{m.User, m.Mailbox, m.UIDValidity, m.UID} }

// A Journal holds what a server was told and what it did, in one order. It is
// safe for concurrent use.
type Journal struct {
	mu      sync.Mutex
	entries []Entry
	grown   chan struct{} // closed at the next entry; nil if nobody waits
}

func (j *Journal) add(e Entry) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.N, e.At = len(j.entries)+1, time.Now()
	j.entries = append(j.entries, e)
	if j.grown != nil {
		close(j.grown)
		j.grown = nil
	}
	return e.N
}

func (j *Journal) update(n int, f func(*Entry)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.entries[n-1])
}

// Len is the number of entries: the place of the last one, and a mark to
// compare later ones with.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.entries)
}

// Entries returns a copy of the whole journal.
func (j *Journal) Entries() []Entry { return j.Since(0) }

// Since returns the entries after the first n.
func (j *Journal) Since(n int) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Entry(nil), j.entries[min(n, len(j.entries)):]...)
}

// Await returns the first entry that matches, of those that are there or come
// while ctx lasts.
func (j *Journal) Await(ctx context.Context, match func(Entry) bool) (Entry, error) {
	for seen := 0; ; {
		j.mu.Lock()
		fresh := slices.Clone(j.entries[seen:])
		if j.grown == nil {
			j.grown = make(chan struct{})
		}
		grown := j.grown
		j.mu.Unlock()
		for _, e := range fresh {
			if match(e) {
				return e, nil
			}
		}
		seen += len(fresh)
		select {
		case <-grown:
		case <-ctx.Done():
			return Entry{}, ctx.Err()
		}
	}
}

// Commands returns the commands received, of the given verbs or of all:
// Commands("UID STORE", "UID EXPUNGE").
func (j *Journal) Commands(verbs ...string) []Command {
	var out []Command
	for _, e := range j.Entries() {
		if e.Kind == Received && (len(verbs) == 0 || containsFold(verbs, e.Command.Verb)) {
			out = append(out, e.Command)
		}
	}
	return out
}

// Secrets returns the passwords and tokens received, in order.
func (j *Journal) Secrets() []string {
	var out []string
	for _, e := range j.Entries() {
		if e.Kind == Received && e.Secret != "" {
			out = append(out, e.Secret)
		}
	}
	return out
}

// Mutations returns the mutations that sessions made, without those of other
// clients.
func (j *Journal) Mutations() []Mutation {
	var out []Mutation
	for _, e := range j.Entries() {
		if e.Kind == Mutated && e.Conn != 0 {
			out = append(out, e.Mutation)
		}
	}
	return out
}

// Connections is the number of connections so far.
func (j *Journal) Connections() int {
	n := 0
	for _, e := range j.Entries() {
		if e.Kind == Connected {
			n++
		}
	}
	return n
}

// String prints the journal, one entry a line, without secrets.
func (j *Journal) String() string {
	var b strings.Builder
	for _, e := range j.Entries() {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.String()
}

func (e Entry) String() string {
	who := "other client"
	if e.Conn != 0 {
		who = fmt.Sprintf("conn %d", e.Conn)
	}
	what := ""
	switch e.Kind {
	case Connected:
		what = "connected"
	case Received:
		what = fmt.Sprintf("C: %s %q", e.Command.Tag, e.Command.Line)
	case Broken:
		what = fmt.Sprintf("C: %q and no more", e.Line)
	case Replied:
		what = fmt.Sprintf("S: %s %s to %s", e.Command.Tag, e.Status, e.Command.Verb)
		if e.Lost {
			what += ", lost"
		}
	case Mutated:
		what = "     " + e.Mutation.String()
	case Ended:
		what = "ended: " + e.Line
	}
	return fmt.Sprintf("%4d %s %-12s %s", e.N, e.At.Format("15:04:05.000"), who, what)
}

func (m Mutation) String() string {
	at := fmt.Sprintf("%s %d.%d", m.Mailbox, m.UIDValidity, m.UID)
	switch m.Change {
	case Appended:
		if m.From != nil {
			return fmt.Sprintf("appended %s from %s %d.%d", at, m.From.Mailbox, m.From.UIDValidity, m.From.UID)
		}
		return fmt.Sprintf("appended %s, %d octets", at, m.Body.Size())
	case Flagged:
		return fmt.Sprintf("flagged  %s +%v -%v", at, m.Added, m.Removed)
	case Expunged:
		return "expunged " + at
	}
	return fmt.Sprintf("recreated %s %d", m.Mailbox, m.UIDValidity)
}
