// Package pop3wire is the octets of POP3: command lines, replies, and message
// text on its way to a client.
//
//   - [Reader] reads command lines and SASL responses, each of bounded length.
//   - [ParseCommand], [ParseNumber] and [ParseCount] take a line apart.
//   - [AppendOK], [AppendErr] and their like make replies.
//   - [Writer] gathers them, and sends what fits in one write.
//   - [DotWriter] writes message text as the multi-line response of RFC 1939
//     section 3, and [TopCut] says where a TOP ends.
//
// Invariants:
//
//   - What is longer than its limit is an error, and nothing behind it in the
//     stream is ever taken for a command.
//   - A line without its line end is never a command.
//   - A terminator is written by [DotWriter.Finish] and by nothing else, and no
//     client, strict about CRLF or not, finds one earlier.
//   - The same octets come out however the input was cut into chunks.
//
// Limits: 512 octets a command line, 16 KiB where a password or a SASL response
// can be on it, message numbers and line counts up to 2^31-1. The package knows
// no clock, no log and no connection.
package pop3wire
