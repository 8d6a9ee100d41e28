package imaptest

import (
	"cmp"
	"io"
	"slices"
	"strings"
	"time"
)

// A Body holds the octets of a message. strings.Reader, bytes.Reader and
// io.SectionReader are bodies; a large one may be computed as it is read.
type Body interface {
	io.ReaderAt
	Size() int64
}

// A Message is a message as it stood at one moment.
type Message struct {
	UID   uint32
	Flags []string
	Size  int64 // RFC822.SIZE, which may differ from Body.Size
	Body  Body
}

// Has reports whether the message carries the flag or keyword.
func (m Message) Has(flag string) bool { return containsFold(m.Flags, flag) }

// message is the live state behind a Message.
type message struct {
	uid    uint32
	flags  []string
	size   int64
	body   Body
	modseq uint64
	date   time.Time // INTERNALDATE
}

func (m *message) view() Message {
	return Message{UID: m.uid, Flags: slices.Clone(m.flags), Size: m.size, Body: m.body}
}

// mailbox is one life of a mailbox: a new UIDVALIDITY is a new mailbox.
// Server.mu guards it.
type mailbox struct {
	user, name  string
	attrs       []string
	uidValidity uint32
	uidNext     uint32
	modseq      uint64     // counts changes
	messages    []*message // ascending UID
	journal     *Journal
}

func (b *mailbox) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(b.messages, uid, func(m *message, uid uint32) int { return cmp.Compare(m.uid, uid) })
}

// get returns the message or nil.
func (b *mailbox) get(uid uint32) *message {
	if i, ok := b.find(uid); ok {
		return b.messages[i]
	}
	return nil
}

func (b *mailbox) note(conn int, m Mutation) {
	m.User, m.Mailbox, m.UIDValidity = b.user, b.name, b.uidValidity
	b.journal.add(Entry{Conn: conn, Kind: Mutated, Mutation: m})
}

func (b *mailbox) append(conn int, body Body, size int64, flags []string, from *Place) *message {
	b.modseq++
	m := &message{uid: b.uidNext, flags: slices.Clone(flags), size: size, body: body, modseq: b.modseq, date: time.Now()}
	b.uidNext++
	b.messages = append(b.messages, m)
	b.note(conn, Mutation{Change: Appended, UID: m.uid, Flags: slices.Clone(flags), Body: body, Size: size, From: from})
	return m
}

func (b *mailbox) expunge(conn int, uid uint32) bool {
	i, ok := b.find(uid)
	if !ok {
		return false
	}
	b.modseq++
	b.messages = slices.Delete(b.messages, i, i+1)
	b.note(conn, Mutation{Change: Expunged, UID: uid})
	return true
}

// setFlags replaces the flags of m.
func (b *mailbox) setFlags(conn int, m *message, flags []string) {
	var added, removed []string
	for _, f := range flags {
		if !containsFold(m.flags, f) && !containsFold(added, f) {
			added = append(added, f)
		}
	}
	kept := slices.DeleteFunc(slices.Clone(m.flags), func(f string) bool {
		gone := !containsFold(flags, f)
		if gone {
			removed = append(removed, f)
		}
		return gone
	})
	if added == nil && removed == nil {
		return
	}
	b.modseq++
	m.flags, m.modseq = append(kept, added...), b.modseq
	b.note(conn, Mutation{Change: Flagged, UID: m.uid, Flags: slices.Clone(m.flags), Added: added, Removed: removed})
}

// keywords are the flags in use that are not system flags.
func (b *mailbox) keywords() []string {
	var out []string
	for _, m := range b.messages {
		for _, f := range m.flags {
			if !strings.HasPrefix(f, `\`) && !containsFold(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// A Mailbox is another client's hand in a mailbox of the server: what it does,
// sessions learn by untagged responses as they do from a real server. It names
// the mailbox and not one life of it. It is safe for concurrent use.
type Mailbox struct {
	srv        *Server
	user, name string
}

// box returns the present life; the caller holds srv.mu.
func (m *Mailbox) box() *mailbox { return m.srv.accounts[m.user].boxes[m.name] }

// Append delivers a message and returns its UID.
func (m *Mailbox) Append(text string, flags ...string) uint32 {
	return m.AppendBody(strings.NewReader(text), int64(len(text)), flags...)
}

// AppendBody delivers a message of which the server claims RFC822.SIZE size,
// true or not.
func (m *Mailbox) AppendBody(body Body, size int64, flags ...string) uint32 {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return m.box().append(0, body, size, flags, nil).uid
}

// SetDate changes the time of receipt (INTERNALDATE) of one message, if it is
// there. It is that of the Append.
func (m *Mailbox) SetDate(uid uint32, date time.Time) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	if msg := m.box().get(uid); msg != nil {
		msg.date = date
	}
}

// Expunge removes messages; UIDs that are not there are passed over.
func (m *Mailbox) Expunge(uids ...uint32) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	for _, uid := range uids {
		m.box().expunge(0, uid)
	}
}

// SetFlags replaces the flags of one message, if it is there.
func (m *Mailbox) SetFlags(uid uint32, flags ...string) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	if b := m.box(); b.get(uid) != nil {
		b.setFlags(0, b.get(uid), flags)
	}
}

// SetUIDNext lets the next message have a UID of n or more.
func (m *Mailbox) SetUIDNext(n uint32) {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.box().uidNext = max(n, m.box().uidNext)
}

// Recreate deletes the mailbox and makes an empty one of the same name, with
// the next UIDVALIDITY and UIDs from 1. Sessions that have the old one selected
// see all its messages go.
func (m *Mailbox) Recreate() {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	m.srv.recreate(m.user, m.name)
}

// UIDValidity is the present UIDVALIDITY.
func (m *Mailbox) UIDValidity() uint32 {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	return m.box().uidValidity
}

// Messages returns what is in the mailbox now, by ascending UID.
func (m *Mailbox) Messages() []Message {
	m.srv.mu.Lock()
	defer m.srv.mu.Unlock()
	var out []Message
	for _, msg := range m.box().messages {
		out = append(out, msg.view())
	}
	return out
}

// UIDs returns the UIDs in the mailbox now, ascending.
func (m *Mailbox) UIDs() []uint32 {
	var out []uint32
	for _, msg := range m.Messages() {
		out = append(out, msg.UID)
	}
	return out
}
