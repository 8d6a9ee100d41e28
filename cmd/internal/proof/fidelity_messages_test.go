package proof_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// fidelityMessage is what the mail service holds and what it says of the size.
type fidelityMessage struct {
	class string
	body  string
	size  int64 // RFC822.SIZE as it is claimed
}

// normalised is the text as every client is to have it, made the slow way: CRLF
// line ends, the last one included.
func (m fidelityMessage) normalised() string {
	text := strings.ReplaceAll(strings.ReplaceAll(m.body, "\r\n", "\n"), "\n", "\r\n")
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\r\n"
	}
	return text
}

// top is what TOP with so many lines is to give.
func (m fidelityMessage) top(lines int) string {
	var out []byte
	inBody := false
	for line := range bytes.Lines([]byte(m.body)) {
		if inBody {
			if lines == 0 {
				break
			}
			lines--
		}
		out = append(out, line...)
		inBody = inBody || len(bytes.Trim(line, "\n")) == 0 || string(line) == "\r\n"
	}
	return fidelityMessage{body: string(out)}.normalised()
}

// lines is the number of lines of the whole text.
func (m fidelityMessage) lines() int { return strings.Count(m.normalised(), "\n") }

func fidelityExact(class, body string) fidelityMessage {
	return fidelityMessage{class, body, int64(len(body))}
}

// fidelityTable is the least of every class of SAFETY's list of octets.
func fidelityTable() []fidelityMessage {
	var list []fidelityMessage
	classes := map[string][]string{
		"empty":         {""},
		"header_only":   {"Subject: x\r\n", "Subject: x\r\n\r\n", "Subject: x"},
		"dots":          {".", "..", ".\r\n", "..\r\n", "\r\n.\r\n", "a\r\n.\r\nb\r\n", "...\r\n..\r\n.\r\n", "a.\r\n", ". \r\n", "\r\n.", ".\r\n.\r\n"},
		"bare_lf":       {"\n", "\n\n", "a\nb\n", "\n.\n", "\n.\r\n", "a\n.\nb\n", "a\n..\n", ".\n", "a\n\n.b\n"},
		"bare_cr":       {"\r", "\r\r", "a\rb\r\n", "\r.\r", "a\r.\rb\r\n", "\r\r\n.\r\n", "\r.\r\n", "\n.\r", ".\r", "a\r"},
		"terminators":   {"\r\n.\r\n+OK 0 octets\r\n.\r\n", "\n.\n+OK\n", "\n.\r\n-ERR\r\n", "a\r.\r\n+OK\r\n"},
		"no_final_crlf": {"a", "a\r\nb", "a\nb", "a: b\r\n\r\nbody"},
		"nul":           {"\x00", "a\x00b\r\n", "\r\n\x00.\r\n", "\x00\r\n.\x00\r\n"},
		"8_bit":         {"\xff\xfe\r\n", "\xe2\x82\xac\r\n", "\x80\n\x85.\r\n", "\xff."},
		"blank_line":    {"h: x\n\nbody\n", "h: x\r\n\nbody\r\n.\r\n", "\r\nbody\r\n", "\nbody", "h: x\r\n\r\n.\r\n..\r\n"},
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		for _, b := range classes[class] {
			list = append(list, fidelityExact(class, b))
		}
	}
	return list
}

// fidelityExhaustive is every text of the octets that matter, up to a length.
func fidelityExhaustive(longest int) []fidelityMessage {
	list := []fidelityMessage{fidelityExact("exhaustive", "")}
	for from, n := 0, 1; n <= longest; n++ {
		to := len(list)
		for _, m := range list[from:to] {
			for _, c := range "\r\n.a" {
				list = append(list, fidelityExact("exhaustive", m.body+string(c)))
			}
		}
		from = to
	}
	return list
}

// fidelityRandom makes a message of one class, or of a mix of all.
func fidelityRandom(r *rand.Rand) fidelityMessage {
	pieces := []string{".", "..", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n.\r\n", "\n.\n", "\r\n\r\n", "\x00", "\xff\x80", "\xe2\x82\xac", "word ", "From: x"}
	text := func(n int, from []string) string {
		var b strings.Builder
		for range n {
			b.WriteString(from[r.IntN(len(from))])
		}
		return b.String()
	}
	line := func(n int) string { return strings.Repeat("x", n) }
	crlf := []string{"line\r\n", ".\r\n", "..\r\n", ".hidden\r\n", "\r\n", "a longer line with words\r\n", "\x00\xff\r\n", "h: v\r\n", "a\rb\r\n"}
	switch r.IntN(12) {
	case 0, 1, 2: // what most mail is
		return fidelityExact("crlf_lines", "Subject: "+text(1, crlf)+text(r.IntN(40), crlf))
	case 3:
		return fidelityExact("bare_lf", strings.ReplaceAll(text(r.IntN(40), crlf), "\r\n", "\n"))
	case 4:
		return fidelityExact("lines_over_998", "h: x\r\n\r\n"+line(998+r.IntN(4000))+text(1, pieces)+line(r.IntN(3000))+text(3, pieces))
	case 5: // a size that is not true
		m := fidelityExact("another_size", text(r.IntN(20), crlf))
		m.size += int64(r.IntN(200))
		return m
	case 6: // line ends and dots at the bounds of every buffer on the way
		at := []int{512, 4096, 8192, 16384, 32768, 65536}[r.IntN(6)] - r.IntN(120)
		return fidelityExact("at_a_buffers_end", "h: x\r\n\r\n"+strings.Repeat(line(70)+"\r\n", at/72)+line(at%72)+text(3+r.IntN(20), pieces))
	case 7:
		if r.IntN(40) == 0 {
			return fidelityExact("lines_over_1_MiB", "h: x\r\n\r\n"+line(1<<20+r.IntN(1000))+text(4, pieces)+line(1<<20)+text(4, pieces))
		}
		fallthrough
	default:
		return fidelityExact("mixed", text(r.IntN(60), pieces))
	}
}
