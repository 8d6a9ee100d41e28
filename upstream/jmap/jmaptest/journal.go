package jmaptest

import "slices"

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

func (s *Server) note(what, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = append(s.journal, Entry{what, detail})
}

// replyFor asks the hooks for a reply to a method call.
func (s *Server) replyFor(method string, args map[string]any) *Reply {
	s.mu.Lock()
	hooks := s.calls
	s.mu.Unlock()
	for _, h := range hooks {
		if r := h(method, args); r != nil {
			return r
		}
	}
	return nil
}

func (s *Server) rewrite(method string, reply map[string]any) {
	s.mu.Lock()
	changes := s.rewrites
	s.mu.Unlock()
	for _, change := range changes {
		change(method, reply)
	}
}
