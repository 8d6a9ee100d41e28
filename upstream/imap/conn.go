package imap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	imap2 "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

// conn is one authenticated connection: go-imap's client over a guard, one
// command at a time. It is not safe for concurrent use.
type conn struct {
	store  *Store
	guard  *imapguard.Conn
	client *imapclient.Client
	caps   capabilities
	proved time.Time // when the login began that the server said OK to
	named  *naming   // how the server names mailboxes, once that was asked
	dead   bool      // no further command may be sent
	closed bool

	// untried: it has waited between two sessions, and no command has been
	// answered since.
	untried bool
}

// newConn hands a dialogue, whose login began at proved and has succeeded, over to
// go-imap's client.
func newConn(s *Store, d *dialogue, proved time.Time) *conn {
	// What the library is shown decides how it writes: literals, MOVE, and mailbox
	// names. These are in modified UTF-7 until UTF8=ACCEPT or IMAP4rev2 is enabled,
	// which is never done here; a server that has no IMAP4rev1 takes UTF-8 (RFC
	// 9051 section 5.1).
	names := []string{"IMAP4rev1"} // as the library spells it
	if d.caps.has("IMAP4REV2") && !d.caps.has("IMAP4REV1") {
		names[0] = "IMAP4rev2"
	}
	for _, name := range []string{"LITERAL+", "LITERAL-", "MOVE", "UIDPLUS"} {
		if d.caps.has(name) {
			names = append(names, name)
		}
	}
	d.guard.Handover(names...)
	c := &conn{store: s, guard: d.guard, caps: d.caps, proved: proved, client: imapclient.New(d.guard, nil)}
	if c.client.WaitGreeting() != nil {
		c.dead = true
	}
	c.guard.End()
	s.o.Trace.connection(1)
	return c
}

// alive reports whether a command may be sent: no command failed halfway, and
// the server has not closed the connection as far as is known.
func (c *conn) alive() bool {
	if c.dead {
		return false
	}
	select {
	case <-c.client.Closed():
		return false
	default:
		return true
	}
}

// do runs one command, f, within limit. If ctx or the limit ends first the
// connection is closed under it. An error that is not the server's tagged reply
// leaves the connection dead.
func (c *conn) do(ctx context.Context, op string, limit time.Duration, e imapguard.Expect, f func() error) error {
	if !c.alive() {
		return failf(upstream.Unavailable, op, "the connection to the server is lost")
	}
	if c.untried {
		limit = min(limit, firstAnswer)
	}
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	c.guard.Begin(e)
	stop := context.AfterFunc(ctx, func() { c.guard.Abort() })
	err := f()
	aborted := !stop()
	if c.untried && (err == nil || refused(err)) {
		c.untried = false
		c.store.o.Trace.reused()
	}
	if err != nil {
		if !refused(err) || aborted {
			c.abandon()
		}
		err = classify(ctx, op, err, c.guard.Status())
	} else if aborted {
		c.abandon() // answered in the last moment; the next command finds it out
	}
	if !c.dead {
		c.guard.End()
	}
	c.store.traceEnd(op, start, err)
	return err
}

// abandon closes the connection and waits for the client's reader to end. No
// literal may be open.
func (c *conn) abandon() {
	c.dead = true
	c.guard.Abort()
	c.client.Close()
}

// close takes leave of the server without waiting for its answer.
func (c *conn) close() {
	if c.closed {
		return
	}
	c.closed = true
	if c.alive() {
		c.dead = true
		c.guard.Hurry(time.Second)
		c.client.Logout()
		c.guard.Close()
	}
	c.abandon()
	c.store.o.Trace.connection(-1)
}

// mailbox is what SELECT or EXAMINE told.
type mailbox struct {
	exists       uint32
	uidValidity  uint32
	uidNext      uint32 // 0 if the server does not tell
	hasHidden    bool   // some message may have the hidden keyword
	canDelete    bool   // PERMANENTFLAGS admits \Deleted
	canHide      bool   // PERMANENTFLAGS admits the hidden keyword
	canSee       bool   // PERMANENTFLAGS admits \Seen
	uidNotSticky bool
	readOnly     bool
}

// selectMailbox is EXAMINE, or SELECT for UPDATE.
func (c *conn) selectMailbox(ctx context.Context, box string, readOnly bool) (mailbox, error) {
	var m mailbox
	err := c.do(ctx, opSelect, c.store.o.CommandTime, imapguard.Expect{}, func() error {
		data, err := c.client.Select(box, &imap2.SelectOptions{ReadOnly: readOnly}).Wait()
		if err != nil {
			return err
		}
		if !c.guard.SawExists() {
			// Required by RFC 3501 section 6.3.1. No number is not 0: clients
			// forget what a list lacks.
			return failf(upstream.Unavailable, opSelect, "the server does not tell how many messages there are")
		}
		// Without PERMANENTFLAGS every flag is permanent (RFC 3501 section
		// 6.3.1). With \* so is one that the server does not list; a system
		// flag in FLAGS that is missing here is not.
		free := !c.guard.Saw("PERMANENTFLAGS")
		open := hasFlag(data.PermanentFlags, string(imap2.FlagWildcard))
		admits := func(flag string) bool {
			return free || hasFlag(data.PermanentFlags, flag) || open && !(flag[0] == '\\' && hasFlag(data.Flags, flag))
		}
		m = mailbox{
			exists: data.NumMessages, uidValidity: data.UIDValidity, uidNext: uint32(data.UIDNext),
			hasHidden:    hasFlag(data.Flags, HiddenKeyword) || hasFlag(data.PermanentFlags, HiddenKeyword),
			canDelete:    admits(string(imap2.FlagDeleted)),
			canSee:       admits(string(imap2.FlagSeen)),
			canHide:      admits(HiddenKeyword),
			uidNotSticky: c.guard.Saw("UIDNOTSTICKY"),
			readOnly:     c.guard.Saw("READ-ONLY"),
		}
		return nil
	})
	if err != nil {
		err = unopened(box, err, c.guard.Status())
	}
	return m, err
}

