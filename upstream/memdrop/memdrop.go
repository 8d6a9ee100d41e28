package memdrop

import (
	"fmt"
	"slices"
	"sync"

	"github.com/popgate/popgate/upstream"
)

// A Message is one message of a maildrop.
type Message struct {
	ID   string // the unique-id: legal by [upstream.ValidUIDL], never used twice for one user
	Body []byte // raw octets, line ends included; given to the client as they are
	Size int64  // what the list says, in octets; 0: what Body holds
}

// Calls counts the calls that a store has had since [New], successful or not.
type Calls struct {
	Login, Open, Retrieve, Update int
	Close                         int // accounts closed; a second Close of one is not counted
}

// A Store is a mail service in memory. Make one with [New]. It is safe for
// concurrent use.
type Store struct {
	mu       sync.Mutex
	users    map[string]*user
	terms    upstream.Terms
	faults   Faults
	calls    Calls
	accounts int // logged in and not closed
	bodies   int // open
}

type user struct {
	name     string
	password string
	messages []*message // oldest first; replaced, never changed in place: snapshots share it
	used     map[string]bool
	seen     map[string]bool
}

type message struct {
	Message
	gone bool // guarded by Store.mu
}

var _ upstream.Store = (*Store)(nil)

// New returns a store without users.
func New() *Store { return &Store{users: map[string]*user{}} }

// AddUser adds a user whose maildrop holds msgs. For a user who is known
// already it changes the password and delivers msgs. It panics as
// [Store.Deliver] does.
func (s *Store) AddUser(name, password string, msgs ...Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[name]
	if u == nil {
		u = &user{name: name, used: map[string]bool{}, seen: map[string]bool{}}
		s.users[name] = u
	}
	u.password = password
	u.deliver(msgs)
}

// SetTerms sets the terms of the accounts that log in from now on.
func (s *Store) SetTerms(t upstream.Terms) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terms = t
}

// Deliver adds msgs to the maildrop, as a mail system does while sessions are
// open. It panics if there is no such user, or an id is not legal or was used
// before.
func (s *Store) Deliver(name string, msgs ...Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user(name).deliver(msgs)
}

func (u *user) deliver(msgs []Message) {
	list := slices.Clone(u.messages)
	for _, m := range msgs {
		if !upstream.ValidUIDL([]byte(m.ID)) {
			panic(fmt.Sprintf("memdrop: %q is not a legal unique-id", m.ID))
		}
		if u.used[m.ID] {
			panic(fmt.Sprintf("memdrop: the unique-id %q is used twice", m.ID))
		}
		u.used[m.ID] = true
		list = append(list, &message{Message: m})
	}
	u.messages = list
}

// Expunge removes the messages with these ids, as another client of the
// mailbox does. An id that is not there is passed over. It panics if there is
// no such user.
func (s *Store) Expunge(name string, ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user(name).expunge(func(m *message) bool { return slices.Contains(ids, m.ID) })
}

func (u *user) expunge(gone func(*message) bool) {
	var list []*message
	for _, m := range u.messages {
		if gone(m) {
			m.gone = true
		} else {
			list = append(list, m)
		}
	}
	u.messages = list
}

// Messages returns what is in the maildrop now, oldest first. It panics if
// there is no such user.
func (s *Store) Messages(name string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Message
	for _, m := range s.user(name).messages {
		list = append(list, m.Message)
	}
	return list
}

// Seen returns the ids of the messages in the maildrop that a session marked as
// read in UPDATE, in the order of the maildrop. It panics if there is no such
// user.
func (s *Store) Seen(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.user(name)
	var ids []string
	for _, m := range u.messages {
		if u.seen[m.ID] {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Calls returns the counts so far.
func (s *Store) Calls() Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// InUse returns how many accounts and how many bodies are open now. Both are 0
// when every session has ended cleanly.
func (s *Store) InUse() (accounts, bodies int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accounts, s.bodies
}

// user returns a user whom the test must have added. Store.mu is held.
func (s *Store) user(name string) *user {
	u := s.users[name]
	if u == nil {
		panic(fmt.Sprintf("memdrop: no user %q", name))
	}
	return u
}
