package imaptest_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is a raw IMAP client: it says lines and compares lines.
type wire struct {
	t    *testing.T
	conn net.Conn
	br   *bufio.Reader
	tag  int
}

func dial(t *testing.T, s *imaptest.Server) *wire {
	t.Helper()
	c, err := s.Dial(context.Background(), "tcp", "imap.example.test:143")
	if err != nil {
		t.Fatal(err)
	}
	return onto(t, c)
}

func onto(t *testing.T, c net.Conn) *wire {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return &wire{t: t, conn: c, br: bufio.NewReader(c)}
}

// login dials, reads the greeting and logs in.
func login(t *testing.T, s *imaptest.Server) *wire {
	t.Helper()
	w := dial(t, s)
	w.line()
	w.do("LOGIN "+imaptest.DefaultUser+" "+imaptest.DefaultPassword, "OK")
	return w
}

func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.conn, text); err != nil {
		w.t.Fatalf("write %q: %v", text, err)
	}
}

func (w *wire) line() string {
	w.t.Helper()
	line, err := w.br.ReadString('\n')
	if err != nil {
		w.t.Fatalf("read: %v (after %q)", err, line)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// ends checks that nothing more comes.
func (w *wire) ends() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.br); len(rest) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		w.t.Fatalf("after the end: %q, %v", rest, err)
	}
}

// do sends a command, reads up to its tagged reply, checks how that begins and
// returns the untagged lines, joined by "|".
func (w *wire) do(command, want string) string {
	w.t.Helper()
	w.tag++
	tag := "A" + string(rune('0'+w.tag%10))
	w.send(tag + " " + command + "\r\n")
	return w.until(tag, command, want)
}

func (w *wire) until(tag, command, want string) string {
	w.t.Helper()
	var got []string
	for {
		line := w.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if len(rest) < len(want) || !strings.EqualFold(rest[:len(want)], want) {
				w.t.Fatalf("%s: tagged reply %q, want %q...", command, rest, want)
			}
			return strings.Join(got, "|")
		}
		got = append(got, line)
	}
}

// expect is do with the untagged lines compared.
func (w *wire) expect(command, want string, untagged ...string) {
	w.t.Helper()
	if got := w.do(command, want); got != strings.Join(untagged, "|") {
		w.t.Fatalf("%s:\n got %q\nwant %q", command, got, strings.Join(untagged, "|"))
	}
}

func reader(c net.Conn) *bufio.Reader { return bufio.NewReader(c) }

func client(c net.Conn, ca *imaptest.CA) net.Conn { return tls.Client(c, ca.ClientConfig()) }
