// Package oauth turns an account into an access token for its mailbox
// (RFC 6749), so that clients that know passwords alone reach mail services that
// take none.
//
// [Tokens] serves one grant: the consent of each user, kept as a refresh token in
// package tokenfile; or a right of the client's own. [Tokens.Step] puts an access
// token in the place of the secret of a login that a step before has proved.
//
// Invariants:
//
//   - No access token is given out before the refresh token beside it is on disk,
//     and the issuer is not asked while there is no room for it.
//   - The refresh token before the last is kept until the last has worked.
//   - Nothing that an issuer or a mail service answers deletes a refresh token: a
//     person does.
//   - One request at a time for each account, over all processes that share the
//     folder. It goes on when whoever asked hangs up.
//   - A right of the client's own opens the mailboxes of a list and no others.
//   - Secrets leave the process in requests to the token endpoint alone: no
//     redirect is followed, and no text of an error holds one.
//
// An access token is replaced before it ends, while it still serves. A token that
// the mail service refuses is replaced once ([upstream.Renewer]); one that was
// issued within the last 30 seconds is not. Ends are kept by the monotonic clock.
//
// What failed is remembered: a refusal for a minute or until the record changes,
// an issuer that is down for one second and, doubling, up to a minute (or what its
// Retry-After says, up to five). After three failures in a row, whatever the
// accounts, nobody asks the issuer for a while.
//
// Limits: an answer of the issuer has at most 256 KiB, a token 16 KiB. A try takes
// [Options.Time] at most. There are as many accounts in memory as there are files
// in the folder, or mailboxes in the list.
package oauth
