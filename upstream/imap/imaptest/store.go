package imaptest

import (
	"fmt"
	"slices"
	"strings"
)

// store serves STORE and UID STORE (RFC 3501 section 6.4.6).
func (s *session) store(c Command) (reply, error) {
	if len(c.args) < 3 || c.args[0].kind != atom {
		return bad("STORE wants a set, an item and flags"), nil
	}
	set, err := parseSet(c.args[0].text)
	if err != nil {
		return bad(err.Error()), nil
	}
	what := strings.ToUpper(c.args[1].text)
	what, silent := strings.CutSuffix(what, ".SILENT")
	if what != "FLAGS" && what != "+FLAGS" && what != "-FLAGS" {
		return bad("STORE of what"), nil
	}
	flags := c.args[2:]
	if flags[0].kind == list {
		flags = flags[0].list
	}
	var names []string
	for _, f := range flags {
		if f.kind != atom {
			return bad("flags are atoms"), nil
		}
		names = append(names, f.text)
	}
	p := s.srv.profile
	if s.view.readOnly {
		if p.ExamineNO {
			return no("[READ-ONLY] the mailbox is read-only"), nil
		}
		return okay("store ignored, the mailbox is read-only"), nil
	}
	if p.IgnoreStore {
		return okay("store completed"), nil
	}
	byUID := c.Verb == "UID STORE"
	var lines []string
	s.srv.mu.Lock()
	for _, uid := range s.view.uids(set, byUID) {
		m := s.view.box.get(uid)
		if m == nil {
			continue
		}
		number, _ := s.view.number(uid)
		untold := s.view.seen[number-1].modseq != m.modseq
		s.view.box.setFlags(s.n, m, s.combine(m.flags, what, names))
		if !untold || !silent {
			s.view.told(m)
		}
		if p.AutoExpunge && containsFold(m.flags, `\Deleted`) {
			s.view.box.expunge(s.n, uid)
		}
		if silent {
			continue
		}
		line := fmt.Sprintf("* %d FETCH (FLAGS %s)", number, flagList(m.flags))
		if byUID {
			line = fmt.Sprintf("* %d FETCH (UID %d FLAGS %s)", number, uid, flagList(m.flags))
		}
		lines = append(lines, line)
	}
	s.srv.mu.Unlock()
	s.noise()
	for _, line := range lines {
		s.untagged("%s", line)
	}
	return okay("store completed"), nil
}

// combine is what a message carries after a STORE. What PERMANENTFLAGS does not
// admit is passed over in silence (RFC 3501 section 7.1).
func (s *session) combine(have []string, what string, names []string) []string {
	permanent := s.srv.profile.permanentFlags()
	names = slices.DeleteFunc(slices.Clone(names), func(f string) bool {
		open := !strings.HasPrefix(f, `\`) && slices.Contains(permanent, `\*`)
		return !open && !containsFold(permanent, f)
	})
	switch what {
	case "+FLAGS":
		return append(slices.Clone(have), names...)
	case "-FLAGS":
		return slices.DeleteFunc(slices.Clone(have), func(f string) bool { return containsFold(names, f) })
	}
	return names
}

// expunge serves EXPUNGE (RFC 3501 section 6.4.3) and UID EXPUNGE (RFC 4315
// section 2.1). The untagged EXPUNGE follow when the session catches up.
func (s *session) expunge(c Command) (reply, error) {
	var only []span
	if c.Verb == "UID EXPUNGE" {
		if len(c.args) != 1 || c.args[0].kind != atom {
			return bad("UID EXPUNGE wants a set"), nil
		}
		var err error
		if only, err = parseSet(c.args[0].text); err != nil {
			return bad(err.Error()), nil
		}
	}
	if s.view.readOnly {
		return no("[READ-ONLY] the mailbox is read-only"), nil
	}
	s.removeDeleted(only)
	return okay("expunge completed"), nil
}

// removeDeleted removes the messages that carry \Deleted, of a set or all.
func (s *session) removeDeleted(only []span) {
	if s.srv.profile.IgnoreExpunge {
		return
	}
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	uids := s.view.uids([]span{{1, star}}, true)
	if only != nil {
		uids = s.view.uids(only, true)
	}
	for _, uid := range uids {
		if m := s.view.box.get(uid); m != nil && containsFold(m.flags, `\Deleted`) {
			s.view.box.expunge(s.n, uid)
		}
	}
}

// copy serves COPY (RFC 3501 section 6.4.7) and MOVE (RFC 6851), both by number
// and by UID. With UIDPLUS the reply tells the new UIDs (RFC 4315 section 3).
func (s *session) copy(c Command) (reply, error) {
	if len(c.args) != 2 || c.args[0].kind != atom || c.args[1].kind == list {
		return bad(c.Verb + " wants a set and a mailbox"), nil
	}
	set, err := parseSet(c.args[0].text)
	if err != nil {
		return bad(err.Error()), nil
	}
	move := strings.HasSuffix(c.Verb, "MOVE")
	if move && s.view.readOnly {
		return no("[READ-ONLY] the mailbox is read-only"), nil
	}
	s.srv.mu.Lock()
	to := s.find(c.args[1].text)
	if to == nil {
		s.srv.mu.Unlock()
		return no("[TRYCREATE] no such mailbox"), nil
	}
	b := s.view.box
	var from, made []uint32
	for _, uid := range s.view.uids(set, strings.HasPrefix(c.Verb, "UID ")) {
		m := b.get(uid)
		if m == nil {
			continue
		}
		place := &Place{b.user, b.name, b.uidValidity, uid}
		n := to.append(s.n, m.body, m.size, m.flags, place)
		from, made = append(from, uid), append(made, n.uid)
		if move && !s.srv.profile.IgnoreExpunge {
			b.expunge(s.n, uid)
		}
	}
	s.srv.mu.Unlock()
	code := ""
	if s.has("UIDPLUS") && len(from) > 0 {
		code = fmt.Sprintf("[COPYUID %d %s %s] ", to.uidValidity, formatSet(from), formatSet(made))
	}
	if move {
		if code != "" {
			s.untagged("* OK %smoved", code)
		}
		return okay("move completed"), nil
	}
	return okay(code + "copy completed"), nil
}
