package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	replyTime = 60 * time.Second // for one line or one command
	lineMax   = 64 << 10
	showLines = 16 // of a long reply
)

// A client speaks POP3 and prints what is said. Its first error stays; after
// it, every further step does nothing.
type client struct {
	conn net.Conn
	stop func() bool // lets go of the context
	in   *bufio.Reader
	out  io.Writer
	err  error
}

// dial connects and reads the greeting. The end of ctx closes the connection.
func dial(ctx context.Context, address string, out io.Writer) *client {
	c := &client{out: out}
	conn, err := (&net.Dialer{Timeout: replyTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		c.err = err
		return c
	}
	c.conn, c.in = conn, bufio.NewReaderSize(conn, lineMax)
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() }) // the step under way fails, and tells
	c.reply()
	return c
}

// close may be called more than once.
func (c *client) close() {
	if c.conn != nil {
		c.stop()
		_ = c.conn.Close() // nothing is left to be said on it
	}
}

func (c *client) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// line reads one line, without its end.
func (c *client) line() []byte {
	if c.err != nil {
		return nil
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(replyTime)); err != nil {
		c.err = err
		return nil
	}
	line, err := c.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		c.fail("a line of more than %d octets", lineMax)
		return nil
	case err != nil:
		c.fail("read a line: %w", err)
		return nil
	case !bytes.HasSuffix(line, []byte("\r\n")):
		c.fail("a line that does not end in CR LF: %q", line)
		return nil
	}
	return line[:len(line)-2]
}

// reply reads and prints one status line, which must be +OK.
func (c *client) reply() string {
	line := string(c.line())
	if c.err != nil {
		return ""
	}
	fmt.Fprintf(c.out, "S: %s\n", line)
	if line != "+OK" && !strings.HasPrefix(line, "+OK ") {
		c.fail("the answer is not +OK: %s", line)
	}
	return line
}

// command sends one line and reads its status.
func (c *client) command(text string) string {
	if c.err != nil {
		return ""
	}
	fmt.Fprintf(c.out, "C: %s\n", text)
	if err := c.conn.SetWriteDeadline(time.Now().Add(replyTime)); err != nil {
		c.err = err
		return ""
	}
	if _, err := io.WriteString(c.conn, text+"\r\n"); err != nil {
		c.fail("write %s: %w", text, err)
		return ""
	}
	return c.reply()
}

// multiline sends a command whose reply has many lines, prints the first few,
// and returns all of them, with CRLF and with the dots taken off again
// (RFC 1939 section 3).
func (c *client) multiline(text string) []byte {
	c.command(text)
	var body bytes.Buffer
	lines := 0
	for c.err == nil {
		line := c.line()
		if c.err != nil {
			return nil
		}
		if string(line) == "." {
			break
		}
		if lines++; lines <= showLines {
			fmt.Fprintf(c.out, "S: %s\n", shorten(line))
		}
		body.Write(bytes.TrimPrefix(line, []byte(".")))
		body.WriteString("\r\n")
		if body.Len() > 4*bigOctets {
			c.fail("%s: the reply does not end", text)
		}
	}
	if lines > showLines {
		fmt.Fprintf(c.out, "   (... %d lines more, %d octets in all)\n", lines-showLines, body.Len())
	}
	if c.err == nil {
		fmt.Fprintln(c.out, "S: .")
	}
	return body.Bytes()
}

// shorten keeps the dialogue within the width of a terminal.
func shorten(line []byte) string {
	const most = 76
	text := []rune(strings.ToValidUTF8(string(line), "?"))
	if len(text) <= most {
		return string(text)
	}
	return string(text[:most-4]) + " ..."
}
