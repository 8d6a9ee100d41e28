package imap

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
	return c["CONDSTORE"] || c["QRESYNC"] || c["MOVE"] || c["OBJECTID"]
}
