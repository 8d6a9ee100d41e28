package imapguard

import (
	"bytes"
	"strconv"
)

// kind is what a response is to the guard.
type kind uint8

const (
	kindOther   kind = iota // of no use to anybody here
	kindStatus              // tagged or untagged OK, NO, BAD, BYE, and "+"
	kindFlags               // FLAGS, or OK [PERMANENTFLAGS ...]
	kindList                // FETCH while a listing is under way
	kindSearch              // SEARCH
	kindESearch             // ESEARCH
	kindBody                // FETCH of the awaited body
	kindExists              // EXISTS
	kindData                // LIST, NAMESPACE
)

type response struct {
	kind       kind
	pass       bool // the library gets it
	structured bool // may hold quoted strings, parentheses and literals
	status     Status
}

// classify looks at the first piece of a response.
func classify(piece []byte, expect *Expect) response {
	line := trimLineEnd(piece)
	if len(line) == 0 {
		return response{} // an empty line is no response, but some servers send it
	}
	if line[0] == '+' {
		return response{kind: kindData, pass: true}
	}
	if line[0] != '*' { // tagged
		st, _ := parseStatus(line)
		return response{kind: kindStatus, pass: true, status: st}
	}
	if st, ok := parseStatus(line); ok {
		switch {
		case st.Type == "OK" && st.Code == "PERMANENTFLAGS":
			return response{kind: kindFlags, pass: true, status: st}
		case st.Type == "OK" && (st.Code == "UIDVALIDITY" || st.Code == "UIDNEXT"):
			return response{kind: kindStatus, pass: true, status: st}
		}
		return response{kind: kindStatus, status: st}
	}
	word, rest := nextWord(line[1:])
	if isNumber(word) {
		word, rest = nextWord(rest)
		switch {
		case equalFold(word, "EXISTS"):
			return response{kind: kindExists, pass: true}
		case equalFold(word, "FETCH") && expect.List != nil:
			return response{kind: kindList, structured: true}
		case equalFold(word, "FETCH"):
			ours := (expect.Body != 0 || expect.Bodies) && containsFold(rest, "BODY[")
			return response{kind: kindBody, pass: ours, structured: true}
		}
		return response{structured: true}
	}
	switch {
	case equalFold(word, "SEARCH"):
		return response{kind: kindSearch}
	case equalFold(word, "ESEARCH"):
		return response{kind: kindESearch, structured: true}
	case equalFold(word, "FLAGS"):
		return response{kind: kindFlags, pass: true}
	case equalFold(word, "LIST"), equalFold(word, "NAMESPACE"):
		return response{kind: kindData, pass: true, structured: true}
	}
	return response{structured: true}
}

// ParseStatus reads a line of the form "* NO [CODE args] text"; the Type is
// empty if the line is no status response.
func ParseStatus(line []byte) Status {
	st, _ := parseStatus(line)
	return st
}

// parseStatus reads "tag|* OK|NO|BAD|BYE|PREAUTH [CODE args] text".
func parseStatus(line []byte) (Status, bool) {
	_, rest := nextWord(line)
	word, rest := nextWord(rest)
	var st Status
	for _, t := range []string{"OK", "NO", "BAD", "BYE", "PREAUTH"} {
		if equalFold(word, t) {
			st.Type = t
		}
	}
	if st.Type == "" {
		return st, false
	}
	if len(rest) > 0 && rest[0] == '[' {
		if end := bytes.IndexByte(rest, ']'); end > 0 {
			code, _ := nextWord(rest[1:end])
			st.Code = printable(bytes.ToUpper(code), 40)
			rest = bytes.TrimPrefix(rest[end+1:], []byte(" "))
		}
	}
	st.Text = printable(rest, 200)
	return st, true
}

// printable returns at most max octets of b, each 0x20 to 0x7E or '?'.
func printable(b []byte, max int) string {
	if len(b) > max {
		b = b[:max]
	}
	out := make([]byte, len(b))
	for i, c := range b {
		if c < 0x20 || c > 0x7e {
			c = '?'
		}
		out[i] = c
	}
	return string(out)
}

// upperCode folds the response code of a status line to upper case in place:
// codes are case-insensitive, but the library compares them as they are.
func upperCode(piece []byte) {
	open := bytes.IndexByte(piece, '[')
	if open < 0 {
		return
	}
	for i := open + 1; i < len(piece) && piece[i] != ' ' && piece[i] != ']'; i++ {
		if piece[i] >= 'a' && piece[i] <= 'z' {
			piece[i] -= 'a' - 'A'
		}
	}
}

// hideCapabilities makes a code that the library passes over of CAPABILITY, in
// place, after [upperCode]. The library spins for ever over a list in it, and
// what it took the server to be able to do would no longer be what [Handover]
// told it: without MOVE it removes by EXPUNGE.
func hideCapabilities(piece []byte) {
	open := bytes.IndexByte(piece, '[')
	if open >= 0 && bytes.HasPrefix(piece[open+1:], []byte("CAPABILITY")) {
		piece[open+1] = 'X'
	}
}

// legalFlags makes every flag between the parentheses one that the grammar
// allows, in place: servers that take any keyword list it as it is, and the
// library drops the connection over it. Such a flag is never one of ours.
func legalFlags(piece []byte) {
	open := bytes.IndexByte(piece, '(')
	end := bytes.LastIndexByte(piece, ')')
	for i := open + 1; open >= 0 && i < end; i++ {
		switch c := piece[i]; {
		case c == ' ' || c == '\\' || c == '*':
		case c < 0x20 || c > 0x7e || bytes.IndexByte([]byte(`(){%"]`), c) >= 0:
			piece[i] = '_'
		}
	}
}

// missingUID returns the place behind "(" where a UID has to be put, or 0 if
// there is one before the body already. Only one body is ever asked for at a
// time, so the UID is known; the one that follows the body is checked by who
// asked.
func missingUID(piece []byte) int {
	open := bytes.IndexByte(piece, '(')
	body := indexFold(piece, "BODY[")
	if open < 0 || body < open {
		return 0
	}
	if head := piece[open:body]; containsFold(head, "(UID ") || containsFold(head, " UID ") {
		return 0
	}
	return open + 1
}

func appendUID(dst []byte, uid uint32) []byte {
	dst = strconv.AppendUint(append(dst, "UID "...), uint64(uid), 10)
	return append(dst, ' ')
}

func nextWord(b []byte) (word, rest []byte) {
	b = bytes.TrimLeft(b, " ")
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

func isNumber(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

func equalFold(b []byte, upper string) bool {
	return len(b) == len(upper) && hasPrefixFold(b, upper)
}

func hasPrefixFold(b []byte, upper string) bool {
	if len(b) < len(upper) {
		return false
	}
	for i := range len(upper) {
		c := b[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

func indexFold(b []byte, upper string) int {
	for i := 0; i+len(upper) <= len(b); i++ {
		if hasPrefixFold(b[i:], upper) {
			return i
		}
	}
	return -1
}

func containsFold(b []byte, upper string) bool { return indexFold(b, upper) >= 0 }
