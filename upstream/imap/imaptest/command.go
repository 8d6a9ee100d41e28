package imaptest

// state is a set of session states (RFC 3501 section 3).
type state uint8

const (
	notAuthenticated state = 1 << iota
	authenticated
	selected
	anyState = notAuthenticated | authenticated | selected
	loggedIn = authenticated | selected
)

func (s *session) state() state {
	switch {
	case s.user == "":
		return notAuthenticated
	case s.view == nil:
		return authenticated
	}
	return selected
}

// A handler executes a command, writes its untagged data and returns its
// reply. An error ends the session.
type handler func(s *session, c Command) (reply, error)

// command finds the handler of a verb, the states it belongs to, and the
// capability without which the server does not know it.
func command(verb string) (h handler, in state, capability string) {
	switch verb {
	case "CAPABILITY":
		return (*session).capability, anyState, ""
	case "NOOP", "CHECK":
		return (*session).noop, anyState, ""
	case "LOGOUT":
		return (*session).logout, anyState, ""
	case "ID":
		return (*session).id, anyState, "ID"
	case "STARTTLS":
		return (*session).starttls, notAuthenticated, ""
	case "LIST":
		return (*session).list, loggedIn, ""
	case "NAMESPACE":
		return (*session).namespace, loggedIn, "NAMESPACE"
	case "STATUS":
		return (*session).status, loggedIn, ""
	case "ENABLE":
		return (*session).enable, loggedIn, "ENABLE"
	case "SELECT", "EXAMINE":
		return (*session).selectBox, loggedIn, ""
	case "UNSELECT":
		return (*session).unselect, selected, "UNSELECT"
	case "CLOSE":
		return (*session).closeBox, selected, ""
	case "FETCH", "UID FETCH":
		return (*session).fetch, selected, ""
	case "SEARCH", "UID SEARCH":
		return (*session).search, selected, ""
	case "STORE", "UID STORE":
		return (*session).store, selected, ""
	case "EXPUNGE":
		return (*session).expunge, selected, ""
	case "UID EXPUNGE":
		return (*session).expunge, selected, "UIDPLUS"
	case "COPY", "UID COPY":
		return (*session).copy, selected, ""
	case "MOVE", "UID MOVE":
		return (*session).copy, selected, "MOVE"
	}
	return nil, 0, ""
}

// execute runs c. LOGIN and AUTHENTICATE stand apart: they need the journal
// entry for what SASL reveals, and the connection limit.
func (s *session) execute(c Command, entry int, over bool) (reply, error) {
	if c.Verb == "LOGIN" || c.Verb == "AUTHENTICATE" {
		if s.state() != notAuthenticated {
			return bad("already authenticated"), nil
		}
		return s.authenticate(c, entry, over)
	}
	h, in, capability := command(c.Verb)
	if h == nil || capability != "" && !s.has(capability) {
		return bad("unknown command"), nil
	}
	if in&s.state() == 0 {
		return bad("not in this state"), nil
	}
	near := s.storeNear
	s.storeNear = s.inFlight && (c.Verb == "STORE" || c.Verb == "UID STORE")
	if near && s.srv.profile.DeafPipelined && (c.Verb == "EXPUNGE" || c.Verb == "UID EXPUNGE") {
		return okay("expunge completed"), nil
	}
	return h(s, c)
}
