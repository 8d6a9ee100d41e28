package imap

import (
	"context"

	imap2 "github.com/emersion/go-imap/v2"

	"github.com/popgate/popgate/upstream"
)

// opensForReading reports whether the mailbox may be read under EXAMINE. Where
// it may not, it is read under SELECT, with BODY.PEEK all the same.
//
// Courier-IMAP 5.0.13 makes up UIDs for mail that no SELECT has seen, and
// forgets them (the same for UIDVALIDITY, before the first SELECT):
//
//	SELECT                     UIDVALIDITY 795560978, UID 1 = first
//	(mail "third" arrives)
//	EXAMINE                    UIDVALIDITY 795560978, UID 1 = first, 2 = third
//	(mail "second" arrives, with an older time in its file's name)
//	EXAMINE                    UIDVALIDITY 795560978, UID 1 = first, 2 = second, 3 = third
//
// A unique-id from such a list would mean another message later, and a deletion
// would hit it. No response tells of it. Servers with one of these extensions
// keep an index of their messages, and EXAMINE fixes what it tells: checked for
// Dovecot 2.3.19 and Cyrus 3.6.1.
func (c capabilities) opensForReading() bool {
	return c.has("CONDSTORE") || c.has("QRESYNC") || c.has("MOVE") || c.has("OBJECTID")
}

// stillThere checks that message i, whose body is not of its listed size, is in
// the mailbox, and remembers then that this server's sizes are inexact.
//
// Courier-IMAP 5.0.13 makes up a message in place of one that another client
// expunged, until it has told of the expunge:
//
//	UID FETCH 2 (UID BODY.PEEK[])   * 2 FETCH (UID 2 BODY[] {129}) "... This message is no longer available ..."
//	NOOP                            * 2 EXPUNGE
//	UID FETCH 2 (UID BODY.PEEK[])   nothing
//
// A client would keep that text as the message, and delete what is left of it.
func (m *maildrop) stillThere(ctx context.Context, i int) error {
	if err := m.conn.noop(ctx); err != nil {
		return err
	}
	uid := imap2.UIDSetNum(imap2.UID(m.uids[i]))
	found, _, err := m.conn.search(ctx, &imap2.SearchCriteria{UID: []imap2.UIDSet{uid}}, nil, 2)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return failf(upstream.Gone, opFetch, "the server gives another body for a message that is not there")
	}
	m.inexact, m.aheadFailed = true, 0
	return nil
}
