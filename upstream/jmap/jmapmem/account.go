package jmapmem

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Options says how the server behaves. The zero value is a plain one, whose user
// has no name and no password.
type Options struct {
	User, Password string
	ID             string // of the account; "" is User

	Absolute string // the addresses of the session resource begin with it; "" for relative ones
	NoJump   bool   // /.well-known/jmap is the session resource itself, no redirect to it
	Ranges   bool   // honours Range in downloads
	QueryMax int    // ids in an answer to Email/query at most; 0: as many as are asked for

	// The limits that the session resource tells; 0 takes a value of its own.
	MaxGet, MaxSet, MaxCalls, MaxRequest, MaxConcurrent int

	// EmailID makes the id of message n, from 1; nil for the form of Cyrus.
	EmailID func(n int) string
	// Session changes the session resource before it goes out.
	Session func(map[string]any)
	// GoneIsDestroyed reports the destruction of what is not there as done, as
	// Cyrus does.
	GoneIsDestroyed bool

	// Before is called before a method is executed, and may answer in its place; it
	// may use the account. After may change a reply, and must not use it. Changed is
	// told of each change that a request makes: "destroy" or "update", and of what.
	Before  func(method string, args map[string]any) *Reply
	After   func(method string, reply map[string]any)
	Changed func(what, detail string)
}

// Account is one account and its server. It is safe for concurrent use.
type Account struct {
	o Options

	mu        sync.Mutex
	token     string // "" is none
	state     int
	history   []change
	forgotten int // the state up to which it is forgotten
	delivered int
	mailboxes []*Mailbox
	emails    map[string]*Email
}

// New returns an account that has the mailboxes Inbox, Trash and Archive and no
// messages.
func New(o Options) *Account {
	if o.ID == "" {
		o.ID = o.User
	}
	return &Account{o: o, emails: map[string]*Email{}, state: 1, mailboxes: []*Mailbox{
		{ID: Inbox, Name: "Inbox", Role: "inbox"}, {ID: Trash, Name: "Trash", Role: "trash"}, {ID: Archive, Name: "Archive"}}}
}

// SetToken replaces the token (RFC 6750) that the user may show in the place of
// the password; "" is none.
func (a *Account) SetToken(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token = token
}

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
func (a *Account) Deliver(body []byte) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.deliver(body, epoch.Add(time.Duration(a.delivered)*time.Second), Inbox)
}

// DeliverAt puts a message that was received then into these mailboxes.
func (a *Account) DeliverAt(body []byte, received time.Time, mailboxes ...string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.deliver(body, received, mailboxes...)
}

func (a *Account) deliver(body []byte, received time.Time, mailboxes ...string) string {
	a.delivered++
	sum := sha256.Sum256([]byte(fmt.Sprint(a.delivered)))
	digits := hex.EncodeToString(sum[:])
	e := &Email{ID: "M" + digits[:24], Blob: "G" + digits[:40], Body: bytes.Clone(body), Received: received,
		Mailboxes: map[string]bool{}, Keywords: map[string]bool{}}
	if a.o.EmailID != nil {
		e.ID = a.o.EmailID(a.delivered)
	}
	for _, m := range mailboxes {
		e.Mailboxes[m] = true
	}
	a.changed(e.ID)
	a.emails[e.ID] = e
	return e.ID
}

// Destroy removes a message, as another client.
func (a *Account) Destroy(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed(id)
	delete(a.emails, id)
}

// Put sets whether a message is in a mailbox, as another client.
func (a *Account) Put(id, mailbox string, in bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed(id)
	set(a.emails[id].Mailboxes, mailbox, in)
}

// Mark sets whether a message has a keyword, as another client.
func (a *Account) Mark(id, keyword string, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed(id)
	set(a.emails[id].Keywords, keyword, on)
}

// Forget makes the server forget what changed so far.
func (a *Account) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.history, a.forgotten = nil, a.state
}

// A change of the account, by the state that it began.
type change struct {
	state int
	id    string
	new   bool // the message was not there before
}

// changed notes that a message is about to change.
func (a *Account) changed(id string) {
	a.state++
	a.history = append(a.history, change{a.state, id, a.emails[id] == nil})
}

// Touch changes the state of the account and nothing else.
func (a *Account) Touch() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state++
}

// SetMailboxes replaces the mailboxes of the account.
func (a *Account) SetMailboxes(list ...Mailbox) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mailboxes = nil
	for _, m := range list {
		a.mailboxes = append(a.mailboxes, &m)
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
func (a *Account) Emails(mailbox string) []Email {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Email
	for _, e := range a.list(func(e *Email) bool { return mailbox == "" || e.Mailboxes[mailbox] }) {
		c := *e
		c.Mailboxes, c.Keywords = maps.Clone(e.Mailboxes), maps.Clone(e.Keywords)
		out = append(out, c)
	}
	return out
}

// list is the order of Email/query.
func (a *Account) list(has func(*Email) bool) []*Email {
	var out []*Email
	for _, e := range a.emails {
		if has(e) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(x, y *Email) int {
		// Within a second the order is not that of the ids.
		return cmp.Or(x.Received.Compare(y.Received), cmp.Compare(y.ID, x.ID))
	})
	return out
}
