// Package imap shows one IMAP mailbox as a maildrop. It is the only package
// that imports go-imap's client, which it drives over an imapguard.Conn, one
// command at a time.
//
// How POP3 maps to IMAP:
//
//   - Login connects, secures and authenticates: by PLAIN or LOGIN, and an access
//     token by XOAUTH2 or OAUTHBEARER, never as a password. Where STARTTLS is
//     required and not to be had, no credential is sent. A token that the server
//     refuses is renewed once, if it can be, whenever a connection is made.
//   - The maildrop is that of Credentials.Authorize, where that is set: in PLAIN
//     the authorization identity, or a part of the name under
//     [Options.MasterSeparator]; beside a token the user.
//   - The mailbox is Credentials.Mailbox or [Options.Mailbox], by the server's own
//     name or, under [Options.Hierarchy], by a path. INBOX is INBOX in any case of
//     letters. Names go out in modified UTF-7, and to servers without IMAP4rev1 in
//     UTF-8. They are never patterns.
//   - Open is EXAMINE (SELECT on servers whose EXAMINE does not fix UIDs) and one
//     UID FETCH of sizes. The snapshot is what that announced: exactly EXISTS
//     messages, ascending by UID. A list that is short is never shown; it fails
//     the login. With Options.Cache, what is known of the mailbox from an earlier
//     session is not asked for again, as far as UIDVALIDITY, UIDNEXT, EXISTS and
//     the last known message prove that it still holds.
//   - A unique-id is made of UIDVALIDITY and UID, "<UIDVALIDITY>.<UID>" in decimal
//     unless [Options.UniqueIDs] says otherwise (package uidl). This is a file
//     format: clients know their mail by it, and it never changes.
//   - Under [Options.Window] the snapshot is a part of the mailbox, and what was
//     shown of it before: package ledger remembers that, and is written before
//     Open returns.
//   - Retrieve is UID FETCH BODY.PEEK[], streamed. TOP of a large message is
//     fetched in growing pieces. Where messages are asked for one after the
//     other, the next ones come in the same UID FETCH (package readahead).
//   - Update is a fresh SELECT and what the [Policy] says, on exactly the UIDs
//     that were marked. Each step waits for the one before; in the end a UID
//     SEARCH proves that nothing of the set is left.
//
// Invariants:
//
//   - Only UIDs address messages. A range is written only where every number in
//     it was asked for.
//   - Neither EXPUNGE without a UID set nor CLOSE is ever sent, nor anything
//     that changes the mailbox outside Update.
//   - Update changes nothing unless UIDVALIDITY is that of the snapshot, UIDNEXT
//     has not fallen, and, on a new connection, each message at stake has the
//     size of the snapshot.
//   - A message is told to be whole only after the tagged OK of a command that
//     asked for it. What is held ahead is of the listed size and confirmed; if
//     anything was wrong with the command, each message is asked for alone.
//   - The server's UIDVALIDITY has to be there and its UIDs have to be sticky:
//     without them there are no unique-ids, and Open fails.
//   - A connection is used by one session at a time, and by another one after it
//     only under [Options.Reuse], for the same user, secret and maildrop's owner.
//   - The key of an account is the maildrop's, whoever proves it and by whatever
//     name of the mailbox.
//
// Under Reuse the authenticated connection of a session that ended well waits for
// the next session of its account, so that this one needs neither handshake nor
// login. It ended well if no command or body was under way, no Update failed and
// the connection lives. Of the password a keyed digest is kept; other credentials
// go to the server, and leave the waiting connection as it is. How old a login may
// become is counted from the login at the server: a password that was changed or
// taken back there is honoured for that long at most. The next session selects the
// mailbox anew, which expunges nothing (RFC 3501 section 6.4.2).
//
// Without UIDPLUS nothing can be expunged safely: messages are flagged \Deleted,
// and every \Deleted message, whoever flagged it, is left out of snapshots. With
// UIDPLUS they are shown. A message with the keyword popgate-hidden is never
// shown.
//
// Limits: [Options] says how many messages, how long each step, how many
// connections wait; package imapguard bounds what the server may send.
package imap
