package imapguard

import (
	"bytes"
	"strconv"
	"strings"
)

// server is who speaks in a transcript, beside popgate.
const server = "server"

// Tell lets f have what is said on the connection from now on, a line at a time,
// for an operator who reads along; nil for nobody. Nothing of a message is in it:
// of literals the size is told, and lines of a listing are left out. What repeats
// the credentials is hidden, as [Conn.Withhold] says. Before [Conn.Handover] only
// the server's lines are told: whoever leads the dialogue knows what of its own
// side is secret.
func (c *Conn) Tell(f func(from, text string)) {
	if f == nil {
		c.tell.Store(nil)
		return
	}
	c.tell.Store(&f)
}

// Told says for the dialogue what popgate sends.
func (c *Conn) Told(text string) {
	if f := c.tell.Load(); f != nil {
		(*f)("popgate", text)
	}
}

// heard tells a line of the server, or the beginning of one.
func (c *Conn) heard(line []byte) {
	f := c.tell.Load()
	if f == nil {
		return
	}
	line = trimLineEnd(line)
	switch {
	case bytes.HasPrefix(line, []byte("+")):
		line = []byte("+ (hidden)") // a challenge may hold anything
	case c.repeats(line):
		line = []byte("(a line that repeats the credentials)")
	}
	(*f)(server, string(line))
}

// heardPiece tells the first piece of a response after the login.
func (c *Conn) heardPiece(piece []byte) {
	if c.tell.Load() == nil {
		return
	}
	if c.scan.resp.kind == kindBody { // which may stand in the line, as a quoted string
		if head, _, found := bytes.Cut(piece, []byte(`"`)); found {
			piece = append(bytes.Clone(head), "(hidden)"...)
		}
	}
	c.heard(piece)
}

// saidLines tells what go-imap sends. After the login no command holds a secret.
func (c *Conn) saidLines(p []byte) {
	if c.tell.Load() == nil {
		return
	}
	for line := range bytes.Lines(p) {
		c.Told(strings.ToValidUTF8(string(trimLineEnd(line)), "?"))
	}
}

// heardLiteral tells the size of a literal, which is all that is told of it.
func (c *Conn) heardLiteral(n int64) {
	if f := c.tell.Load(); f != nil {
		(*f)(server, "("+strconv.FormatInt(n, 10)+" octets)")
	}
}

// repeats reports whether a line holds the beginning of a secret.
func (c *Conn) repeats(line []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, secret := range c.secrets {
		if bytes.Contains(line, secret) {
			return true
		}
	}
	return false
}
