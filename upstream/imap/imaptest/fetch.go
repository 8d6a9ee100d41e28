package imaptest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An item is one data item of a FETCH command.
type item struct {
	name    string // upper case: UID, FLAGS, RFC822.SIZE, INTERNALDATE, BODY
	section string // BODY: "", HEADER or TEXT
	peek    bool
	partial bool
	from, n int64
}

func (i item) isBody() bool { return i.name == "BODY" }

// fetch serves FETCH and UID FETCH (RFC 3501 sections 6.4.5 and 6.4.8).
func (s *session) fetch(c Command) (reply, error) {
	if len(c.args) != 2 || c.args[0].kind != atom {
		return bad("FETCH wants a set and items"), nil
	}
	set, err := parseSet(c.args[0].text)
	if err != nil {
		return bad(err.Error()), nil
	}
	items, err := parseItems(c.args[1])
	if err != nil {
		return bad(err.Error()), nil
	}
	byUID := c.Verb == "UID FETCH"
	items = s.arrange(items, byUID)
	d := s.srv.profile.Dialect
	gone := false
	uids := s.view.uids(set, byUID)
	if d.Backwards {
		slices.Reverse(uids)
	}
	for _, uid := range uids {
		if d.SyncInside && byUID {
			s.catchUp(true)
		}
		s.noise()
		there, err := s.fetchOne(uid, items)
		if err != nil {
			return reply{}, err
		}
		gone = gone || !there
	}
	switch {
	case gone && d.Gone == GoneNO:
		return no("some of the messages are gone"), nil
	case gone && d.Gone == GoneExpungeIssued:
		return okay("[EXPUNGEISSUED] some of the messages are gone"), nil
	}
	return okay("fetch completed"), nil
}

// arrange puts items into the dialect's order and adds what it adds.
func (s *session) arrange(items []item, byUID bool) []item {
	d := s.srv.profile.Dialect
	add := func(name string) {
		if !slices.ContainsFunc(items, func(i item) bool { return i.name == name }) {
			items = append(items, item{name: name})
		}
	}
	if byUID {
		add("UID")
	}
	if d.ExtraFlags {
		add("FLAGS")
	}
	rank := func(i item) int {
		switch {
		case d.Order == SizeFirst && i.name == "RFC822.SIZE":
			return 0
		case d.Order == UIDLast && i.name == "UID":
			return 4
		case i.name == "UID":
			return 1
		case !i.isBody():
			return 2
		}
		if d.Order == UIDLast {
			return 1
		}
		return 3
	}
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Compare(rank(a), rank(b)) })
	return items
}

// fetchOne sends one FETCH reply and reports whether the message was there.
func (s *session) fetchOne(uid uint32, items []item) (bool, error) {
	d := s.srv.profile.Dialect
	s.srv.mu.Lock()
	number, known := s.view.number(uid)
	m := s.view.box.get(uid)
	var now Message
	if m != nil {
		if marksSeen(items) && !s.view.readOnly && !containsFold(m.flags, `\Seen`) {
			s.view.box.setFlags(s.n, m, append(slices.Clone(m.flags), `\Seen`))
		}
		if slices.ContainsFunc(items, func(i item) bool { return i.name == "FLAGS" }) || d.FlagsFirst {
			s.view.told(m)
		}
		now = m.view()
	}
	s.srv.mu.Unlock()
	if !known { // its EXPUNGE was told while this command ran
		return true, nil
	}
	body := slices.ContainsFunc(items, item.isBody)
	switch {
	case m == nil && d.Gone == GoneMadeUp:
		text := strings.NewReader("From: postmaster\r\nSubject: message unavailable\r\n\r\nThis message is no longer here.\r\n")
		now = Message{UID: uid, Size: text.Size(), Body: text}
	case m == nil:
		if body && (d.Gone == GoneNIL || d.Gone == GoneExpungeIssued) {
			s.untagged("* %d FETCH (UID %d %s NIL)", number, uid, items[slices.IndexFunc(items, item.isBody)].label())
		}
		return false, nil
	}
	if body && d.FlagsFirst {
		s.untagged("* %d FETCH (UID %d FLAGS %s)", number, uid, flagList(now.Flags))
	}
	s.bw.WriteString(s.casing(fmt.Sprintf("* %d FETCH (", number)))
	for n, i := range items {
		if n > 0 {
			s.bw.WriteByte(' ')
		}
		if err := s.item(now, i); err != nil {
			return true, err
		}
	}
	for _, extra := range d.ExtraItems {
		s.bw.WriteString(" " + s.casing(extra))
	}
	s.bw.WriteString(")\r\n")
	return true, nil
}

func marksSeen(items []item) bool {
	return slices.ContainsFunc(items, func(i item) bool { return i.isBody() && !i.peek })
}

