// Package jmap shows one JMAP mailbox (RFC 8620, RFC 8621) as a maildrop, over
// a small HTTP client of its own.
//
// How POP3 maps to JMAP:
//
//   - Login reads the session resource (RFC 8620 section 2) with the client's
//     credentials.
//   - Open finds the mailbox, by its role or by its name, and lists it: Email/query
//     and, by a back reference in the same request, Email/get, page after page.
//     The messages are put in order here, oldest first with the id as tie-break. A
//     list that is known from an earlier session is continued by Email/changes.
//   - A unique-id is the id of the Email, folded past 70 octets. This is a file
//     format: it never changes.
//   - Retrieve downloads the blob, and begins to download those that follow, if two
//     messages in a row were asked for. TOP of a large message asks for growing ranges
//     of it; a server that knows no ranges sends the whole, and is cut short.
//   - Update is Email/set of exactly the Emails that were marked, as the [Policy]
//     says. Before it and after it Email/get tells which of them are in the
//     mailbox: the second time is the proof.
//
// Invariants:
//
//   - Credentials go to the origin of [Options.URL], to those of [Options.Origins],
//     and to no other. Every request passes one function that sees to it. Redirects
//     are followed for the session resource alone, three at most, within its origin.
//   - A secret that is refused is renewed once, and the request made again, if
//     there is a Renewer; the server has then not acted on it.
//   - A body ends well only after exactly the octets that the listing told, and
//     at the end of the HTTP message. Anything else is an error. The same holds for
//     what is fetched ahead: one body of a batch that is not whole costs the batch.
//   - A list is whole: every id that a query named is told of by the get beside it,
//     and the last page reaches the total. It is continued by what changed only if
//     all is told in one state, the number of messages is right, and the last one
//     is the last of the list: a server that is wrong in two ways about older
//     messages, so that the sum is right, is believed.
//   - An Email is destroyed only if the mailbox is its only one, and only in the
//     state of the account in which that was seen (ifInState). Otherwise it leaves
//     the mailbox, and stays where else it is.
//   - What an Email/set says of each Email is obeyed, HTTP 200 or not, and none of
//     it is proof.
//
// A message with the keyword popgate-hidden is never shown. Servers whose ids
// are made of the content (Cyrus is one) show equal copies in one mailbox as one
// message, under the id that equal messages had before.
//
// Limits: five requests at a time for each session, or maxConcurrentRequests.
// Requests keep to maxObjectsInGet, maxObjectsInSet, maxCallsInRequest and
// maxSizeRequest. Answers are bounded by what was asked for; compressed ones are
// refused. [Options] says how many messages, how long each step. Idle HTTP
// connections are kept for all accounts together: each request carries the
// credentials of its own account.
package jmap
