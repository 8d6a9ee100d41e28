package proof_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// harnessPatience is how long a popClient waits for one line.
const harnessPatience = time.Hour

// A popClient is a POP3 client that writes down what it saw for
// imaptest.Judge. It asks no questions: it sends what it is told to. One
// goroutine uses it.
type popClient struct {
	h    *harness
	raw  net.Conn
	conn net.Conn // raw, or TLS over it
	in   *bufio.Reader

	greeting popReply
	pending  []popSent // commands whose reply was not read
	events   []imaptest.Event
	lost     error // why no more replies come
}

// popSent is a command that was sent; at is the journal's length before.
type popSent struct {
	line string
	at   int
}

// popReply is a reply to a POP3 command.
type popReply struct {
	ok    bool
	line  string // the status line without CRLF
	text  []byte // of a multi-line reply, dot-stuffing undone
	whole bool   // all of it came
	err   error  // the connection ended
}

func newPopClient(h *harness, conn net.Conn) *popClient {
	c := &popClient{h: h, raw: conn, conn: conn, in: bufio.NewReader(conn)}
	c.greeting = c.status()
	return c
}

// send sends commands in one write.
func (c *popClient) send(lines ...string) {
	at := c.h.imap.Journal().Len()
	for _, l := range lines {
		c.pending = append(c.pending, popSent{l, at})
	}
	c.conn.SetWriteDeadline(time.Now().Add(harnessPatience))
	if _, err := io.WriteString(c.conn, strings.Join(lines, "\r\n")+"\r\n"); err != nil && c.lost == nil {
		// What was sent before may have its replies still to come.
		c.lost = err
	}
}

// do sends one command and reads its reply.
func (c *popClient) do(line string) popReply {
	c.send(line)
	return c.reply()
}

// doAll sends commands in one write and reads their replies.
func (c *popClient) doAll(lines ...string) (replies []popReply) {
	c.send(lines...)
	for range lines {
		replies = append(replies, c.reply())
	}
	return replies
}

// reply reads the reply to the oldest command that has none.
func (c *popClient) reply() popReply {
	sent := c.pending[0]
	r := c.status()
	if r.err != nil {
		return r // it stays pending
	}
	c.pending = c.pending[1:]
	verb, args, _ := strings.Cut(sent.line, " ")
	verb = strings.ToUpper(verb)
	multi := verb == "RETR" || verb == "TOP" || verb == "CAPA" || args == "" && (verb == "LIST" || verb == "UIDL")
	if r.ok && multi {
		c.text(&r)
	}
	c.note(verb, args, sent.at, r)
	return r
}

// line reads a line, without its CRLF.
func (c *popClient) line() (string, error) {
	c.conn.SetReadDeadline(time.Now().Add(harnessPatience))
	line, err := c.in.ReadString('\n')
	if err != nil {
		return line, err
	}
	if !strings.HasSuffix(line, "\r\n") {
		return line, fmt.Errorf("the line %q ends in LF alone", line)
	}
	return line[:len(line)-2], nil
}

func (c *popClient) status() (r popReply) {
	r.line, r.err = c.line()
	r.ok = r.err == nil && strings.HasPrefix(r.line, "+OK")
	if r.err == nil && !r.ok && !strings.HasPrefix(r.line, "-ERR") && !strings.HasPrefix(r.line, "+ ") {
		r.err = fmt.Errorf("%.200q is no status line", r.line)
		c.h.fault(r.err.Error())
	}
	r.whole = r.err == nil
	if r.err != nil {
		c.lost = r.err
	}
	return r
}

// text reads a multi-line reply to its terminator.
func (c *popClient) text(r *popReply) {
	r.whole = false
	var text bytes.Buffer
	for {
		line, err := c.line()
		if err != nil {
			text.WriteString(strings.TrimPrefix(line, "."))
			r.text, r.err, c.lost = text.Bytes(), err, err
			return
		}
		if line == "." {
			r.text, r.whole = text.Bytes(), true
			return
		}
		text.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
	}
}

