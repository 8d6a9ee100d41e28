package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// patience is how long the benchmark waits for anything.
const patience = 3 * time.Minute

// password is that of every user in front of Dovecot.
const password = "bench"

// passwordOf is the password of a user: in front of Cyrus they are those of the
// lab.
func passwordOf(user string) string {
	var n int
	if k, _ := fmt.Sscanf(user, "user%d@example.test", &n); k == 1 {
		_, secret := lab.User(n)
		return secret
	}
	return password
}

// A client is a POP3 client that costs little: its buffers are its own, and it
// looks at every octet once.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// dial connects and reads the greeting.
func dial(addr string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	if err := c.limit(); err != nil {
		return nil, c.failed("deadline", err)
	}
	if _, err := c.reply(); err != nil {
		return nil, c.failed("greeting", err)
	}
	return c, nil
}

func (c *client) limit() error { return c.conn.SetDeadline(time.Now().Add(patience)) }

func (c *client) failed(what string, err error) error {
	c.conn.Close()
	return fmt.Errorf("%s: %w", what, err)
}

// login is dial, USER and PASS.
func login(addr, user string) (*client, error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	for _, line := range []string{"USER " + user, "PASS " + passwordOf(user)} {
		if _, err := c.command(line); err != nil {
			return nil, c.failed(line[:4], err)
		}
	}
	return c, nil
}

// send sends command lines in one write.
func (c *client) send(lines ...string) error {
	c.out = c.out[:0]
	for _, l := range lines {
		c.out = append(append(c.out, l...), "\r\n"...)
	}
	_, err := c.conn.Write(c.out)
	return err
}

// reply reads one line that must begin with +OK. It is valid until the next read.
func (c *client) reply() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(line, []byte("+OK")) {
		return nil, fmt.Errorf("the reply is %.200q", line)
	}
	return line, nil
}

func (c *client) command(line string) ([]byte, error) {
	if err := c.send(line); err != nil {
		return nil, err
	}
	return c.reply()
}

// stat returns what STAT tells.
func (c *client) stat() (messages int, octets int64, err error) {
	line, err := c.command("STAT")
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscanf(string(line), "+OK %d %d", &messages, &octets)
	return messages, octets, err
}

// uidl reads the whole UIDL and returns the number of lines, which must count up.
func (c *client) uidl() (n int, err error) {
	if _, err := c.command("UIDL"); err != nil {
		return 0, err
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return n, err
		}
		if string(line) == ".\r\n" {
			return n, nil
		}
		n++
		number, id, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if k, err := strconv.Atoi(string(number)); err != nil || k != n || len(id) == 0 {
			return n, fmt.Errorf("line %d of UIDL is %.100q", n, line)
		}
	}
}

// body reads a multi-line response behind its +OK and compares it with the
// message of the corpus that it says to be: all of it, or its header.
func (c *client) body(of *corpus, header bool) (place int, octets int64, err error) {
	if err := c.limit(); err != nil {
		return 0, 0, err
	}
	head, err := c.in.Peek(16)
	for n := 16; err == nil && bytes.IndexByte(head, '\n') < 0; n *= 2 {
		head, err = c.in.Peek(n)
	}
	if err != nil {
		return 0, 0, err
	}
	if place, err = of.place(head[:bytes.IndexByte(head, '\n')]); err != nil {
		return place, 0, err
	}
	want := of.stuffed[place]
	if header {
		want = append(bytes.Clone(of.header[place]), ".\r\n"...)
	}
	octets = int64(len(of.messages[place]))
	for total := len(want); len(want) > 0; {
		if c.in.Buffered() == 0 {
			if _, err := c.in.Peek(1); err != nil {
				return place, octets, err
			}
		}
		got, _ := c.in.Peek(min(c.in.Buffered(), len(want))) // it is there
		if !bytes.Equal(got, want[:len(got)]) {
			return place, octets, fmt.Errorf("message %d of %s differs within %d octets behind the first %d", place, of.name, len(got), total-len(want))
		}
		want = want[len(got):]
		if _, err := c.in.Discard(len(got)); err != nil {
			return place, octets, err
		}
	}
	return place, octets, nil
}

func (c *client) quit() error {
	defer c.conn.Close()
	_, err := c.command("QUIT")
	return err
}

// fetch reads messages 1 to n with verb, "RETR %d" or "TOP %d 0", and keeps ahead
// commands under way at a time. Each message has to come once.
func (c *client) fetch(of *corpus, n int, verb string, ahead int) error {
	seen := make([]bool, len(of.messages))
	header := verb != "RETR %d"
	sent := 0
	for got := range n {
		for sent < n && sent < got+ahead {
			// A pipelining client sends what it can in one write.
			var lines []string
			for ; sent < n && sent < got+ahead; sent++ {
				lines = append(lines, fmt.Sprintf(verb, sent+1))
			}
			if err := c.send(lines...); err != nil {
				return err
			}
		}
		if _, err := c.reply(); err != nil {
			return fmt.Errorf("message %d: %w", got+1, err)
		}
		place, _, err := c.body(of, header)
		if err != nil {
			return fmt.Errorf("message %d: %w", got+1, err)
		}
		if seen[place] {
			return fmt.Errorf("message %d of %s came twice", place, of.name)
		}
		seen[place] = true
	}
	return nil
}
