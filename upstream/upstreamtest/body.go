package upstreamtest

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/popgate/popgate/upstream"
)

// bodies are messages that are easy to get wrong.
var bodies = []struct{ name, text string }{
	{"plain", message("plain")},
	{"no_octets_at_all", ""},
	{"header_only", "Subject: x\r\n\r\n"},
	{"header_without_an_empty_line", "Subject: x\r\n"},
	{"no_final_line_end", "Subject: x\r\n\r\nend"},
	{"final_cr_alone", "Subject: x\r\n\r\nend\r"},
	{"dots", "Subject: x\r\n\r\n.\r\n..\r\n.x\r\n\r\n.\r\n"},
	{"eight_bit", "Subject: x\r\n\r\n\x80\xff\xfeh\xc3\xa9\r\n"},
	{"bare_line_feeds", "Subject: x\n\na\n.\nb\n"},
	{"nul", "Subject: x\r\n\r\na\x00b\r\n"},
	{"words_of_protocols", "Subject: x\r\n\r\n)\r\nA1 OK done\r\n* BYE\r\n{3}\r\n+OK\r\n-ERR\r\n"},
	{"a_line_of_100_000", "Subject: x\r\n\r\n" + strings.Repeat("y", 100_000) + "\r\n"},
	{"one_megabyte", large(1 << 20)},
}

// Bodies, whole and in part.
var bodyTests = func() []test {
	var list []test
	for _, body := range bodies {
		list = append(list, test{"byte_for_byte/" + body.name, func(b *bench) {
			b.deliver(message("before"), body.text, message("after"))
			_, m := b.open()
			if got := m.Size(1); got != int64(len(body.text)) {
				b.Errorf("Size = %d, want %d", got, len(body.text))
			}
			sizes := []int{1, 7, 512, 64 << 10}
			if len(body.text) > 200_000 {
				sizes = []int{1000, 64 << 10}
			}
			for _, size := range sizes {
				b.wantBodyBy(m, 1, body.text, size)
			}
			b.wantBody(m, 2, message("after"))
			b.wantBody(m, 0, message("before"))
		}})
	}
	return append(list,
		test{"top_gives_at_least_header_and_lines", func(b *bench) {
			header := "From: a@example.org\r\nSubject: top\r\n\r\n"
			lines := []string{"one\r\n", "\r\n", ".three\r\n", strings.Repeat("4", 3000) + "\r\n", "five\r\n", "no end"}
			whole := header + strings.Join(lines, "")
			b.deliver(whole)
			_, m := b.open()
			for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, 1 << 30} {
				least := header + strings.Join(lines[:min(n, len(lines))], "")
				b.wantTop(m, 0, n, least, whole)
			}
			b.wantBody(m, 0, whole)
		}},
		test{"top_of_a_large_message", func(b *bench) {
			whole := large(1 << 20)
			b.deliver(whole)
			_, m := b.open()
			for _, n := range []int{0, 10, 1 << 20} {
				// "Subject: large", the empty line, and n lines of 78 octets.
				b.wantTop(m, 0, n, whole[:min(len(whole), 18+78*n)], whole)
			}
			b.wantBody(m, 0, whole)
		}},
		test{"top_of_odd_messages", func(b *bench) {
			odd := []struct{ header, rest string }{
				{"", ""}, {"Subject: x\r\n", ""}, {"Subject: x\r\n\r\n", ""}, {"\r\n", "no header\r\n"}, {"no line end", ""},
			}
			for _, o := range odd {
				b.deliver(o.header + o.rest)
			}
			_, m := b.open()
			for i, o := range odd {
				b.wantTop(m, i, 0, o.header, o.header+o.rest)
				b.wantTop(m, i, 5, o.header+o.rest, o.header+o.rest)
			}
		}},
		test{"a_removed_message_is_gone_and_the_session_goes_on", func(b *bench) {
			all := b.fill(4)
			a, m := b.open()
			want := copyOf(m)
			b.expunge(1)
			for range 2 {
				body, err := b.retrieve(m, 1, upstream.Extent{})
				b.wantError("Retrieve of a removed message", err, upstream.Gone)
				if err == nil {
					b.close(body)
				}
				b.wantBody(m, 2, all[2])
			}
			_, err := b.retrieve(m, 1, upstream.Extent{Top: true})
			b.wantError("Retrieve of the top of a removed message", err, upstream.Gone)
			b.wantBody(m, 0, all[0])
			b.wantListing(m, want, "after a message was gone")
			b.close(a)
			b.wantContents(all[0], all[2], all[3])
		}},
		test{"reading_removes_nothing_and_marks_nothing", func(b *bench) {
			all := b.fill(3)
			a, m := b.open()
			for i := range all {
				b.wantBody(m, i, all[i])
				b.wantTop(m, i, 0, "", all[i])
			}
			b.close(a)
			b.wantContents(all...)
			b.wantSeen(false, false, false)
		}},
	)
}()

// wantTop reads the top of message i: a beginning of whole, and no less than
// least.
func (b *bench) wantTop(m upstream.Maildrop, i, lines int, least, whole string) {
	b.Helper()
	what := fmt.Sprintf("the top of message %d with %d lines", i, lines)
	body, err := b.retrieve(m, i, upstream.Extent{Top: true, Lines: lines})
	if err != nil {
		b.Errorf("%s: %v", what, err)
		return
	}
	defer b.close(body)
	announced := body.Octets()
	got, err := b.read(body, 1000)
	if err != nil {
		b.Errorf("%s: %v", what, err)
	}
	if !strings.HasPrefix(whole, string(got)) {
		b.Errorf("%s is no beginning of it: %.200q", what, got)
	}
	if !bytes.HasPrefix(got, []byte(least)) {
		b.Errorf("%s: %d octets, want at least %d", what, len(got), len(least))
	}
	if announced != -1 && announced != int64(len(got)) {
		b.Errorf("%s: %d octets announced, %d read", what, announced, len(got))
	}
}
