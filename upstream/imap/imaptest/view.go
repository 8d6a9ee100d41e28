package imaptest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A view is a mailbox as one session knows it: what it was told, which is not
// what the mailbox holds. The place in seen is the message sequence number less
// one (RFC 3501 section 2.3.1.2).
type view struct {
	box      *mailbox
	readOnly bool
	seen     []seen
	modseq   uint64 // of box when it was last compared
}

type seen struct {
	uid    uint32
	modseq uint64 // of the flags last told
}

func newView(b *mailbox, readOnly bool) *view {
	v := &view{box: b, readOnly: readOnly, modseq: b.modseq}
	for _, m := range b.messages {
		v.seen = append(v.seen, seen{m.uid, m.modseq})
	}
	return v
}

// number returns the message sequence number of uid.
func (v *view) number(uid uint32) (int, bool) {
	i, ok := slices.BinarySearchFunc(v.seen, uid, func(s seen, uid uint32) int { return cmp.Compare(s.uid, uid) })
	return i + 1, ok
}

// told notes that the session knows the present flags of m.
func (v *view) told(m *message) {
	if n, ok := v.number(m.uid); ok {
		v.seen[n-1].modseq = m.modseq
	}
}

// uids returns the UIDs of a set of UIDs or of sequence numbers, ascending.
// UIDs that the session does not know are left out.
func (v *view) uids(set []span, byUID bool) []uint32 {
	last := uint32(len(v.seen))
	if byUID && last > 0 {
		last = v.seen[last-1].uid
	}
	set = resolve(set, last)
	var out []uint32
	for i, s := range v.seen {
		n := uint32(i + 1)
		if byUID {
			n = s.uid
		}
		if contains(set, n) {
			out = append(out, s.uid)
		}
	}
	return out
}

// catchUp brings the view up to the mailbox and returns the untagged responses
// that tell of it. EXPUNGE is left for later where RFC 3501 section 7.4.1
// forbids it.
func (v *view) catchUp(expunge bool) []string {
	if v.modseq == v.box.modseq {
		return nil
	}
	var out []string
	behind := false
	kept := v.seen[:0]
	for _, s := range v.seen {
		if _, ok := v.box.find(s.uid); ok {
			kept = append(kept, s)
			continue
		}
		if !expunge {
			behind = true
			kept = append(kept, s)
			continue
		}
		out = append(out, fmt.Sprintf("* %d EXPUNGE", len(kept)+1))
	}
	v.seen = kept
	from := 0
	if n := len(v.seen); n > 0 {
		from, _ = v.box.find(v.seen[n-1].uid + 1)
	}
	if from < len(v.box.messages) {
		for _, m := range v.box.messages[from:] {
			v.seen = append(v.seen, seen{m.uid, m.modseq})
		}
		out = append(out, fmt.Sprintf("* %d EXISTS", len(v.seen)))
	}
	for i := range v.seen {
		m := v.box.get(v.seen[i].uid)
		if m != nil && m.modseq != v.seen[i].modseq {
			v.seen[i].modseq = m.modseq
			out = append(out, fmt.Sprintf("* %d FETCH (FLAGS %s)", i+1, flagList(m.flags)))
		}
	}
	if !behind {
		v.modseq = v.box.modseq
	}
	return out
}

func flagList(flags []string) string { return "(" + strings.Join(flags, " ") + ")" }
