// Package status shows the last hour of the gateway on one page, for a browser.
//
// It is a leaf beside package metrics: it counts nothing itself, but reads the
// registry every ten seconds into rings of one hour. Rates come from counters,
// and times from the classic buckets of histograms, between whose bounds they
// are estimated; the page says so.
//
// Invariants:
//
//   - No user data. What is shown comes from the registry, whose labels are
//     closed sets; from [Facts], which the operator wrote; and from the log, of
//     which [Page.Watch] keeps the constant message, numbers under a fixed list
//     of names, and words that are in a closed set. Everything else of a line
//     (users, peers, mailboxes, errors) is never read.
//   - No script, and nothing from elsewhere: one document, whose
//     Content-Security-Policy allows its own style sheet and no more.
//   - Text is escaped by html/template; nothing is marked as safe but the style
//     sheet that is part of the program.
//
// Limits: 361 samples of at most 512 columns, 2.9 kB a column; some 240 are in use, and
// 8 more for each further mail server, which is 0.7 MB, and never more than 1.5 MB.
// What the registry tells no more is forgotten. 32 different lines of the log; 64 rows
// of a table, 200 letters of a text. One page is made at a time. What happened within
// ten seconds has one time.
//
// A page of another site that has its own name resolve to this address (DNS
// rebinding) can read what the registry and the page tell, as any program on this
// machine can. There is nothing on it that would have to be kept from them, and
// nothing that a request could change.
//
// All methods are safe for concurrent use.
package status
