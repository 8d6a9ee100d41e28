package jmap

import (
	"context"
	"slices"

	"github.com/popgate/popgate/upstream"
)

// maxMailboxes bounds the answer to Mailbox/get, in octets.
const maxMailboxes = 8 << 20

// maxDepth bounds how deep a mailbox is looked for.
const maxDepth = 32

// mailbox is what is asked of a Mailbox (RFC 8621 section 2).
type mailbox struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Parent string `json:"parentId"`
	Role   string `json:"role"`
	Rights *struct {
		Remove   bool `json:"mayRemoveItems"`
		Add      bool `json:"mayAddItems"`
		Keywords bool `json:"maySetKeywords"`
	} `json:"myRights"`
}

type mailboxes struct {
	List []mailbox `json:"list"`
}

// call asks for every mailbox.
func (l *mailboxes) call() call {
	return call{"Mailbox/get", map[string]any{
		"ids": nil, "properties": []string{"id", "name", "parentId", "role", "myRights"},
	}, l}
}

// find returns the mailbox of that name, or of that role where the name is empty.
func (l *mailboxes) find(name, role string) (mailbox, bool) {
	if name == "" {
		return l.first(func(m mailbox) bool { return m.Role == role })
	}
	if m, ok := l.first(func(m mailbox) bool { return m.Parent == "" && m.Name == name }); ok {
		return m, ok // the name may hold a "/" itself
	}
	return l.first(func(m mailbox) bool { return l.path(m) == name })
}

func (l *mailboxes) first(is func(mailbox) bool) (mailbox, bool) {
	if i := slices.IndexFunc(l.List, is); i >= 0 && l.List[i].ID != "" {
		return l.List[i], true
	}
	return mailbox{}, false
}

// path is the names from the top to m, joined by "/"; "" where there are too many.
func (l *mailboxes) path(m mailbox) string {
	name := m.Name
	for depth := 0; m.Parent != ""; depth++ {
		parent, ok := l.first(func(p mailbox) bool { return p.ID == m.Parent })
		if !ok || depth == maxDepth {
			return ""
		}
		name, m = parent.Name+"/"+name, parent
	}
	return name
}

// served finds the mailbox that is the maildrop, by client.mailboxName.
func (l *mailboxes) served(name string) (mailbox, error) {
	m, ok := l.find(name, "inbox")
	switch {
	case !ok && name == "":
		return m, failf(upstream.Internal, opMailboxes, "the account has no mailbox with the role inbox")
	case !ok:
		return m, failf(upstream.Internal, opMailboxes, "the account has no mailbox %q", name)
	}
	return m, nil
}

// trash finds the mailbox of the Trash policy.
func (l *mailboxes) trash(o *Options) (mailbox, error) {
	m, ok := l.find(o.Trash, "trash")
	switch {
	case !ok && o.Trash == "":
		return m, failf(upstream.Internal, opMailboxes, "the account has no mailbox with the role trash")
	case !ok:
		return m, failf(upstream.Internal, opMailboxes, "the account has no mailbox %q", o.Trash)
	}
	return m, nil
}

// findMailbox asks which mailbox is served.
func (m *maildrop) findMailbox(ctx context.Context) error {
	var all mailboxes
	if err := m.client.do(ctx, opMailboxes, maxMailboxes, all.call()); err != nil {
		return err
	}
	box, err := all.served(m.client.mailboxName())
	m.mailbox = box.ID
	return err
}
