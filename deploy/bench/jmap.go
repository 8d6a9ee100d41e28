package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// The rows of the second table, and how many accounts its polls look at.
const (
	jmapPoll     = "polls a second, 8 clients"
	jmapDown     = "download of 200 x 4 kB, messages/s"
	jmapPipe     = "pipelined download (16), messages/s"
	jmapTop      = "TOP n 0, messages/s"
	jmapDelete   = "DELE 200 and QUIT, s"
	jmapAccounts = 8
	jmapMessages = 200
)

// compareJMAP measures popgate in front of one Cyrus, over IMAP and over JMAP, and
// returns a table.
func (b *bench) compareJMAP(ctx context.Context, l *lab.Lab, binary string, rounds int) (string, error) {
	cyrus, err := l.Cyrus(ctx, "cyrus", filepath.Join(l.Dir(), "unpacked", "cyrus"))
	if err != nil {
		return "", err
	}
	defer cyrus.Stop()
	few, polls := min(jmapMessages, b.few), min(jmapMessages, b.polls)
	user := func(n int) string { name, _ := lab.User(n); return name }
	reader, emptied := user(jmapAccounts+1), []string{user(jmapAccounts + 2), user(jmapAccounts + 3)}
	for n := range jmapAccounts {
		if err := b.four.upload(cyrus.IMAP, user(n+1), 20); err != nil {
			return "", err
		}
	}
	if err := b.four.upload(cyrus.IMAP, reader, few); err != nil {
		return "", err
	}
	var contenders []*contender
	for name, url := range map[string]string{"imap": "imap://" + cyrus.IMAP, "jmap": "jmap+http://" + cyrus.HTTP} {
		c := &contender{name: name}
		if c.near, err = popgateAt(ctx, l, binary, "popgate-cyrus-"+name, url, ""); err != nil {
			return "", err
		}
		defer c.near.stop()
		contenders = append(contenders, c)
	}
	f := figures{}
	for range rounds {
		for i, c := range contenders {
			addr, tell := c.near.addr, f.tell(c.name)
			start := time.Now()
			if err := inParallel(8, polls, func(i int) error { return poll(addr, user(i%jmapAccounts+1), 20) }); err != nil {
				return "", fmt.Errorf("%s: %w", c.name, err)
			}
			tell(jmapPoll, float64(polls)/since(start))
			for _, x := range []struct {
				row, verb string
				ahead     int
			}{{jmapDown, "RETR %d", 1}, {jmapPipe, "RETR %d", pipeline}, {jmapTop, "TOP %d 0", 1}} {
				rate, err := session(addr, reader, b.four, few, x.verb, x.ahead)
				if err != nil {
					return "", fmt.Errorf("%s, %s: %w", c.name, x.row, err)
				}
				tell(x.row, rate)
			}
			if err := b.four.upload(cyrus.IMAP, emptied[i], few); err != nil {
				return "", err
			}
			if err := poll(addr, emptied[i], few); err != nil {
				return "", err
			}
			took, err := deleteAll(addr, emptied[i], few)
			if err != nil {
				return "", fmt.Errorf("%s: %w", c.name, err)
			}
			tell(jmapDelete, took)
			if err := poll(addr, emptied[i], 0); err != nil {
				return "", fmt.Errorf("%s: messages are left behind +OK: %w", c.name, err)
			}
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "| popgate in front of Cyrus %s | over IMAP | over JMAP |\n|---|---|---|\n", cyrus.Version)
	for _, row := range []string{jmapPoll, jmapDown, jmapPipe, jmapTop, jmapDelete} {
		imap, _ := f.median(row, "imap")
		jmap, _ := f.median(row, "jmap")
		fmt.Fprintf(&out, "| %s | %s | %s |\n", row, number(imap), number(jmap))
	}
	return out.String(), nil
}

// upload appends the first n messages of the corpus to a user's INBOX over IMAP.
func (c *corpus) upload(addr, user string, n int) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
	until := func(begins string) error {
		if err := out.Flush(); err != nil {
			return err
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return err
			}
			if strings.HasPrefix(line, begins) {
				return nil
			}
			if line[0] != '*' {
				return fmt.Errorf("%s: upload: %q", user, line)
			}
		}
	}
	if err := until("* OK"); err != nil {
		return err
	}
	fmt.Fprintf(out, "a LOGIN %s %s\r\n", user, passwordOf(user))
	if err := until("a OK"); err != nil {
		return err
	}
	for i := range n {
		m := c.messages[i]
		// The time of arrival gives the order, over JMAP too.
		at := time.Date(2026, 6, 15, 10, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Second)
		fmt.Fprintf(out, "b APPEND INBOX %q {%d}\r\n", at.Format("02-Jan-2006 15:04:05 -0700"), len(m))
		if err := until("+"); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\r\n", m)
		if err := until("b OK"); err != nil {
			return err
		}
	}
	fmt.Fprint(out, "c LOGOUT\r\n")
	return until("c OK")
}