func hasFlag(flags []imap2.Flag, name string) bool {
	for _, f := range flags {
		if strings.EqualFold(string(f), name) {
			return true
		}
	}
	return false
}

// sizes calls list for each message of set, with its sequence number; they come
// in any order.
func (c *conn) sizes(ctx context.Context, set imap2.UIDSet, list func(number, uid uint32, size int64)) error {
	return c.do(ctx, opList, c.store.o.ListTime, imapguard.Expect{List: list}, func() error {
		return c.client.Fetch(set, &imap2.FetchOptions{UID: true, RFC822Size: true}).Close()
	})
}

// search returns the UIDs that match. The server may tell at most max numbers and
// ranges: one that tells more does not answer what it was asked. told is false
// if the server answered OK and no more: so do some for nothing found (iCloud),
// against RFC 3501 section 6.4.4, and so does one that did not look.
func (c *conn) search(ctx context.Context, criteria *imap2.SearchCriteria, options *imap2.SearchOptions, max int) (found uidRanges, told bool, err error) {
	n := 0
	take := func(first, last uint32) {
		if n++; n <= max {
			found = found.add(first, last)
		}
	}
	err = c.do(ctx, opSearch, c.store.o.ListTime, imapguard.Expect{Search: take}, func() error {
		_, err := c.client.UIDSearch(criteria, options).Wait()
		told = c.guard.SawSearch()
		return err
	})
	if err == nil && n > max {
		err = failf(upstream.Unavailable, opSearch, "the server finds more than %d messages", max)
	}
	return found.sorted(), told, err
}

// searchAll returns the UIDs of all messages: as ranges where the server has
// ESEARCH (RFC 4731), else one by one.
func (c *conn) searchAll(ctx context.Context, max int) (uidRanges, error) {
	found, _, err := c.search(ctx, &imap2.SearchCriteria{}, c.inRanges(), max)
	return found, err
}

// inRanges asks for what is found as ranges, where the server can.
func (c *conn) inRanges() *imap2.SearchOptions {
	if !c.caps.has("ESEARCH") {
		return nil
	}
	return &imap2.SearchOptions{ReturnAll: true}
}

// addFlag adds one flag to the messages of set.
func (c *conn) addFlag(ctx context.Context, set imap2.UIDSet, flag imap2.Flag) error {
	return c.do(ctx, opStore, c.store.o.CommandTime, imapguard.Expect{}, func() error {
		return c.client.Store(set, &imap2.StoreFlags{Op: imap2.StoreFlagsAdd, Silent: true, Flags: []imap2.Flag{flag}}, nil).Close()
	})
}

// expunge removes the messages of set that are flagged \Deleted, and no other
// (RFC 4315 section 2.1). Only with UIDPLUS.
func (c *conn) expunge(ctx context.Context, set imap2.UIDSet) error {
	return c.do(ctx, opExpunge, c.store.o.CommandTime, imapguard.Expect{}, func() error {
		return c.client.UIDExpunge(set).Close()
	})
}

// move moves the messages of set (RFC 6851 section 3.2). Only with MOVE:
// without it the library would expunge what is not in set.
func (c *conn) move(ctx context.Context, set imap2.UIDSet, to string) error {
	return c.do(ctx, opMove, c.store.o.CommandTime, imapguard.Expect{}, func() error {
		_, err := c.client.Move(set, to).Wait()
		return err
	})
}

// copy copies the n messages of set. Where the server tells what it copied
// (RFC 4315 section 3), it has to be all of them.
func (c *conn) copy(ctx context.Context, set imap2.UIDSet, n int, to string) error {
	return c.do(ctx, opCopy, c.store.o.CommandTime, imapguard.Expect{}, func() error {
		data, err := c.client.Copy(set, to).Wait()
		if err != nil {
			return err
		}
		if len(data.SourceUIDs) > 0 {
			if got := count(data.SourceUIDs); got != uint64(n) {
				return failf(upstream.Unavailable, opCopy, "the server copied %d of %d messages", got, n)
			}
		}
		return nil
	})
}

func (c *conn) noop(ctx context.Context) error {
	return c.do(ctx, opNoop, c.store.o.CommandTime, imapguard.Expect{}, func() error {
		return c.client.Noop().Wait()
	})
}

// trash returns the name of the mailbox with the \Trash use (RFC 6154 section
// 2), which servers write in any case of letters.
func (c *conn) trash(ctx context.Context) (string, error) {
	var options *imap2.ListOptions
	if c.caps.has("SPECIAL-USE") {
		options = &imap2.ListOptions{SelectSpecialUse: true}
	}
	var name string
	err := c.do(ctx, opMailboxes, c.store.o.CommandTime, imapguard.Expect{}, func() error {
		list := c.client.List("", "*", options)
		for m := list.Next(); m != nil; m = list.Next() {
			for _, attr := range m.Attrs {
				if name == "" && strings.EqualFold(string(attr), `\Trash`) {
					name = m.Mailbox
				}
			}
		}
		return list.Close()
	})
	if err == nil && name == "" {
		err = fail(upstream.Internal, opMailboxes, errors.New(`the server names no mailbox with the \Trash use; name the trash mailbox in the configuration`))
	}
	return name, err
}
