package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// play holds one POP3 session, and a second one to see what the first has
// left. It prints both, and returns the messages that are left, or the first thing
// that was not as it must be.
func play(ctx context.Context, address string, mail []sample, out io.Writer) (left []sample, err error) {
	const (
		plain, dots, large = 1, 5, 7 // message numbers; samples are listed in order
		kept, deleted      = 3, 2
	)
	c := dial(ctx, address, out)
	defer c.close()

	c.multiline("CAPA")
	c.login()
	c.stat(mail)
	c.list(mail)
	ids := c.uidl(len(mail))
	c.top(dots, 3, mail)
	c.retrieve(plain, mail)
	c.retrieve(dots, mail)
	c.retrieve(large, mail)
	c.command(fmt.Sprintf("DELE %d", kept))
	c.command("RSET")
	c.command(fmt.Sprintf("DELE %d", deleted))
	c.command("QUIT")
	if c.err != nil {
		return nil, c.err
	}

	fmt.Fprintln(out, "\n-- a second session: what was deleted is gone, all else is still there --")
	left = slices.Delete(slices.Clone(mail), deleted-1, deleted)
	c2 := dial(ctx, address, out)
	defer c2.close()
	c2.login()
	c2.stat(left)
	idsLeft := c2.uidl(len(left))
	if want := slices.Delete(slices.Clone(ids), deleted-1, deleted); c2.err == nil && !slices.Equal(idsLeft, want) {
		c2.fail("the unique-ids are %q, want %q", idsLeft, want)
	}
	c2.command("QUIT")
	return left, c2.err
}

func (c *client) login() {
	c.command("USER " + user)
	c.command("PASS " + password)
}

// stat checks the drop listing (RFC 1939 section 5).
func (c *client) stat(mail []sample) {
	octets := 0
	for _, s := range mail {
		octets += len(s.raw)
	}
	got, want := c.command("STAT"), fmt.Sprintf("+OK %d %d", len(mail), octets)
	if c.err == nil && got != want && !strings.HasPrefix(got, want+" ") {
		c.fail("STAT: got %q, want %q", got, want)
	}
}

func (c *client) list(mail []sample) {
	var want strings.Builder
	for i, s := range mail {
		fmt.Fprintf(&want, "%d %d\r\n", i+1, len(s.raw))
	}
	if got := c.multiline("LIST"); c.err == nil && string(got) != want.String() {
		c.fail("LIST: got %q, want %q", got, want.String())
	}
}

func (c *client) uidl(n int) []string {
	var ids []string
	for line := range strings.Lines(string(c.multiline("UIDL"))) {
		number, id, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || number != fmt.Sprint(len(ids)+1) || slices.Contains(ids, id) {
			c.fail("UIDL: %q is not the next message with an id of its own", line)
		}
		ids = append(ids, id)
	}
	if c.err == nil && len(ids) != n {
		c.fail("UIDL: %d lines, want %d", len(ids), n)
	}
	return ids
}

// top asks for the header and some lines of the body (RFC 1939 section 7).
func (c *client) top(number, lines int, mail []sample) {
	command := fmt.Sprintf("TOP %d %d", number, lines)
	head, body, _ := bytes.Cut(whole(mail[number-1]), []byte("\r\n\r\n"))
	want := append(slices.Clone(head), "\r\n\r\n"...)
	for line := range bytes.Lines(body) {
		if lines--; lines < 0 {
			break
		}
		want = append(want, line...)
	}
	if got := c.multiline(command); c.err == nil && !bytes.Equal(got, want) {
		c.fail("%s: got %q, want %q", command, got, want)
	}
}

// retrieve compares a message with the one that was put into the mailbox.
func (c *client) retrieve(number int, mail []sample) {
	got, want := c.multiline(fmt.Sprintf("RETR %d", number)), whole(mail[number-1])
	if c.err == nil && !bytes.Equal(got, want) {
		c.fail("RETR %d: %d octets that are not the %d of the message", number, len(got), len(want))
	}
}

// whole is a message as POP3 can show it: the last line has an end.
func whole(s sample) []byte {
	if bytes.HasSuffix(s.raw, []byte("\r\n")) {
		return s.raw
	}
	return append(slices.Clone(s.raw), "\r\n"...)
}
