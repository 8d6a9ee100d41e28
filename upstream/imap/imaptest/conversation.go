package imaptest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Conversation is what a server says and expects on one connection, octet by
// octet and by no rule of IMAP.
type Conversation []Step

// A Step is one turn of a Conversation. An error ends the connection and fails
// the test.
type Step func(*talk) error

// talk is one connection of a Talker.
type talk struct {
	conn net.Conn
	br   *bufio.Reader
	tag  string // of the last command that was expected
	log  func(format string, a ...any)
}

// turnTime bounds one turn. It is long so that tests under testing/synctest
// may let hours pass.
const turnTime = 24 * time.Hour

// Transcript makes a Conversation of lines:
//
//	S: * OK ready
//	C: {tag} CAPABILITY
//	S: * CAPABILITY IMAP4rev1
//	S: {tag} OK done
//	C: {tag} LOGIN ...
//	!cut
//
// S lines are sent with CRLF. C lines are waited for; "..." stands for any
// text, and {tag} takes the command's tag, which S lines then repeat. "!cut"
// closes the connection, "!reset" resets it, "!stall" holds it, and "!any" takes
// whatever the client sends until it closes. Empty lines are passed over; what
// an indented transcript shares as indent is no part of it.
func Transcript(text string) Conversation {
	var c Conversation
	for line := range strings.Lines(text) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		says, isS := strings.CutPrefix(line, "S: ")
		wants, isC := strings.CutPrefix(line, "C: ")
		switch {
		case line == "":
		case isS:
			c = append(c, Say(says+"\r\n"))
		case isC:
			c = append(c, Expect(wants))
		case line == "!cut":
			c = append(c, Leave(FIN))
		case line == "!reset":
			c = append(c, Leave(RST))
		case line == "!stall", line == "!any":
			c = append(c, Leave(Stall))
		default:
			panic(fmt.Sprintf("imaptest: transcript line %q", line))
		}
	}
	return c
}

// Say sends octets as they are, {tag} replaced by the last tag.
func Say(text string) Step {
	return func(t *talk) error {
		said := strings.ReplaceAll(text, "{tag}", t.tag)
		t.log("S: %q", clip(said))
		return t.write(said)
	}
}

// SayTimes sends text n times over: floods and endless lines.
func SayTimes(text string, n int) Step {
	return func(t *talk) error {
		t.log("S: %q, %d times", clip(text), n)
		chunk := strings.Repeat(text, max(1, min(n, (64<<10)/max(1, len(text)))))
		for left := n * len(text); left > 0; left -= len(chunk) {
			if err := t.write(chunk[:min(left, len(chunk))]); err != nil {
				return err
			}
		}
		return nil
	}
}

// Expect waits for a line that fits pattern, in which "..." stands for any text
// and {tag} for a tag to be remembered.
func Expect(pattern string) Step {
	return func(t *talk) error {
		line, err := t.line()
		if err != nil {
			return fmt.Errorf("want %q, got %q and %w", pattern, line, err)
		}
		want := pattern
		if rest, ok := strings.CutPrefix(pattern, "{tag}"); ok {
			t.tag, _, _ = strings.Cut(line, " ")
			want = t.tag + rest
		}
		if !fits(want, line) {
			return fmt.Errorf("want %q, got %q", pattern, line)
		}
		return nil
	}
}

// Leave ends the connection; a stall reads on and says nothing until the client
// closes.
func Leave(how Ending) Step { return func(*talk) error { return &endError{how: how} } }

// errGone ends a conversation that the client left, without failing the test.
var errGone = fmt.Errorf("the client closed")

func (t *talk) write(text string) error {
	if err := t.conn.SetWriteDeadline(time.Now().Add(turnTime)); err != nil {
		return errGone
	}
	if _, err := io.WriteString(t.conn, text); err != nil {
		return errGone
	}
	return nil
}

func (t *talk) line() (string, error) {
	if err := t.conn.SetReadDeadline(time.Now().Add(turnTime)); err != nil {
		return "", err
	}
	line, err := readLine(t.br, 1<<20)
	t.log("C: %q", clip(redactLine(bytes.Clone(line))))
	return strings.TrimRight(string(line), "\r\n"), err
}

func clip(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s... (%d octets)", s[:200], len(s))
	}
	return s
}

// fits matches a pattern in which "..." is any text.
func fits(pattern, line string) bool {
	head, rest, wild := strings.Cut(pattern, "...")
	if !wild {
		return pattern == line
	}
	if !strings.HasPrefix(line, head) {
		return false
	}
	line = line[len(head):]
	for i := 0; i <= len(line); i++ {
		if fits(rest, line[i:]) {
			return true
		}
	}
	return false
}

// A Talker is a server that plays conversations: the first connection the
// first one, and so on; connections behind the last play the last again. A turn
// that does not come as expected fails the test; so does a client that leaves
// while it is waited for, but not one that leaves while it is talked to.
type Talker struct {
	t         testing.TB
	transport *transport
	list      []Conversation

	mu       sync.Mutex
	log      []string
	received map[int][]byte
}

// maxReceived bounds what Received keeps of a connection.
const maxReceived = 1 << 20

// Play starts a Talker over net.Pipe or TCP. It ends with the test.
func Play(t testing.TB, tcp bool, list ...Conversation) *Talker {
	t.Helper()
	p := &Talker{t: t, list: list, received: map[int][]byte{}}
	p.transport = newTransport(t, tcp, p.serve)
	t.Cleanup(func() {
		p.transport.close()
		if t.Failed() {
			t.Logf("conversation:\n%s", p)
		}
	})
	return p
}

// Dial opens a connection to the Talker, whatever the address.
func (p *Talker) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return p.transport.dial(ctx, network, addr)
}

// DialWith is Dial with each connection wrapped; n counts them from 1.
func (p *Talker) DialWith(wrap func(n int, c net.Conn) net.Conn) DialFunc {
	return p.transport.dialWith(wrap)
}

// Addr is the TCP address, "" over net.Pipe.
func (p *Talker) Addr() string { return p.transport.addr() }

// String prints what was said so far, long lines clipped and logins redacted.
func (p *Talker) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// Received is what the client sent on connection n, up to 1 MiB, secrets and
// all; what came after the server left is not in it.
func (p *Talker) Received(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.received[n])
}

// recorder keeps what a connection receives.
type recorder struct {
	p *Talker
	n int
}

func (r recorder) Write(b []byte) (int, error) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	have := r.p.received[r.n]
	r.p.received[r.n] = append(have, b[:min(len(b), maxReceived-len(have))]...)
	return len(b), nil
}

func (p *Talker) serve(n int, c net.Conn) {
	t := &talk{conn: c, br: bufio.NewReader(io.TeeReader(c, recorder{p, n})), log: func(format string, a ...any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.log = append(p.log, fmt.Sprintf("%d ", n)+fmt.Sprintf(format, a...))
	}}
	var end error = &endError{how: Stall} // the end of the script is silence
	for _, step := range p.list[min(n, len(p.list))-1] {
		if err := step(t); err != nil {
			end = err
			break
		}
	}
	c.SetDeadline(time.Time{})
	if e, ok := end.(*endError); ok {
		t.log("ends")
		if e.how == Stall {
			io.Copy(io.Discard, t.br) // and by it into Received
		}
		finish(c, e.how)
		return
	}
	if end != errGone {
		p.t.Errorf("connection %d: %v", n, end)
	}
}
