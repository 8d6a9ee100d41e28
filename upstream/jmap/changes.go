package jmap

import (
	"context"
)

// changes is the answer to Email/changes (RFC 8620 section 5.2).
type changes struct {
	Old       string   `json:"oldState"`
	New       string   `json:"newState"`
	More      bool     `json:"hasMoreChanges"`
	Created   []string `json:"created"`
	Updated   []string `json:"updated"`
	Destroyed []string `json:"destroyed"`
}

// since lists the mailbox by what changed in the account since it was listed as
// known; nil if that cannot be had, or is not proved to be right: then it is
// listed from the start, and what is wrong with the server shows there.
//
// One request asks for the changes, for what became of these messages, for the
// number of messages, and for the last one. All of it must be told in one state.
// Then the number must be that of the list, and the last message must be the list's
// last, of the same size and time. Email/queryChanges would tell less, but servers
// do not calculate it where the filter looks at a keyword.
func (m *maildrop) since(ctx context.Context, known *snapshot) (s *snapshot, how string) {
	if !m.client.limits.allow(5) {
		return nil, ""
	}
	most := m.client.limits.perCall(pageSize, m.client.limits.Get, maxID+8)
	all := append([]string{"mailboxIds", "keywords"}, listed...)
	var ch changes
	var created, updated, last emails
	var q query
	err := m.client.do(ctx, opList, answerLimit(2*most+1),
		call{"Email/changes", map[string]any{"sinceState": known.state, "maxChanges": most}, &ch},
		getOf(0, "Email/changes", "/created", &created, all...),
		getOf(0, "Email/changes", "/updated", &updated, all...),
		m.queryCall(map[string]any{"position": -1, "limit": 1}, &q),
		getOf(3, "Email/query", "/ids", &last, listed...))
	if err != nil || ch.Old != known.state || ch.More || ch.New == "" || len(ch.New) > maxState {
		return nil, ""
	}
	for _, x := range []struct {
		asked []string
		got   emails
	}{{ch.Created, created}, {ch.Updated, updated}, {q.IDs, last}} {
		if x.got.State != ch.New || x.got.complete(x.asked) != nil {
			return nil, ""
		}
	}
	s, how = m.after(known, ch, append(created.List, updated.List...))
	if q.Total == nil || *q.Total != int64(s.len()) || s.len() > m.client.store.o.MaxMessages || !s.endsWith(last.List) {
		return nil, ""
	}
	return s, how
}

// after is known with these changes, of which there tells what is there now.
func (m *maildrop) after(known *snapshot, ch changes, there []email) (s *snapshot, how string) {
	out := make(map[string]bool, len(ch.Created)+len(ch.Updated)+len(ch.Destroyed))
	for _, ids := range [][]string{ch.Created, ch.Updated, ch.Destroyed} {
		for _, id := range ids {
			out[id] = true
		}
	}
	if len(out) == 0 {
		if known.state == ch.New {
			return known, listedUnchanged
		}
		s := *known
		s.state = ch.New
		return &s, listedUnchanged
	}
	var l listing
	l.addAll(known, out)
	left := len(l.order)
	for _, e := range there {
		if e.Mailboxes[m.mailbox] && !e.Keywords[HiddenKeyword] {
			l.add(e)
		}
	}
	how = listedAdded
	if left < known.len() {
		how = listedRemoved
	}
	s = l.freeze()
	s.state = ch.New
	return s, how
}

// endsWith reports whether the message of list, of one or none, is the last of the
// snapshot. The server may have several of the last second in another order.
func (s *snapshot) endsWith(list []email) bool {
	if s.len() == 0 || len(list) != 1 {
		return s.len() == 0 && len(list) == 0
	}
	e, end := list[0], s.received.at(s.len()-1)
	if e.Received.UnixMilli() != end {
		return false
	}
	for i := s.len() - 1; i >= 0 && s.received.at(i) == end; i-- {
		if string(s.ids.append(nil, i)) == e.ID {
			return s.octets.at(i) == e.Size
		}
	}
	return false
}
