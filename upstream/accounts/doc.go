// Package accounts is a file of local accounts: users whom popgate proves itself,
// to use other credentials at the mail service, or none of the client's.
//
// A line is an account, `user:hash` and, as far as there are any, attributes:
//
//	# of the scanner on the first floor
//	scanner:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$...:upstream-user=ann@example.net:upstream-password=s3cret
//	old-fax::shared-secret=tanstaaf:mailbox=Fax
//	carol::external:upstream-password=100%25
//
//	shared-secret      proves the client by APOP, CRAM-MD5 and SCRAM-SHA-256, and
//	                   as its password where there is no hash
//	external           a verified client certificate of this user proves it
//	upstream-user      the user at the mail service; else the client's own
//	upstream-password  the password there; else the client's own
//	mailbox            the mailbox that is the maildrop
//
// It is the form of passwd(5): a line is edited with any editor, found with grep
// and moved with cut, and what `htpasswd -B` writes is a right file. A colon, a
// percent sign and what cannot be seen are written %3A, %25 and so on. The hash is
// argon2id in the PHC form or bcrypt ($2a$, $2b$, $2y$), or nothing. Lines that
// begin with # and empty ones are passed over. Names are the same in any case of
// ASCII and other letters, as the stores take them.
//
// Invariants:
//
//   - A file is taken as a whole or not at all. Every problem is told with its
//     line and what to do, and no problem repeats what may be a secret.
//   - Whoever gives a password costs one hash: one without an account or without a
//     hash that of an account that its name picks, so that neither the time nor its
//     distribution tells the two apart.
//   - An account proves the client for its own maildrop alone: other authorization
//     identities are refused, and bearer tokens, which prove nothing to popgate.
//   - [Edit] replaces the file in one step, keeps all other lines as they are, and
//     leaves it readable by its owner alone.
//
// Limits: 16 MiB a file, 4 KiB a line; a hash takes 64 MiB at most, and
// Options.Hashes are reckoned at a time; others wait as long as their context.
package accounts