func (s *session) item(m Message, i item) error {
	switch i.name {
	case "UID":
		s.bw.WriteString(s.casing(fmt.Sprintf("UID %d", m.UID)))
	case "FLAGS":
		s.bw.WriteString(s.casing("FLAGS " + flagList(m.Flags)))
	case "RFC822.SIZE":
		s.bw.WriteString(s.casing(fmt.Sprintf("RFC822.SIZE %d", m.Size)))
	case "INTERNALDATE":
		s.bw.WriteString(s.casing("INTERNALDATE") + ` "01-Jan-2000 00:00:00 +0000"`)
	case "BODY":
		s.bw.WriteString(s.casing(i.label()) + " ")
		return s.section(m.Body, i)
	}
	return nil
}

// label is how a reply names the section.
func (i item) label() string {
	if i.partial {
		return fmt.Sprintf("BODY[%s]<%d>", i.section, i.from)
	}
	return "BODY[" + i.section + "]"
}

// section sends the octets of a body section in the dialect's form.
func (s *session) section(b Body, i item) error {
	from, to := int64(0), b.Size()
	if i.section != "" {
		end, err := headerEnd(b)
		if err != nil {
			return err
		}
		if i.section == "HEADER" {
			to = end
		} else {
			from = end
		}
	}
	if i.partial {
		from = min(from+i.from, to)
		to = from + min(i.n, to-from)
	}
	part := io.NewSectionReader(b, from, to-from)
	switch s.srv.profile.Dialect.Body {
	case BodyNIL:
		s.bw.WriteString(s.casing("NIL"))
		return nil
	case BodyQuoted:
		if part.Size() <= maxLiteral {
			text, err := io.ReadAll(part)
			if err != nil {
				return err
			}
			if quotable(text) {
				s.bw.WriteString(quote(string(text)))
				return nil
			}
			part.Seek(0, io.SeekStart)
		}
	}
	return s.literal(part)
}

func quotable(text []byte) bool {
	return !slices.ContainsFunc(text, func(c byte) bool { return c == 0 || c == '\r' || c == '\n' || c >= 0x80 })
}

// literal sends octets as a literal, or as much of it as an action allows.
func (s *session) literal(part *io.SectionReader) error {
	fmt.Fprintf(s.bw, "{%d}\r\n", part.Size())
	cut := s.cut
	s.cut = nil
	n := part.Size()
	if cut != nil {
		n = min(n, cut.after)
	}
	if _, err := io.CopyN(s.bw, part, n); err != nil {
		return err
	}
	if cut == nil {
		return nil
	}
	if err := s.bw.Flush(); err != nil {
		return err
	}
	return &endError{cut.how, fmt.Sprintf("after %d octets of a literal of %d", n, part.Size())}
}

// headerEnd is where the header ends, its empty line included: at the first
// empty line, else at the end. A header of more than 1 MiB is not looked
// through.
func headerEnd(b Body) (int64, error) {
	head := make([]byte, min(b.Size(), 1<<20))
	if _, err := b.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	end := b.Size()
	for _, empty := range []struct {
		text string
		at   int
	}{{"\r\n", 0}, {"\n", 0}} {
		if bytes.HasPrefix(head, []byte(empty.text)) {
			return int64(len(empty.text)), nil
		}
	}
	for _, empty := range []string{"\r\n\r\n", "\n\n"} {
		if i := bytes.Index(head, []byte(empty)); i >= 0 {
			end = min(end, int64(i+len(empty)))
		}
	}
	return end, nil
}

// bodyItem is BODY[section]<from.n> and BODY.PEEK[section]<from.n>.
var bodyItem = regexp.MustCompile(`^BODY(\.PEEK)?\[(HEADER|TEXT|)\](?:<(\d{1,18})\.([1-9]\d{0,17})>)?$`)

// parseItems reads the items of a FETCH command.
func parseItems(a arg) ([]item, error) {
	list := a.list
	if a.kind == atom {
		list = []arg{a}
	}
	if len(list) == 0 {
		return nil, errors.New("no fetch items")
	}
	var out []item
	for _, a := range list {
		name := strings.ToUpper(a.text)
		switch name {
		case "UID", "FLAGS", "RFC822.SIZE", "INTERNALDATE":
			out = append(out, item{name: name})
			continue
		}
		m := bodyItem.FindStringSubmatch(name)
		if a.kind != atom || m == nil {
			return nil, fmt.Errorf("unknown fetch item %q", a.text)
		}
		i := item{name: "BODY", section: m[2], peek: m[1] != "", partial: m[3] != ""}
		if i.partial {
			i.from, _ = strconv.ParseInt(m[3], 10, 64) // the pattern bounds the digits
			i.n, _ = strconv.ParseInt(m[4], 10, 64)
		}
		out = append(out, i)
	}
	return out, nil
}
