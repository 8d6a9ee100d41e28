package realtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// imapTimeout bounds each command of the judge.
const imapTimeout = 20 * time.Second

// An imapConn is the judge's view of a mailbox: a small IMAP client that sends
// one command at a time and keeps every answer as it came. It shares no code
// with the gateway's client.
type imapConn struct {
	conn net.Conn
	r    *bufio.Reader
	tag  int

	delivered int // messages
}

// An imapReply is one untagged response; literals stand apart from the line.
type imapReply struct {
	line     string
	literals [][]byte
}

// imapDial connects and reads the greeting; an empty greeting means that the
// server hung up.
func imapDial(addr string) (*imapConn, string, error) {
	conn, err := net.DialTimeout("tcp", addr, imapTimeout)
	if err != nil {
		return nil, "", err
	}
	c := &imapConn{conn: conn, r: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(imapTimeout))
	greeting, err := c.r.ReadString('\n')
	if err != nil {
		conn.Close()
		return nil, "", nil
	}
	return c, greeting, nil
}

// openIMAP logs in.
func openIMAP(t *testing.T, addr, user, pass string) *imapConn {
	t.Helper()
	c, greeting, err := imapDial(addr)
	if err != nil || c == nil {
		t.Fatalf("IMAP %s: no greeting: %v", addr, err)
	}
	t.Cleanup(func() { c.conn.Close() })
	if !strings.HasPrefix(greeting, "* OK") {
		t.Fatalf("IMAP %s: greeting %q", addr, greeting)
	}
	c.must(t, "LOGIN %q %q", user, pass)
	return c
}

// do sends a command and returns the untagged responses and the tagged line
// without its tag.
func (c *imapConn) do(format string, args ...any) ([]imapReply, string, error) {
	c.tag++
	tag := fmt.Sprintf("j%d", c.tag)
	_ = c.conn.SetDeadline(time.Now().Add(imapTimeout))
	if _, err := fmt.Fprintf(c.conn, "%s %s\r\n", tag, fmt.Sprintf(format, args...)); err != nil {
		return nil, "", err
	}
	return c.readUntil(tag)
}

func (c *imapConn) readUntil(tag string) ([]imapReply, string, error) {
	var all []imapReply
	for {
		reply, err := c.read()
		if err != nil {
			return all, "", err
		}
		if rest, ok := strings.CutPrefix(reply.line, tag+" "); ok {
			return all, rest, nil
		}
		all = append(all, reply)
	}
}

var literalMark = regexp.MustCompile(`\{(\d+)\}$`)

func (c *imapConn) read() (imapReply, error) {
	var reply imapReply
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return reply, err
		}
		line = strings.TrimRight(line, "\r\n")
		reply.line += line
		m := literalMark.FindStringSubmatch(line)
		if m == nil {
			return reply, nil
		}
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 64<<20 {
			return reply, fmt.Errorf("literal of %s octets", m[1])
		}
		lit := make([]byte, n)
		if _, err := io.ReadFull(c.r, lit); err != nil {
			return reply, err
		}
		reply.literals = append(reply.literals, lit)
	}
}

// must is do for a command that has to succeed.
func (c *imapConn) must(t *testing.T, format string, args ...any) []imapReply {
	t.Helper()
	replies, status, err := c.do(format, args...)
	if err != nil || !strings.HasPrefix(status, "OK") {
		t.Fatalf("IMAP %s: %q, %v", strings.Fields(format)[0], status, err)
	}
	return replies
}

// deliver appends messages to INBOX, octet for octet.
func (c *imapConn) deliver(t *testing.T, msgs ...message) {
	t.Helper()
	for _, m := range msgs {
		if err := c.add(m); err != nil {
			t.Fatal(err)
		}
	}
}

// add appends one message, received a second after the one before: the order is then
// the same by UID and by time.
func (c *imapConn) add(m message) error {
	c.delivered++
	return c.addAt(m, time.Date(2026, time.November, 23, 10, 0, c.delivered, 0, time.UTC))
}

// addAt appends one message as received at that time.
func (c *imapConn) addAt(m message, received time.Time) error {
	c.tag++
	tag := fmt.Sprintf("j%d", c.tag)
	_ = c.conn.SetDeadline(time.Now().Add(imapTimeout))
	fmt.Fprintf(c.conn, "%s APPEND INBOX %q {%d}\r\n", tag, received.Format("_2-Jan-2006 15:04:05 -0700"), len(m.octets))
	if reply, err := c.read(); err != nil || !strings.HasPrefix(reply.line, "+") {
		return fmt.Errorf("APPEND %s: %q, %v", m.name, reply.line, err)
	}
	if _, err := c.conn.Write(append(bytes.Clone(m.octets), "\r\n"...)); err != nil {
		return fmt.Errorf("APPEND %s: %w", m.name, err)
	}
	if _, status, err := c.readUntil(tag); err != nil || !strings.HasPrefix(status, "OK") {
		return fmt.Errorf("APPEND %s: %q, %v", m.name, status, err)
	}
	return nil
}

// A stored message is one message as the server has it.
type stored struct {
	uid   uint32
	flags string // as the server wrote them, without \Recent
	body  []byte
}

var (
	uidItem     = regexp.MustCompile(`\bUID (\d+)`)
	flagsItem   = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
	uidValidity = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
	recentFlag  = regexp.MustCompile(`\s*\\Recent\b\s*`)
)

// look reads a whole mailbox in ascending UID order and changes nothing in it.
// It leaves no mailbox selected: Courier appends nothing to one that is
// selected read-only. CLOSE behind EXAMINE removes nothing (RFC 3501 section
// 6.4.2).
func (c *imapConn) look(t *testing.T, mailbox string) []stored {
	t.Helper()
	replies := c.must(t, "EXAMINE %q", mailbox)
	defer c.must(t, "CLOSE")
	for _, r := range replies {
		if strings.HasPrefix(r.line, "* 0 EXISTS") {
			return nil
		}
	}
	var out []stored
	for _, r := range c.must(t, "UID FETCH 1:* (UID FLAGS BODY.PEEK[])") {
		uid := uidItem.FindStringSubmatch(r.line)
		if !strings.Contains(r.line, " FETCH ") || uid == nil || len(r.literals) != 1 {
			continue
		}
		n, err := strconv.ParseUint(uid[1], 10, 32)
		if err != nil {
			t.Fatalf("UID %q: %v", uid[1], err)
		}
		s := stored{uid: uint32(n), body: r.literals[0]}
		if f := flagsItem.FindStringSubmatch(r.line); f != nil {
			s.flags = strings.TrimSpace(recentFlag.ReplaceAllString(f[1], " "))
		}
		out = append(out, s)
	}
	return out
}
