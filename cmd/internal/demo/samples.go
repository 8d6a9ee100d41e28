package demo

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
	"time"
)

// A sample is one message of the demonstration, with CRLF line ends.
type sample struct {
	what string // what it shows, in a few words
	raw  []byte
}

// bigOctets is the size of the large attachment before base64.
const bigOctets = 3 << 20

// samples builds the mailbox, the same on every run.
func samples() []sample {
	forwarded := build(20, "The list of last week", nil, "Nothing new to report.\n")
	return []sample{
		{"plain text", build(1, "Welcome to the demonstration", nil,
			"This mailbox lives in the memory of an IMAP server.\nThe POP3 client that shows you this knows nothing of it.\n")},
		{"HTML beside plain text", alternative(2)},
		{"an attachment", attachment(3, "Minutes of the meeting, attached", "minutes.bin", 12<<10)},
		{"UTF-8 in header and body", build(4, "=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=", utf8Header(),
			"Grüße aus Köln, привет, 日本語, \U0001F4EC.\n")},
		{"lines that begin with a dot", build(5, "Dots at the start of lines", nil,
			".\n..\n...\n.hidden\nThe line above this one begins with a dot.\n.\n")},
		{"an empty body", build(6, "Nothing to say", nil, "")},
		{"a large attachment", attachment(7, "The scans, several megabytes", "scans.bin", bigOctets)},
		{"a line of 998 octets", build(8, "One long line", nil, strings.Repeat("0123456789", 100)[:998]+"\n")},
		{"quoted-printable", quoted(9)},
		{"a forwarded message", forward(10, forwarded)},
		{"no line end after the last line", withoutLineEnd(build(11, "It stops in the middle", nil, "This is the last line, and no line end follows\n"))},
		{"a long thread in the header", build(12, "Re: Re: Re: the plan", thread(), "Agreed.\n")},
	}
}

// build writes one message. The body has LF line ends and gets CRLF.
func build(n int, subject string, more []string, body string) []byte {
	var b strings.Builder
	date := time.Date(2026, time.March, 2, 9, n, 0, 0, time.UTC)
	fmt.Fprintf(&b, "Return-Path: <office@example.com>\n")
	fmt.Fprintf(&b, "Date: %s\n", date.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "From: Office <office@example.com>\n")
	fmt.Fprintf(&b, "To: Reader <reader@example.com>\n")
	fmt.Fprintf(&b, "Subject: %s\n", subject)
	fmt.Fprintf(&b, "Message-ID: <sample-%d@example.com>\n", n)
	fmt.Fprintf(&b, "MIME-Version: 1.0\n")
	if more == nil {
		more = []string{"Content-Type: text/plain; charset=us-ascii"}
	}
	for _, line := range more {
		b.WriteString(line + "\n")
	}
	b.WriteString("\n" + body)
	return []byte(strings.ReplaceAll(b.String(), "\n", "\r\n"))
}

func utf8Header() []string {
	return []string{"Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"}
}

func alternative(n int) []byte {
	return build(n, "The same, twice", []string{`Content-Type: multipart/alternative; boundary="either"`},
		"--either\nContent-Type: text/plain; charset=us-ascii\n\nThe same in plain text.\n"+
			"--either\nContent-Type: text/html; charset=us-ascii\n\n<p>The same in <b>HTML</b>.</p>\n--either--\n")
}

// attachment has size octets that look random, and are the same every time.
func attachment(n int, subject, name string, size int) []byte {
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(data) // never fails
	var lines strings.Builder
	for text := base64.StdEncoding.EncodeToString(data); text != ""; {
		cut := min(76, len(text))
		lines.WriteString(text[:cut] + "\n")
		text = text[cut:]
	}
	return build(n, subject, []string{`Content-Type: multipart/mixed; boundary="part"`},
		"--part\nContent-Type: text/plain; charset=us-ascii\n\nSee the attachment.\n"+
			"--part\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n"+
			fmt.Sprintf("Content-Disposition: attachment; filename=%q\n\n", name)+
			lines.String()+"--part--\n")
}

func quoted(n int) []byte {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte("Prix: 12 \xa4, d\xe9j\xe0 pay\xe9.\nUne ligne assez longue pour que l'encodage la coupe en deux avant sa fin naturelle.\n"))
	_ = w.Close() // a strings.Builder takes everything
	return build(n, "=?iso-8859-15?q?D=E9j=E0_pay=E9?=",
		[]string{"Content-Type: text/plain; charset=iso-8859-15", "Content-Transfer-Encoding: quoted-printable"},
		strings.ReplaceAll(b.String(), "\r\n", "\n"))
}

func forward(n int, inner []byte) []byte {
	return build(n, "Fwd: The list of last week", []string{"Content-Type: message/rfc822"}, strings.ReplaceAll(string(inner), "\r\n", "\n"))
}

func withoutLineEnd(raw []byte) []byte { return raw[:len(raw)-len("\r\n")] }

func thread() []string {
	lines := []string{"Content-Type: text/plain; charset=us-ascii", "References:"}
	for i := range 40 {
		lines = append(lines, fmt.Sprintf(" <plan-%d@example.com>", i))
	}
	return lines
}
