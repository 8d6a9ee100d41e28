package realtest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

// A message of the set that every client must bring home.
type message struct {
	name   string
	octets []byte
}

// bigSize is about the size of the largest message of the set, in octets.
const bigSize = 1 << 20

// bigAt is the index of that message.
const bigAt = 9

// messageSet is what is in each mailbox before a client comes. Their order is
// their POP3 numbering.
func messageSet(user string) []message {
	attachment := make([]byte, 30000)
	for i := range attachment {
		attachment[i] = byte(i * 7)
	}
	lines := base64Lines(attachment)
	set := []struct{ name, extra, body string }{
		{"plain", "", "Hello.\r\n\r\nThis is a message.\r\n"},
		{"dots", "", ".one\r\n..two\r\n...three\r\n.\t\r\nend.\r\n"},
		{"lone_dot", "", "before\r\n.\r\nafter\r\n.\r\n"},
		{"eight_bit", "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n", "Gr\xfc\xdfe \xe4\xf6\xfc\r\n"},
		{"long_lines", "", strings.Repeat("x", 998) + "\r\n" + strings.Repeat("y", 5000) + "\r\n." + strings.Repeat("z", 997) + "\r\n"},
		{"no_final_crlf", "", "the last line has no end"},
		{"empty_body", "", ""},
		{"utf8", "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", "Grüße, 世界, Ελλάδα\r\n"},
		{"attachment", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=frontier\r\n",
			"--frontier\r\nContent-Type: text/plain\r\n\r\nSee the attachment.\r\n--frontier\r\nContent-Type: application/octet-stream\r\n" +
				"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=data.bin\r\n\r\n" + lines + "--frontier--\r\n"},
		{"big", "", strings.Repeat("A line of a message of about one megabyte.\r\n", bigSize/44)},
		{"last", "", "This one comes behind the large one.\r\n"},
	}
	out := make([]message, 0, len(set)+1)
	for i, m := range set {
		out = append(out, newMessage(user, m.name, i+1, m.extra, m.body))
	}
	// Headers and nothing behind them, not even the empty line.
	header := newMessage(user, "header_only", len(set)+1, "", "")
	header.octets = bytes.TrimSuffix(header.octets, []byte("\r\n"))
	return append(out, header)
}

func newMessage(user, name string, n int, extraHeader, body string) message {
	return message{name, fmt.Appendf(nil, "From: Sender <sender@example.net>\r\nTo: %s\r\nSubject: %02d %s\r\n"+
		"Message-ID: <%s.%d@example.net>\r\nDate: Mon, 23 Nov 2026 10:00:%02d +0000\r\n%s\r\n%s",
		user, n, name, name, n, n%60, extraHeader, body)}
}

func base64Lines(data []byte) string {
	var b strings.Builder
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 0 {
		n := min(76, len(text))
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return b.String()
}

// wireForm is what POP3 can carry of a message: RFC 1939 section 3 ends a
// multi-line response with CRLF and a dot, so a last line without CRLF arrives
// with one.
func wireForm(octets []byte) []byte {
	if bytes.HasSuffix(octets, []byte("\r\n")) {
		return octets
	}
	return append(bytes.Clone(octets), "\r\n"...)
}

// lfForm is wireForm for clients that store lines with LF ends.
func lfForm(octets []byte) []byte {
	return bytes.ReplaceAll(wireForm(octets), []byte("\r\n"), []byte("\n"))
}
