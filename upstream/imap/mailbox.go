package imap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

const (
	inbox      = "INBOX"
	maxMailbox = 1024 // octets of a mailbox name in UTF-8
)

// checkMailbox says what is wrong with a name that a client or the operator gave
// to a mailbox. Wildcards are no fault: names are never patterns here.
func checkMailbox(name string) error {
	switch {
	case name == "" || len(name) > maxMailbox:
		return fmt.Errorf("a mailbox name of %d octets: it has to have 1 to %d", len(name), maxMailbox)
	case !utf8.ValidString(name):
		return errors.New("a mailbox name that is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("a mailbox name with control characters")
	}
	return nil
}

// canonical writes INBOX in one way (RFC 3501 section 5.1).
func canonical(name string) string {
	if strings.EqualFold(name, inbox) {
		return inbox
	}
	return name
}

// A naming is how a server names the mailboxes of a user.
type naming struct {
	separator string   // between the levels of a name; "" where there are none
	personal  string   // what the user's own begin with
	all       []string // what the names of each namespace begin with
}

// resolve makes the server's name of the mailbox out of the client's, under
// Options.Hierarchy: the levels are separated as the server does it, and the
// prefix of the personal namespace (RFC 2342) is put in front of what does not
// begin with that of any.
func (id *identity) resolve(ctx context.Context, c *conn) error {
	separator := id.store.o.Hierarchy
	if separator == "" || id.box == inbox {
		return nil
	}
	n, err := c.naming(ctx)
	if err != nil {
		return err
	}
	id.box = n.name(id.box, separator)
	if err := checkMailbox(id.box); err != nil {
		return fail(upstream.Internal, opMailboxes, err)
	}
	return nil
}

func (n naming) name(path, separator string) string {
	if n.separator != "" {
		path = strings.ReplaceAll(path, separator, n.separator)
		if first, rest, ok := strings.Cut(path, n.separator); ok {
			path = canonical(first) + n.separator + rest
		}
	}
	for _, prefix := range n.all {
		if prefix != "" && strings.HasPrefix(path, prefix) {
			return path
		}
	}
	return n.personal + path
}

// naming asks how the server names mailboxes, once for a connection.
func (c *conn) naming(ctx context.Context) (naming, error) {
	if c.named != nil {
		return *c.named, nil
	}
	var n naming
	err := c.do(ctx, opMailboxes, c.store.o.CommandTime, imapguard.Expect{}, func() error {
		if c.caps.has("NAMESPACE") {
			return n.fromNamespace(c)
		}
		list := c.client.List("", "", nil) // RFC 3501 section 6.3.8: the separator and no mailbox
		for m := list.Next(); m != nil; m = list.Next() {
			n.separator = text(m.Delim)
		}
		return list.Close()
	})
	if err != nil {
		return n, err
	}
	c.named = &n
	return n, nil
}

func (n *naming) fromNamespace(c *conn) error {
	data, err := c.client.Namespace().Wait()
	if err != nil {
		return err
	}
	if len(data.Personal) > 0 {
		n.personal, n.separator = data.Personal[0].Prefix, text(data.Personal[0].Delim)
	}
	for _, d := range append(append(data.Personal, data.Other...), data.Shared...) {
		n.all = append(n.all, d.Prefix)
		if n.separator == "" {
			n.separator = text(d.Delim)
		}
	}
	return nil
}

// text is a separator as text; the library gives 0 for NIL.
func text(delim rune) string {
	if delim == 0 {
		return ""
	}
	return string(delim)
}

// unopened explains why a mailbox could not be opened. Of a mailbox other than
// INBOX a NO without a code says mostly that it is not there or may not be read,
// which waiting does not cure; and it is no wrong password.
func unopened(box string, err error, last imapguard.Status) error {
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok || box == inbox {
		return err
	}
	kind := e.Kind
	if kind == upstream.Unavailable && last.Type == "NO" && last.Code == "" && !soundsTemporary(last.Text) {
		kind = upstream.Internal
	}
	return failf(kind, opSelect, "mailbox %q: %w", box, e.Err)
}
