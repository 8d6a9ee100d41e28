package imaptest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A criterion tells whether a message matches; number is its sequence number.
type criterion func(number uint32, m *message) bool

// search serves SEARCH and UID SEARCH (RFC 3501 section 6.4.4), with RETURN
// where the profile has ESEARCH (RFC 4731).
func (s *session) search(c Command) (reply, error) {
	args := c.args
	var returns []string
	extended := len(args) > 1 && args[0].kind == atom && strings.EqualFold(args[0].text, "RETURN") && args[1].kind == list
	if extended {
		if !s.has("ESEARCH") {
			return bad("no RETURN here"), nil
		}
		for _, a := range args[1].list {
			returns = append(returns, strings.ToUpper(a.text))
		}
		if len(returns) == 0 {
			returns = []string{"ALL"}
		}
		args = args[2:]
	}
	if len(args) > 1 && args[0].kind == atom && strings.EqualFold(args[0].text, "CHARSET") {
		if !strings.EqualFold(args[1].text, "UTF-8") && !strings.EqualFold(args[1].text, "US-ASCII") {
			return no("[BADCHARSET (UTF-8 US-ASCII)] unknown charset"), nil
		}
		args = args[2:]
	}
	match, err := s.criteria(args)
	if err != nil {
		return bad(err.Error()), nil
	}
	var found []uint32
	s.srv.mu.Lock()
	for i, seen := range s.view.seen {
		m := s.view.box.get(seen.uid)
		if m == nil || !match(uint32(i+1), m) {
			continue
		}
		if c.Verb == "UID SEARCH" {
			found = append(found, m.uid)
		} else {
			found = append(found, uint32(i+1))
		}
	}
	s.srv.mu.Unlock()
	s.noise()
	if extended {
		return s.esearch(c, returns, found)
	}
	var line strings.Builder
	for _, n := range found {
		fmt.Fprintf(&line, " %d", n)
	}
	s.untagged("* SEARCH%s", line.String())
	return okay("search completed"), nil
}

func (s *session) esearch(c Command, returns []string, found []uint32) (reply, error) {
	line := fmt.Sprintf(`* ESEARCH (TAG "%s")`, c.Tag)
	if c.Verb == "UID SEARCH" {
		line += " UID"
	}
	for _, r := range returns {
		switch {
		case r == "COUNT":
			line += fmt.Sprintf(" COUNT %d", len(found))
		case r != "MIN" && r != "MAX" && r != "ALL":
			return bad("unknown return option"), nil
		case len(found) == 0: // RFC 4731 section 3.1: nothing is told
		case r == "MIN":
			line += fmt.Sprintf(" MIN %d", found[0])
		case r == "MAX":
			line += fmt.Sprintf(" MAX %d", found[len(found)-1])
		default:
			line += " ALL " + formatSet(found)
		}
	}
	s.untagged("%s", line)
	return okay("search completed"), nil
}

// criteria reads search keys, all of which must hold.
func (s *session) criteria(args []arg) (criterion, error) {
	if len(args) == 0 {
		return nil, errors.New("no search keys")
	}
	var all []criterion
	for len(args) > 0 {
		c, rest, err := s.key(args)
		if err != nil {
			return nil, err
		}
		all, args = append(all, c), rest
	}
	return func(n uint32, m *message) bool {
		return !slices.ContainsFunc(all, func(c criterion) bool { return !c(n, m) })
	}, nil
}

// key reads one search key and returns what follows it.
func (s *session) key(args []arg) (criterion, []arg, error) {
	a, rest := args[0], args[1:]
	if a.kind == list {
		c, err := s.criteria(a.list)
		return c, rest, err
	}
	flag := func(f string, want bool) criterion {
		return func(_ uint32, m *message) bool { return containsFold(m.flags, f) == want }
	}
	name := strings.ToUpper(a.text)
	switch name {
	case "ALL":
		return func(uint32, *message) bool { return true }, rest, nil
	case "ANSWERED", "FLAGGED", "DELETED", "SEEN", "DRAFT":
		return flag(`\`+name, true), rest, nil
	case "UNANSWERED", "UNFLAGGED", "UNDELETED", "UNSEEN", "UNDRAFT":
		return flag(`\`+name[2:], false), rest, nil
	case "KEYWORD", "UNKEYWORD", "UID", "NOT", "SINCE":
		if len(rest) == 0 {
			return nil, nil, fmt.Errorf("%s wants an argument", name)
		}
	}
	switch name {
	case "KEYWORD", "UNKEYWORD":
		return flag(rest[0].text, name == "KEYWORD"), rest[1:], nil
	case "SINCE": // the date alone, in whatever zone (RFC 3501 section 6.4.4)
		since, err := time.Parse("2-Jan-2006", rest[0].text)
		return func(_ uint32, m *message) bool { return m.date.Format(time.DateOnly) >= since.Format(time.DateOnly) }, rest[1:], err
	case "NOT":
		c, after, err := s.key(rest)
		return func(n uint32, m *message) bool { return !c(n, m) }, after, err
	case "UID":
		c, err := s.inSet(rest[0].text, true)
		return c, rest[1:], err
	}
	c, err := s.inSet(a.text, false)
	return c, rest, err
}

func (s *session) inSet(text string, byUID bool) (criterion, error) {
	set, err := parseSet(text)
	if err != nil {
		return nil, err
	}
	last := uint32(len(s.view.seen))
	if byUID && last > 0 {
		last = s.view.seen[last-1].uid
	}
	set = resolve(set, last)
	return func(n uint32, m *message) bool {
		if byUID {
			n = m.uid
		}
		return contains(set, n)
	}, nil
}
