package imapguard

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http/httptrace"
	"strings"
)

// ReadLine returns the next line without its line end; it is valid until the
// next call. Only before Handover. A line of more than 4 KiB is a violation,
// the end of the stream is io.EOF before a line and [ErrCut] inside one.
func (c *Conn) ReadLine() ([]byte, error) {
	line, err := c.br.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) > 0:
		return nil, ErrCut
	case err != nil && len(line) >= bufferSize:
		return nil, violation("a line of over %d octets before login", bufferSize)
	case err != nil:
		return nil, err
	}
	if c.budget.Add(-int64(len(line))) < 0 {
		return nil, violation("endless responses before login")
	}
	line = trimLineEnd(line)
	c.heard(line)
	if st, ok := parseStatus(line); ok {
		c.note(st, line)
	}
	return line, nil
}

func trimLineEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// Buffered is the number of octets that the server has sent ahead of what was
// read.
func (c *Conn) Buffered() int { return c.br.Buffered() }

// StartTLS puts TLS over the transport, once the server has agreed to it. What
// the server sent in clear text behind its agreement is a violation and ends
// the connection: it could be anybody's.
func (c *Conn) StartTLS(ctx context.Context, config *tls.Config) error {
	if c.br.Buffered() > 0 {
		return violation("octets in clear text behind the reply to STARTTLS")
	}
	conn := tls.Client(c.base, config)
	if err := Handshake(ctx, conn); err != nil {
		return err
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	c.br.Reset(&timedReader{c: c})
	return nil
}

// Handshake makes conn secure. It tells the hooks of net/http/httptrace in ctx of
// it, as net/http does and net.Dialer does of the steps before: who wants to see a
// connection being made sees all of it.
func Handshake(ctx context.Context, conn *tls.Conn) error {
	hooks := httptrace.ContextClientTrace(ctx)
	if hooks != nil && hooks.TLSHandshakeStart != nil {
		hooks.TLSHandshakeStart()
	}
	err := conn.HandshakeContext(ctx)
	if hooks != nil && hooks.TLSHandshakeDone != nil {
		hooks.TLSHandshakeDone(conn.ConnectionState(), err)
	}
	return err
}

// Handover ends the dialogue: from now on Read serves go-imap's client, which
// takes the connection as authenticated, with these capabilities. They are the
// caller's own words: the library spins for ever over some that are no atoms.
func (c *Conn) Handover(capabilities ...string) {
	c.over.Store(true)
	c.scan.out = []byte("* PREAUTH [CAPABILITY " + strings.Join(capabilities, " ") + "] ready\r\n")
}
