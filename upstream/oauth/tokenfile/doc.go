// Package tokenfile keeps refresh tokens: one sealed file for each account, in a
// folder that belongs to popgate alone.
//
// A file for each account, and not one for all: a refresh token changes as often
// as once an hour, and with it one small file is written, however many accounts
// there are.
//
// Invariants:
//
//   - A file is replaced as a whole: written beside the old one, synced, renamed,
//     and the folder synced. Whoever reads, and whenever the machine stops, there
//     is the old record or the new one.
//   - Tokens are sealed with AES-256-GCM. The names of the account and of its grant
//     go into the seal: a record that was copied to another name does not open.
//   - What cannot be opened or read is an error and stays as it is.
//   - Files are 0600 and the folder is 0700; anything wider is refused. What root makes
//     belongs to the owner of the folder, which is the gateway.
//   - A record changes only under its [Lock], which holds among processes too.
//
// Limits: a file has at most 64 KiB, which also bounds its tokens; a folder has at
// most [MaxAccounts] accounts. Names are of 1 to 255 octets. Lock files are empty
// and stay. On systems without flock the lock holds nobody off.
package tokenfile
