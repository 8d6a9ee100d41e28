package imaptest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	maxLiteral = 64 << 10 // octets of a literal from the client
	maxDepth   = 16       // nested lists
)

// A Command is one command as the server received it.
type Command struct {
	Conn int    // the number of the connection, from 1
	Tag  string // "" for the pseudo verb GREETING
	Verb string // upper case; "UID FETCH" and its like are one verb
	Line string // all behind the tag as received, literals included, credentials redacted
	args []arg
}

// An arg is an atom, a string or a list.
type arg struct {
	kind argKind
	text string
	list []arg
}

type argKind uint8

const (
	atom argKind = iota
	str          // quoted or literal
	list
)

// A syntaxError is answered BAD; the conversation goes on unless end is set.
type syntaxError struct {
	tag, text string
	end       bool
}

func (e *syntaxError) Error() string { return e.text }

// readCommand reads one command with its literals. goOn is asked before each
// synchronising literal and sends the continuation. Without literalPlus a
// non-synchronising literal is a syntax error, and its octets are then read as
// the next command: exactly what makes it dangerous.
func readCommand(br *bufio.Reader, maxLine int, literalPlus bool, goOn func(tag string) error) ([]byte, error) {
	var raw []byte
	for {
		line, err := readLine(br, maxLine)
		raw = append(raw, line...)
		if err != nil {
			return raw, err
		}
		tag, _, _ := strings.Cut(string(bytes.TrimRight(raw[:min(len(raw), 64)], "\r\n")), " ")
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			return raw, &syntaxError{tag: tag, text: "line ends in a bare LF"}
		}
		n, plus, ok := literalAtEnd(line)
		if !ok {
			return raw, nil
		}
		if plus && !literalPlus {
			return raw, &syntaxError{tag: tag, text: "no non-synchronising literals here"}
		}
		if n > maxLiteral {
			return raw, &syntaxError{tag: tag, text: "literal too large", end: plus}
		}
		if !plus {
			if err := goOn(tag); err != nil {
				return raw, err
			}
		}
		at := len(raw)
		raw = append(raw, make([]byte, n)...)
		if got, err := io.ReadFull(br, raw[at:]); err != nil {
			return raw[:at+got], err
		}
	}
}

// readLine reads up to and with LF, of at most limit octets.
func readLine(br *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		frag, err := br.ReadSlice('\n')
		line = append(line, frag...)
		if len(line) > limit {
			return line, &syntaxError{tag: "*", text: "line too long", end: true}
		}
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// literalAtEnd reads {n} or {n+} at the end of a line.
func literalAtEnd(line []byte) (n int64, plus, ok bool) {
	text := strings.TrimSuffix(string(line), "\r\n")
	open := strings.LastIndexByte(text, '{')
	if open < 0 || !strings.HasSuffix(text, "}") {
		return 0, false, false
	}
	digits, plus := strings.CutSuffix(text[open+1:len(text)-1], "+")
	v, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, false, false
	}
	return int64(v), plus, true
}

// parseCommand splits what readCommand gave.
func parseCommand(raw []byte) (Command, error) {
	s := &scanner{in: raw}
	tag := s.word()
	if tag == "" || strings.ContainsAny(tag, "+*(){%\"\\") {
		return Command{}, &syntaxError{tag: "*", text: "no tag"}
	}
	c := Command{Tag: tag, Line: strings.TrimSuffix(string(raw[min(len(tag)+1, len(raw)):]), "\r\n")}
	bad := func(format string, a ...any) (Command, error) {
		return c, &syntaxError{tag: tag, text: fmt.Sprintf(format, a...)}
	}
	args, err := s.args(0)
	if err != nil {
		return bad("%v", err)
	}
	if len(args) == 0 || args[0].kind != atom {
		return bad("no command")
	}
	c.Verb, args = strings.ToUpper(args[0].text), args[1:]
	if c.Verb == "UID" {
		if len(args) == 0 || args[0].kind != atom {
			return bad("UID of what")
		}
		c.Verb, args = "UID "+strings.ToUpper(args[0].text), args[1:]
	}
	c.args = args
	return c, nil
}

// A scanner reads the arguments of a command.
type scanner struct {
	in []byte
	at int
}

func (s *scanner) peek() byte {
	if s.at < len(s.in) {
		return s.in[s.at]
	}
	return 0
}

// word reads up to the next space or line end.
func (s *scanner) word() string {
	from := s.at
	for s.at < len(s.in) && !strings.ContainsRune(" \r\n", rune(s.in[s.at])) {
		s.at++
	}
	return string(s.in[from:s.at])
}

// args reads arguments, each behind one space, up to the end of the line or,
// within a list, up to ")".
func (s *scanner) args(depth int) ([]arg, error) {
	if depth > maxDepth {
		return nil, errors.New("lists too deep")
	}
	var out []arg
	for first := true; ; first = false {
		switch c := s.peek(); {
		case c == ')' && depth > 0:
			s.at++
			return out, nil
		case c == '\r' || c == 0:
			if depth > 0 || !bytes.Equal(s.in[s.at:], []byte("\r\n")) {
				return nil, errors.New("unexpected end")
			}
			return out, nil
		case c == ' ':
			s.at++
		case !first || depth == 0:
			return nil, errors.New("space expected")
		}
		a, err := s.arg(depth)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
}

func (s *scanner) arg(depth int) (arg, error) {
	switch s.peek() {
	case '(':
		s.at++
		l, err := s.args(depth + 1)
		return arg{kind: list, list: l}, err
	case '"':
		return s.quoted()
	case '{':
		return s.literal()
	}
	return s.atom()
}

func (s *scanner) quoted() (arg, error) {
	var b strings.Builder
	for s.at++; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; c {
		case '"':
			s.at++
			return arg{kind: str, text: b.String()}, nil
		case '\r', '\n', 0:
			return arg{}, errors.New("quoted string not closed")
		case '\\':
			s.at++
			if c = s.peek(); c != '"' && c != '\\' {
				return arg{}, errors.New("bad escape in quoted string")
			}
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return arg{}, errors.New("quoted string not closed")
}

func (s *scanner) literal() (arg, error) {
	end := bytes.IndexByte(s.in[s.at:], '\n')
	if end < 0 {
		return arg{}, errors.New("bad literal")
	}
	n, _, ok := literalAtEnd(s.in[s.at : s.at+end+1])
	from := s.at + end + 1
	if !ok || n > int64(len(s.in)-from) {
		return arg{}, errors.New("bad literal")
	}
	s.at = from + int(n)
	return arg{kind: str, text: string(s.in[from:s.at])}, nil
}

// atom reads an atom; within brackets, as in BODY[HEADER.FIELDS (TO)],
// everything belongs to it.
func (s *scanner) atom() (arg, error) {
	from, brackets := s.at, 0
	for ; s.at < len(s.in); s.at++ {
		c := s.in[s.at]
		if c == '[' {
			brackets++
		}
		if c == ']' && brackets > 0 {
			brackets--
		}
		if c == '\r' || c == '\n' || brackets == 0 && (c == ' ' || c == '(' || c == ')' || c == '"' || c == '{') {
			break
		}
	}
	if s.at == from {
		return arg{}, errors.New("argument expected")
	}
	return arg{kind: atom, text: string(s.in[from:s.at])}, nil
}
