package pop3

import "github.com/popgate/popgate/upstream"

// A state is one of RFC 1939 section 3, as a bit so that a command can name
// several. Nothing outside of this file sets a session's state or end, but for
// the state it begins in.
type state uint8

const (
	authorization state = 1 << iota
	transaction
	update
)

// enterTransaction is the end of a successful login.
func (s *session) enterTransaction(user string, m upstream.Maildrop) {
	s.state = transaction
	s.user = user
	s.drop = m
	s.marks = newMarks(m)
}

// enterUpdate is for QUIT in the TRANSACTION state and for nothing else.
func (s *session) enterUpdate() { s.state = update }

// finish ends the session; the loop stops after the command that is running.
// The first reason counts.
func (s *session) finish(why End) {
	if s.end == "" {
		s.end = why
	}
}

// fault is finish for a panic, which counts more than what came before it. The
// reply may be half done: no more of it is sent.
func (s *session) fault() {
	s.end = EndPanic
	s.cut = true
}

// letGo closes the account: a lock on the maildrop must not outlive the session,
// nor wait for a client that takes its time to read the last reply. What is
// still marked is abandoned.
func (s *session) letGo() {
	if s.marks != nil && s.state != update {
		s.tally.deletions.Abandoned = s.marks.marked()
	}
	s.closeAccount()
}

// closeAccount closes the account once.
func (s *session) closeAccount() {
	a := s.account
	s.account = nil
	if a == nil {
		return
	}
	if err := a.Close(); err != nil {
		s.log.Debug("the account was not closed cleanly", "error", err)
	}
}
