package imaptest

import (
	"fmt"
	"slices"
	"strings"
)

// find returns the mailbox of a name; the caller holds srv.mu.
func (s *session) find(name string) *mailbox {
	if strings.EqualFold(name, "INBOX") {
		name = "INBOX"
	}
	return s.srv.accounts[s.user].boxes[name]
}

// selectBox serves SELECT and EXAMINE (RFC 3501 sections 6.3.1 and 6.3.2).
func (s *session) selectBox(c Command) (reply, error) {
	s.view = nil
	if len(c.args) == 0 || c.args[0].kind == list {
		return bad("which mailbox"), nil
	}
	p := s.srv.profile
	readOnly := c.Verb == "EXAMINE" || p.ReadOnly
	s.srv.mu.Lock()
	b := s.find(c.args[0].text)
	if b == nil {
		s.srv.mu.Unlock()
		return no("[NONEXISTENT] no such mailbox"), nil
	}
	s.view = newView(b, readOnly)
	flags := append(systemFlags(), b.keywords()...)
	exists, uidValidity, uidNext := len(b.messages), b.uidValidity, b.uidNext
	s.srv.mu.Unlock()

	permanent := p.permanentFlags()
	if readOnly {
		permanent = nil
	}
	s.untagged("* FLAGS %s", flagList(flags))
	s.untagged("* OK [PERMANENTFLAGS %s] flags that last", flagList(permanent))
	s.untagged("* %d EXISTS", exists)
	s.untagged("* 0 RECENT")
	s.untagged("* OK [UIDVALIDITY %d] UIDs are valid", uidValidity)
	if !p.NoUIDNext {
		s.untagged("* OK [UIDNEXT %d] predicted next UID", uidNext)
	}
	if readOnly {
		return okay("[READ-ONLY] selected"), nil
	}
	return okay("[READ-WRITE] selected"), nil
}

func (s *session) unselect(Command) (reply, error) {
	s.view = nil
	return okay("unselect completed"), nil
}

// closeBox serves CLOSE, which expunges whatever is marked, whoever marked it
// (RFC 3501 section 6.4.2).
func (s *session) closeBox(Command) (reply, error) {
	if !s.view.readOnly {
		s.removeDeleted(nil)
	}
	s.view = nil
	return okay("close completed"), nil
}

// list serves LIST (RFC 3501 section 6.3.8) with the selection and return
// options of SPECIAL-USE (RFC 6154). The attributes are told in every LIST.
func (s *session) list(c Command) (reply, error) {
	args := c.args
	only := false
	if len(args) > 0 && args[0].kind == list {
		only = slices.ContainsFunc(args[0].list, func(a arg) bool { return strings.EqualFold(a.text, "SPECIAL-USE") })
		args = args[1:]
	}
	if len(args) < 2 {
		return bad("LIST wants a reference and a pattern"), nil
	}
	patterns := []arg{args[1]}
	if args[1].kind == list {
		patterns = args[1].list
	}
	if len(patterns) == 1 && patterns[0].text == "" {
		s.untagged(`* LIST (\Noselect) %s ""`, quote(s.srv.profile.separator()))
		return okay("list completed"), nil
	}
	s.srv.mu.Lock()
	a := s.srv.accounts[s.user]
	var lines []string
	for _, name := range a.order {
		attrs := a.boxes[name].attrs
		if only && len(attrs) == 0 || !slices.ContainsFunc(patterns, func(p arg) bool { return match(p.text, name) }) {
			continue
		}
		attrs = append([]string{`\HasNoChildren`}, attrs...)
		lines = append(lines, fmt.Sprintf(`* LIST %s %s %s`, flagList(attrs), quote(s.srv.profile.separator()), quote(name)))
	}
	s.srv.mu.Unlock()
	for _, line := range lines {
		s.untagged("%s", line)
	}
	return okay("list completed"), nil
}

// match reports whether a LIST pattern matches; there is no hierarchy, so that
// "%" and "*" are one.
func match(pattern, name string) bool {
	i := strings.IndexAny(pattern, "*%")
	if i < 0 {
		return pattern == name || strings.EqualFold(pattern, name) && name == "INBOX"
	}
	if !strings.HasPrefix(name, pattern[:i]) {
		return false
	}
	for j := i; j <= len(name); j++ {
		if match(pattern[i+1:], name[j:]) {
			return true
		}
	}
	return false
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func (s *session) namespace(Command) (reply, error) {
	p := s.srv.profile
	s.untagged(`* NAMESPACE ((%s %s)) NIL ((%s %[2]s))`, quote(p.Namespace), quote(p.separator()), quote("#shared"+p.separator()))
	return okay("namespace completed"), nil
}

// status serves STATUS (RFC 3501 section 6.3.10).
func (s *session) status(c Command) (reply, error) {
	if len(c.args) != 2 || c.args[0].kind == list || c.args[1].kind != list {
		return bad("STATUS wants a mailbox and items"), nil
	}
	s.srv.mu.Lock()
	b := s.find(c.args[0].text)
	if b == nil {
		s.srv.mu.Unlock()
		return no("[NONEXISTENT] no such mailbox"), nil
	}
	items, ok := s.statusItems(b, c.args[1].list)
	s.srv.mu.Unlock()
	if !ok {
		return bad("unknown status item"), nil
	}
	s.untagged("* STATUS %s (%s)", quote(b.name), strings.Join(items, " "))
	return okay("status completed"), nil
}

// statusItems words the items of STATUS; the caller holds srv.mu.
func (s *session) statusItems(b *mailbox, list []arg) (items []string, ok bool) {
	for _, a := range list {
		switch item := strings.ToUpper(a.text); item {
		case "MESSAGES":
			items = append(items, fmt.Sprint(item, " ", len(b.messages)))
		case "RECENT":
			items = append(items, item+" 0")
		case "UIDNEXT":
			if !s.srv.profile.NoUIDNext {
				items = append(items, fmt.Sprint(item, " ", b.uidNext))
			}
		case "UIDVALIDITY":
			items = append(items, fmt.Sprint(item, " ", b.uidValidity))
		case "UNSEEN":
			n := 0
			for _, m := range b.messages {
				if !containsFold(m.flags, `\Seen`) {
					n++
				}
			}
			items = append(items, fmt.Sprint(item, " ", n))
		default:
			return nil, false
		}
	}
	return items, true
}

// enable serves ENABLE (RFC 5161); nothing here can be enabled.
func (s *session) enable(c Command) (reply, error) {
	if len(c.args) == 0 {
		return bad("ENABLE what"), nil
	}
	s.untagged("* ENABLED")
	return okay("enable completed"), nil
}