// note writes down what a reply says.
func (c *popClient) note(verb, args string, at int, r popReply) {
	now := c.h.imap.Journal().Len()
	a, rest, _ := strings.Cut(args, " ")
	n, _ := strconv.Atoi(a)
	add := func(e imaptest.Event) { c.events = append(c.events, e) }
	if verb == "QUIT" {
		add(imaptest.Event{Kind: imaptest.QuitSent, At: at})
		add(imaptest.Event{Kind: imaptest.QuitReplied, At: now, Whole: r.ok})
		return
	}
	if !r.ok {
		return
	}
	switch verb {
	case "LIST", "UIDL":
		lines := []string{strings.TrimPrefix(r.line, "+OK ")}
		if args == "" {
			lines = strings.Split(strings.TrimSuffix(string(r.text), "\r\n"), "\r\n")
		}
		for i, line := range lines {
			if line == "" || !r.whole && i == len(lines)-1 {
				continue // an empty list, or half a line
			}
			number, value, _ := strings.Cut(line, " ")
			e := imaptest.Event{Kind: imaptest.Named, At: now, UIDL: value}
			var err error
			if e.Number, err = strconv.Atoi(number); err == nil && verb == "LIST" {
				e.Kind, e.UIDL = imaptest.Sized, ""
				e.Octets, err = strconv.ParseInt(value, 10, 64)
			}
			if err != nil {
				c.h.fault(fmt.Sprintf("%s has the line %q", verb, line))
			}
			add(e)
		}
	case "DELE":
		add(imaptest.Event{Kind: imaptest.Marked, At: now, Number: n})
	case "RSET":
		add(imaptest.Event{Kind: imaptest.Unmarked, At: now})
	case "RETR":
		e := imaptest.Event{Kind: imaptest.Retrieved, At: now, Number: n, Octets: -1, Body: r.text, Whole: r.whole}
		if told := strings.Fields(r.line); len(told) > 1 {
			if octets, err := strconv.ParseInt(told[1], 10, 64); err == nil {
				e.Octets = octets
			}
		}
		add(e)
	case "TOP":
		lines, _ := strconv.Atoi(rest)
		add(imaptest.Event{Kind: imaptest.Topped, At: now, Number: n, Lines: lines, Body: r.text, Whole: r.whole})
	}
}

// seen is what the client saw. Commands that got no reply may have been carried
// out: a DELE among them counts as a mark, a QUIT as sent, and an RSET does not
// count.
func (c *popClient) seen() []imaptest.Event {
	events := c.events[:len(c.events):len(c.events)]
	for _, p := range c.pending {
		switch verb, args, _ := strings.Cut(p.line, " "); strings.ToUpper(verb) {
		case "DELE":
			n, _ := strconv.Atoi(args)
			events = append(events, imaptest.Event{Kind: imaptest.Marked, At: p.at, Number: n})
		case "QUIT":
			events = append(events, imaptest.Event{Kind: imaptest.QuitSent, At: p.at})
		}
	}
	return events
}

// stls takes the connection to TLS.
func (c *popClient) stls() popReply {
	r := c.do("STLS")
	if !r.ok {
		return r
	}
	config := c.h.ca.ClientConfig()
	config.CurvePreferences = harnessCurves
	secure := tls.Client(c.raw, config)
	c.raw.SetDeadline(time.Now().Add(harnessPatience))
	if err := secure.Handshake(); err != nil {
		c.lost = err
		return popReply{err: err}
	}
	c.conn, c.in = secure, bufio.NewReader(secure)
	return r
}

// login logs in by USER and PASS.
func (c *popClient) login(user, password string) popReply {
	if r := c.do("USER " + user); !r.ok {
		return r
	}
	return c.do("PASS " + password)
}

// auth logs the default user in by AUTH PLAIN.
func (c *popClient) auth() popReply { return c.do("AUTH PLAIN " + harnessPlain) }

var harnessPlain = base64.StdEncoding.EncodeToString([]byte("\x00" + imaptest.DefaultUser + "\x00" + imaptest.DefaultPassword))

// close ends the connection, in whatever state.
func (c *popClient) close() {
	c.raw.Close()
	if c.lost == nil {
		c.lost = errors.New("closed by the client")
	}
}
