package imapguard

import (
	"bufio"
	"io"
)

// scanner is the reader's place in the server's stream, which is a sequence of
// responses: pieces of lines with literals between them.
type scanner struct {
	out     []byte // octets for the library, to be given out before anything else
	rewrite []byte // holds out where a line had to be changed
	err     error  // sticky
	literal int64  // octets of the present literal that are still to come
	inside  bool   // between the first piece of a response and its end
	resp    response
	octets  int // of this response, outside literals
	syntax  syntax
	bodies  int       // literals of this response that were passed on as a body
	search  searchTap // of this response
}

// Read serves go-imap's client.
func (c *Conn) Read(p []byte) (int, error) {
	s := &c.scan
	for {
		switch {
		case len(s.out) > 0:
			n := copy(p, s.out)
			s.out = s.out[n:]
			return n, nil
		case s.err != nil:
			return 0, s.err
		case s.literal > 0:
			if int64(len(p)) > s.literal {
				p = p[:s.literal]
			}
			n, err := c.br.Read(p)
			s.literal -= int64(n)
			if err != nil {
				s.err = insideResponse(err)
				err = nil
			}
			if n > 0 {
				return n, nil
			}
		default:
			s.err = c.next()
		}
	}
}

func insideResponse(err error) error {
	if err == io.EOF {
		return ErrCut
	}
	return err
}

// next reads one piece of a line, at most bufferSize octets, and decides what
// the library gets of it.
func (c *Conn) next() error {
	s := &c.scan
	piece, err := c.br.ReadSlice('\n')
	whole := err == nil
	switch {
	case err == bufio.ErrBufferFull:
	case err == io.EOF && len(piece) == 0 && !s.inside:
		return io.EOF
	case err != nil:
		return insideResponse(err)
	}
	if c.budget.Add(-int64(len(piece))) < 0 {
		return violation("over %d octets of responses to one command", c.lim.Command)
	}
	expect := c.expect.Load()
	first := !s.inside
	if first {
		if whole && expect.List != nil && tapPlainLine(piece, expect.List) {
			return nil
		}
		s.inside, s.octets, s.bodies, s.syntax, s.search = true, 0, 0, syntax{}, searchTap{}
		s.resp = classify(piece, expect)
		c.heardPiece(piece)
	}
	s.octets += len(piece)
	if s.resp.kind != kindSearch && s.resp.kind != kindESearch && s.octets > c.lim.Line {
		return violation("a response line of over %d octets", c.lim.Line)
	}
	literal, isLiteral := int64(0), false
	if s.resp.structured {
		if err := s.syntax.feed(piece, c.lim.Depth); err != nil {
			return err
		}
		if literal, isLiteral = s.syntax.literal(); whole && !isLiteral && s.syntax.quoted {
			return violation("a line end inside a quoted string")
		}
	}
	s.inside = !whole || isLiteral

	if err := c.act(piece, first, whole, expect); err != nil {
		return err
	}
	if whole && isLiteral {
		return c.enterLiteral(literal)
	}
	return nil
}

// act passes a piece on, taps it or drops it.
func (c *Conn) act(piece []byte, first, whole bool, expect *Expect) error {
	s := &c.scan
	if first && s.resp.kind == kindStatus && s.resp.status.Type == "" {
		return violation("a line that is no response")
	}
	if first && s.resp.status.Type != "" {
		c.note(s.resp.status, piece)
		upperCode(piece)
		hideCapabilities(piece)
		if s.resp.status.Type == "BYE" && !s.resp.pass {
			return ErrBye // nothing that follows counts, RFC 3501 section 7.1.5
		}
	}
	switch s.resp.kind {
	case kindList:
		if first && whole && !s.inside {
			return tapLine(piece, expect.List)
		}
		return nil // cut into pieces or with a literal: no listing of ours
	case kindSearch:
		if expect.Search == nil {
			return nil
		}
		c.noteSearch()
		over, err := s.search.numbers(behindName(piece, first), expect.Search)
		if over {
			s.resp.kind = kindOther
		}
		return err
	case kindESearch:
		if expect.Search == nil {
			return nil
		}
		err := s.search.results(behindName(piece, first), expect.Search)
		if s.search.uids {
			c.noteSearch()
		}
		return err
	case kindFlags:
		legalFlags(piece)
	case kindExists:
		c.noteExists()
	}
	if !s.resp.pass {
		return nil
	}
	if first && s.resp.kind == kindBody && expect.Body != 0 {
		if at := missingUID(piece); at > 0 {
			s.rewrite = append(s.rewrite[:0], piece[:at]...)
			s.rewrite = appendUID(s.rewrite, expect.Body)
			s.rewrite = append(s.rewrite, piece[at:]...)
			piece = s.rewrite
		}
	}
	s.out = piece
	return nil
}

// behindName cuts "* SEARCH" off the first piece of a response.
func behindName(piece []byte, first bool) []byte {
	if first {
		_, piece = nextWord(piece[1:])
	}
	return piece
}

// enterLiteral decides about a literal of n octets.
func (c *Conn) enterLiteral(n int64) error {
	s := &c.scan
	c.heardLiteral(n)
	if s.resp.pass && s.resp.kind == kindBody && s.bodies == 0 {
		s.bodies++
		s.literal = n
		return nil
	}
	if n > c.lim.Literal {
		return violation("a literal of %d octets where none of over %d may be", n, c.lim.Literal)
	}
	if c.budget.Add(-n) < 0 {
		return violation("over %d octets of responses to one command", c.lim.Command)
	}
	if s.resp.pass {
		s.literal = n
		return nil
	}
	if _, err := c.br.Discard(int(n)); err != nil {
		return insideResponse(err)
	}
	return nil
}

// syntax follows quoted strings, parentheses and literal headers through the
// pieces of a response.
type syntax struct {
	quoted, escaped bool
	depth           int
	state           literalState
	size            int64
}

type literalState uint8

const (
	noLiteral literalState = iota
	inSize
	afterPlus
	afterBrace
	afterCR
	complete
)

// maxLiteral keeps the arithmetic on literal sizes from overflow.
const maxLiteral = 1 << 62

func (x *syntax) feed(piece []byte, maxDepth int) error {
	for _, b := range piece {
		if x.quoted {
			switch {
			case x.escaped:
				x.escaped = false
			case b == '\\':
				x.escaped = true
			case b == '"':
				x.quoted = false
			}
			continue
		}
		switch {
		case b == '{':
			x.state, x.size = inSize, -1
			continue
		case x.state == inSize && b >= '0' && b <= '9':
			if x.size < 0 {
				x.size = 0
			}
			if x.size = x.size*10 + int64(b-'0'); x.size > maxLiteral {
				return violation("a literal of over 2^62 octets")
			}
			continue
		case x.state == inSize && b == '+':
			x.state = afterPlus
			continue
		case (x.state == inSize || x.state == afterPlus) && b == '}' && x.size >= 0:
			x.state = afterBrace
			continue
		case x.state == afterBrace && b == '\r':
			x.state = afterCR
			continue
		case (x.state == afterBrace || x.state == afterCR) && b == '\n':
			x.state = complete
			continue
		}
		x.state = noLiteral
		switch b {
		case '"':
			x.quoted = true
		case '(':
			if x.depth++; x.depth > maxDepth {
				return violation("parentheses nested over %d deep", maxDepth)
			}
		case ')':
			x.depth--
		}
	}
	return nil
}

// literal reports whether the octets so far end in a literal's header, and the
// literal's size.
func (x *syntax) literal() (int64, bool) {
	return x.size, x.state == complete
}
