package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A wire is a raw IMAP client: everything in one write where the protocol allows
// it, and the least that has to be read.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
}

// wireSession logs in and sends the commands behind it in one write, tagged a1,
// a2, ...; line gets every line that is no tagged reply, with the reader behind it
// where a literal follows.
func wireSession(addr, user string, line func(text []byte, in *bufio.Reader) error, commands ...string) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	w := wire{conn, bufio.NewReaderSize(conn, 64<<10)}
	if _, err := w.in.ReadSlice('\n'); err != nil {
		return err
	}
	var out strings.Builder
	commands = append([]string{"LOGIN " + user + " " + passwordOf(user)}, commands...)
	for i, c := range commands {
		fmt.Fprintf(&out, "a%d %s\r\n", i, c)
	}
	if _, err := io.WriteString(conn, out.String()); err != nil {
		return err
	}
	for i := 0; i < len(commands); {
		text, err := w.in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", commands[i], err)
		}
		if text[0] != 'a' {
			if line != nil {
				if err := line(text, w.in); err != nil {
					return err
				}
			}
			continue
		}
		if want := fmt.Sprintf("a%d OK", i); !bytes.HasPrefix(text, []byte(want)) {
			return fmt.Errorf("%s: %.200q", commands[i], text)
		}
		i++
	}
	return nil
}

// literal returns the size of the literal that a line announces, -1 for none.
func literal(line []byte) int64 {
	line = bytes.TrimRight(line, "\r\n")
	open := bytes.LastIndexByte(line, '{')
	if open < 0 || line[len(line)-1] != '}' {
		return -1
	}
	n, err := strconv.ParseInt(string(line[open+1:len(line)-1]), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// wireBodies fetches item of all messages and returns how many came, and their
// octets.
func wireBodies(addr, user, item string) (n int, octets int64, err error) {
	err = wireSession(addr, user, func(text []byte, in *bufio.Reader) error {
		size := literal(text)
		if size < 0 {
			return nil
		}
		n++
		octets += size
		_, err := io.CopyN(io.Discard, in, size)
		return err
	}, "EXAMINE INBOX", "UID FETCH 1:* ("+item+")")
	return n, octets, err
}

// wireSizes lists a mailbox.
func wireSizes(addr, user string) (n int, err error) {
	err = wireSession(addr, user, func(text []byte, _ *bufio.Reader) error {
		if bytes.Contains(text, []byte(" RFC822.SIZE ")) {
			n++
		}
		return nil
	}, "EXAMINE INBOX", "UID FETCH 1:* (UID RFC822.SIZE)")
	return n, err
}
