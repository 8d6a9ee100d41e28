package realtest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// popTimeout bounds each reply of the gateway: a login may wait for the lock
// and for an upstream that slows failed logins down.
const popTimeout = 30 * time.Second

// A pop speaks POP3 for the tests that no mail program can play.
type pop struct {
	conn net.Conn
	r    *bufio.Reader
	text strings.Builder
}

func dialPOP(t *testing.T, addr string) *pop {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, popTimeout)
	if err != nil {
		t.Fatal(err)
	}
	p := &pop{conn: conn, r: bufio.NewReader(conn)}
	t.Cleanup(func() {
		conn.Close()
		if t.Failed() {
			t.Logf("POP3 dialogue:\n%s", p.text.String())
		}
	})
	if greeting := p.line(t); !strings.HasPrefix(greeting, "+OK") {
		t.Fatalf("greeting %q", greeting)
	}
	return p
}

func (p *pop) line(t *testing.T) string {
	t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(popTimeout))
	line, err := p.r.ReadString('\n')
	if err != nil {
		t.Fatalf("no reply: %v (had %q)\n%s", err, line, p.text.String())
	}
	if !strings.HasSuffix(line, "\r\n") {
		t.Errorf("line %q does not end in CRLF", line)
	}
	line = strings.TrimSuffix(line, "\r\n")
	if p.text.Len() < 1<<16 {
		fmt.Fprintf(&p.text, "S: %.200s\n", line)
	}
	return line
}

// ask sends a command and returns the first line of its reply.
func (p *pop) ask(t *testing.T, format string, args ...any) string {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	fmt.Fprintf(&p.text, "C: %s\n", command)
	_ = p.conn.SetWriteDeadline(time.Now().Add(popTimeout))
	if _, err := p.conn.Write([]byte(command + "\r\n")); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return p.line(t)
}

// ok is ask for a command that has to succeed.
func (p *pop) ok(t *testing.T, format string, args ...any) string {
	t.Helper()
	reply := p.ask(t, format, args...)
	if !strings.HasPrefix(reply, "+OK") {
		t.Fatalf("%s: %q", fmt.Sprintf(format, args...), reply)
	}
	return reply
}

// refused is ask for a command that has to fail, with a response code if code
// is not empty.
func (p *pop) refused(t *testing.T, code, format string, args ...any) {
	t.Helper()
	reply := p.ask(t, format, args...)
	want := "-ERR"
	if code != "" {
		want += " [" + code + "]"
	}
	if !strings.HasPrefix(reply, want) {
		t.Errorf("%s: %q, want %s", strings.Fields(fmt.Sprintf(format, args...))[0], reply, want)
	}
}

// multi is ok for a multi-line reply, which it returns without dot-stuffing.
func (p *pop) multi(t *testing.T, format string, args ...any) string {
	t.Helper()
	p.ok(t, format, args...)
	return p.rest(t)
}

// rest reads the lines of a multi-line reply behind the first.
func (p *pop) rest(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for {
		line := p.line(t)
		if line == "." {
			return b.String()
		}
		b.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
	}
}

// login opens a session.
func login(t *testing.T, addr, user, pass string) *pop {
	t.Helper()
	p := dialPOP(t, addr)
	p.ok(t, "USER %s", user)
	p.ok(t, "PASS %s", pass)
	return p
}

// loginFails tries USER and PASS, and AUTH PLAIN, each on a connection of its
// own; both have to fail with the response code.
func loginFails(t *testing.T, addr, user, pass, code string) {
	t.Helper()
	p := dialPOP(t, addr)
	p.ok(t, "USER %s", user)
	p.refused(t, code, "PASS %s", pass)
	p = dialPOP(t, addr)
	p.refused(t, code, "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+pass)))
}
