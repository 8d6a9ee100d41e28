package pop3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
)

// stream is a connection whose input is known in advance: Serve runs over it
// without a second goroutine. Reads give step octets at a time, then io.EOF.
type stream struct {
	step    int
	onRead  func()
	onWrite func(p []byte) error

	mu  sync.Mutex
	in  []byte
	out bytes.Buffer
}

func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onRead != nil {
		s.onRead()
	}
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.step)], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *stream) Write(p []byte) (int, error) {
	if s.onWrite != nil {
		if err := s.onWrite(p); err != nil {
			return 0, err
		}
	}
	return s.out.Write(p)
}

func (s *stream) Close() error                     { return nil }
func (s *stream) LocalAddr() net.Addr              { return loopback4 }
func (s *stream) RemoteAddr() net.Addr             { return loopback4 }
func (s *stream) SetDeadline(time.Time) error      { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// play runs a whole session whose input is in, and returns what the client got.
func (l *lab) play(t testing.TB, s *pop3.Server, in string, step int) string {
	t.Helper()
	conn := &stream{in: []byte(in), step: step}
	s.Serve(t.Context(), conn, pop3.Via{Listener: "test"})
	return conn.out.String()
}

func threeMessages() []memdrop.Message {
	return []memdrop.Message{filler("a1", 120), filler("b2", 200), {ID: "c3", Body: []byte("Subject: c3\n\n.\n..\nx")}}
}

// The client's stream is cut behind every octet: messages are removed if and
// only if the whole QUIT line was there.
func TestUpdateIfAndOnlyIfQuitWasReceived(t *testing.T) {
	const session = "CAPA\r\nAUTH LOGIN\r\nYWxpY2U=\r\n*\r\nUSER alice\r\nPASS pw\r\nSTAT\r\nLIST\r\nUIDL\r\nLIST 1\r\nUIDL 2\r\n" +
		"RETR 1\r\nDELE 1\r\nTOP 2 1\r\nRETR 3\r\nDELE 2\r\nRSET\r\nNOOP\r\nLAST\r\nQUITE\r\nDELE 3\r\nDELE 1\r\nQUIT\r\n"
	for _, step := range []int{1, 7, len(session)} {
		for k := range len(session) + 1 {
			l := newLab("alice", "pw", threeMessages()...)
			s := l.server(t, nil)
			got := l.play(t, s, session[:k], step)
			l.check(t)
			want, end := []string{"a1", "b2", "c3"}, pop3.EndClientGone
			if k == len(session) {
				want, end = []string{"b2"}, pop3.EndQuit
			}
			if left := ids(l.store, "alice"); !slices.Equal(left, want) {
				t.Fatalf("cut behind %q, pieces of %d: %q are left", session[:k], step, left)
			}
			if u := l.store.Calls().Update; (u == 1) != (k == len(session)) || u > 1 {
				t.Fatalf("cut behind %q, pieces of %d: %d updates", session[:k], step, u)
			}
			if l.ends[0] != end {
				t.Fatalf("cut behind %q, pieces of %d: ended by %q: %q", session[:k], step, l.ends[0], got)
			}
		}
	}
}

// RETR, DELE and QUIT in one piece, and the mail service fails inside of the
// message, at every place: nothing is removed, and no terminator is sent.
func TestAMessageThatBreaksOffIsNeverDeleted(t *testing.T) {
	message := memdrop.Message{ID: "a1", Body: []byte("Subject: a1\r\n\r\n.\r\n..\r\nend\r\n")}
	for after := range len(message.Body) + 1 {
		for _, command := range []string{"RETR 1", "TOP 1 99"} {
			l := newLab("alice", "pw", message)
			l.store.SetFaults(faults(t, []string{"body", fmt.Sprint(after)}))
			got := l.play(t, l.server(t, nil), "USER alice\r\nPASS pw\r\n"+command+"\r\nDELE 1\r\nQUIT\r\n", 512)
			l.check(t)
			if left := ids(l.store, "alice"); len(left) != 1 || l.store.Calls().Update != 0 && after > 0 {
				t.Errorf("%s cut behind %d octets: %q are left", command, after, left)
			}
			if strings.Contains(got, "\r\n.\r\n") {
				t.Errorf("%s cut behind %d octets has a terminator: %q", command, after, got)
			}
		}
	}
}

// The connection fails at each of its writes in turn: what could not be sent is
// not deleted.
func TestAMessageThatWasNotTakenIsNeverDeleted(t *testing.T) {
	broken := errors.New("broken")
	bodies := []memdrop.Message{filler("a1", 100), filler("a1", 5000), filler("a1", 200_000)}
	for n := range 3 * 60 {
		fail := n / 3
		l := newLab("alice", "pw", bodies[n%3])
		writes, failed := 0, false
		conn := &stream{in: []byte("USER alice\r\nPASS pw\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n"), step: 512, onWrite: func([]byte) error {
			if writes++; writes > fail {
				failed = true
				return broken
			}
			return nil
		}}
		l.server(t, nil).Serve(t.Context(), conn, pop3.Via{})
		l.check(t)
		sent := strings.Contains(conn.out.String(), "\r\n.\r\n")
		if gone := len(ids(l.store, "alice")) == 0; gone && !sent {
			t.Errorf("write %d failed: the message is gone, and was never sent", fail)
		}
		if !failed && l.ends[0] != pop3.EndQuit {
			t.Errorf("no write failed, and the session ended by %q", l.ends[0])
		}
	}
}

// The account is closed before QUIT's reply is on its way: a client may log in
// again the moment it reads it.
func TestTheMaildropIsFreeBeforeQuitIsAnswered(t *testing.T) {
	for _, commands := range []string{"", "DELE 1\r\n"} {
		l := newLab("alice", "pw", threeMessages()...)
		asked := false
		conn := &stream{in: []byte("USER alice\r\nPASS pw\r\n" + commands + "QUIT\r\n"), step: 1, onWrite: func(p []byte) error {
			if bytes.Contains(p, []byte("bye")) {
				asked = true
				if accounts, _ := l.store.InUse(); accounts != 0 {
					t.Errorf("%q: the account is open while QUIT is answered", commands)
				}
			}
			return nil
		}}
		l.server(t, nil).Serve(t.Context(), conn, pop3.Via{})
		l.check(t)
		if !asked {
			t.Errorf("%q: no answer to QUIT in %q", commands, conn.out.String())
		}
	}
}

// The same, where the reply before it has filled what is sent at once.
func TestTheMaildropIsFreeWhateverElseIsSentWithTheReply(t *testing.T) {
	for n := range 1000 { // in some of these the reply crosses the end of a buffer
		l := newLab("alice", "pw")
		var all bytes.Buffer
		conn := &stream{in: []byte("USER alice\r\nPASS pw\r\n" + strings.Repeat("NOOP\n", n%40) + strings.Repeat("CAPA\n", 15+n/40) + "LAST\nQUIT\r\n"), step: 1 << 20, onWrite: func(p []byte) error {
			all.Write(p)
			if accounts, _ := l.store.InUse(); accounts != 0 && bytes.Contains(all.Bytes(), []byte("use UIDL\r\n+")) {
				t.Errorf("session %d: the account is open while QUIT is answered", n)
			}
			return nil
		}}
		l.server(t, nil).Serve(t.Context(), conn, pop3.Via{})
		l.check(t)
	}
}

// Whenever the session waits for the client, the client has every reply to what
// it has asked: cut anywhere, no pipelined command waits for one that is not
// sent yet.
func TestNothingIsHeldBackFromAClientThatWaits(t *testing.T) {
	lines := []string{"USER alice\r\n", "PASS pw\r\n", "NOOP\r\n", "RETR 1\r\n", "RETR 2\r\n", "LIST\r\n", "BAD\r\n", "TOP 3 1\r\n", "UIDL\r\n", "DELE 1\r\n", "QUIT\r\n"}
	text := strings.Join(lines, "")
	for step := 1; step <= len(text); step++ {
		l := newLab("alice", "pw", threeMessages()...)
		conn := &stream{in: []byte(text), step: step}
		conn.onRead = func() {
			given := text[:len(text)-len(conn.in)]
			l.record.mu.Lock()
			defer l.record.mu.Unlock()
			if len(l.commands) < strings.Count(given, "\n") {
				return // PASS is under way, and the session looks whether the client is still there
			}
			if err := l.replies(conn.out.String()); err != nil {
				t.Errorf("pieces of %d: behind %q, the client has %q: %v", step, given, conn.out.String(), err)
			}
		}
		l.server(t, nil).Serve(t.Context(), conn, pop3.Via{})
		l.check(t)
	}
}

// A reply is one write where it fits, and so are the replies to commands that
// came together; but each message is on its way before what follows it is
// carried out.
func TestAReplyIsOneWrite(t *testing.T) {
	const login = "USER alice\r\nPASS pw\r\n"
	for _, tt := range []struct {
		name     string
		commands string
		writes   []string // the beginning of each
	}{
		{"one_message", "RETR 1\r\n", []string{"+OK 4096 octets"}},
		{"messages", "RETR 1\r\nRETR 1\r\nTOP 1 0\r\n", []string{"+OK 4096 octets", "+OK 4096 octets", "+OK\r\n"}},
		{"replies_before_a_message", "NOOP\r\nSTAT\r\nRETR 1\r\nNOOP\r\n", []string{"+OK\r\n+OK 2 5000\r\n+OK 4096 octets", "+OK\r\n"}},
		{"short_replies", strings.Repeat("NOOP\r\n", 40), []string{strings.Repeat("+OK\r\n", 40)}},
		{"listings", "LIST\r\nUIDL\r\n", []string{"+OK 2 messages"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab("alice", "pw", filler("a1", 4096), filler("b2", 904))
			var writes []string
			conn := &stream{in: []byte(login + tt.commands), step: 512, onWrite: func(p []byte) error {
				writes = append(writes, string(p))
				return nil
			}}
			l.server(t, nil).Serve(t.Context(), conn, pop3.Via{})
			l.check(t)
			rest := writes[1:] // behind the greeting
			if len(rest) > 0 {
				rest[0] = strings.TrimPrefix(rest[0], "+OK\r\n+OK logged in\r\n")
			}
			if !slices.EqualFunc(rest, tt.writes, strings.HasPrefix) {
				t.Errorf("the writes are %.60q, want %q", rest, tt.writes)
			}
		})
	}
}

// trickle is a body that brings a line a second.
type trickle struct {
	ctx   context.Context
	lines int
}

func (b *trickle) Octets() int64 { return int64(10 * b.lines) }
func (b *trickle) Close() error  { return nil }
func (b *trickle) Read(p []byte) (int, error) {
	if b.lines == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(time.Second):
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
	b.lines--
	return copy(p, "12345678\r\n"), nil
}

// What a slow mail service brings does not wait for a buffer to be full.
func TestASlowMessageIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab("alice", "pw")
		f := &fake{sizes: []int64{100}, retrieve: func(ctx context.Context, _ int, _ upstream.Extent) (upstream.Body, error) {
			return &trickle{ctx, 10}, nil
		}}
		p := dial(t, l.server(t, func(o *pop3.Options) { o.Store = f }), loopback4, loopback4, pop3.Via{})
		p.ask("USER alice")
		p.ask("PASS pw")
		p.ask("RETR 1")
		got := ""
		for range 5 {
			time.Sleep(time.Second)
			got += p.received()
		}
		if n := strings.Count(got, "12345678\r\n"); n < 4 {
			t.Errorf("after 5 lines, the client has %d", n)
		}
		p.hangUp()
	})
}

// FuzzSession plays each input before login, after USER, and after login. There
// is one reply for each command, no panic, and no UPDATE without a QUIT line.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"USER alice\r\nPASS pw\r\nSTAT\r\nDELE 1\r\nQUIT\r\n", "DELE 1\nDELE 2\nQUIT", "RETR 3\r\nTOP 1 0\r\nUIDL\r\nLIST\r\n",
		"AUTH PLAIN\r\nAGFsaWNlAHB3\r\nCAPA\r\n", "AUTH LOGIN =\r\n*\r\nAUTH\r\n", "AUTH PLAIN AGFsaWNlAHB3\r\nRSET\r\nQUIT\r\n",
		"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "STLS\r\n", strings.Repeat("x", 600) + "\r\nQUIT\r\n", "TOP 3 1\r\nTOP 3 99\r\nLAST\r\nquit \r\n",
		"PASS 0y", "PASS pw\r\nLIST 01\r\nUIDL 3 \r\nNOOP\r\n\r\nRSET\r\n",
	} {
		f.Add([]byte(s), byte(60))
	}
	f.Fuzz(func(t *testing.T, in []byte, step byte) {
		for _, before := range []string{"", "USER alice\r\n", "USER alice\r\nPASS pw\r\n"} {
			l := newLab("alice", "pw", threeMessages()...)
			l.store.SetTerms(upstream.Terms{MarkSeen: true})
			s := l.server(t, func(o *pop3.Options) {
				o.Logger = slog.New(slog.DiscardHandler)
			})
			all := before + string(in)
			got := l.play(t, s, all, int(step)+1)
			l.check(t)
			if err := l.replies(got); err != nil {
				t.Fatalf("%q: %v in %q\ncommands: %q, end: %q", all, err, got, l.commands, l.ends)
			}
			quit := slices.ContainsFunc(strings.SplitAfter(all, "\n"), func(line string) bool {
				return strings.HasSuffix(line, "\n") && strings.EqualFold(strings.TrimRight(strings.TrimRight(line, "\r\n"), " "), "QUIT")
			})
			if l.store.Calls().Update > 0 && (!quit || l.ends[0] != pop3.EndQuit) {
				t.Fatalf("%q: UPDATE without QUIT, ended by %q", all, l.ends[0])
			}
			if l.store.Calls().Update == 0 && len(ids(l.store, "alice")) != 3 {
				t.Fatalf("%q: messages are gone", all)
			}
		}
	})
}

// replies checks that got is the greeting and one reply for each command.
func (l *lab) replies(got string) error {
	next := func() string {
		line, rest, found := strings.Cut(got, "\r\n")
		if !found {
			return ""
		}
		got = rest
		return line
	}
	if g := next(); !strings.HasPrefix(g, "+OK ") {
		return fmt.Errorf("greeting %q", g)
	}
	for _, c := range l.commands {
		verb, result, _ := strings.Cut(c, " ")
		line := next()
		for verb == "AUTH" && strings.HasPrefix(line, "+ ") {
			line = next()
		}
		switch {
		case result == string(pop3.Cut):
			if line != "" && !strings.HasPrefix(line, "+OK") {
				return fmt.Errorf("%s was cut, and has the reply %q", verb, line)
			}
			return nil
		case result == string(pop3.Err) && !strings.HasPrefix(line, "-ERR "):
			return fmt.Errorf("%s has the reply %q", verb, line)
		case result == string(pop3.OK) && line != "+OK" && !strings.HasPrefix(line, "+OK "):
			return fmt.Errorf("%s has the reply %q", verb, line)
		}
		multi := verb == "RETR" || verb == "TOP" || strings.HasSuffix(line, " follow") || strings.Contains(line, " messages (")
		if result == string(pop3.OK) && multi {
			for line = next(); line != "."; line = next() {
				if got == "" {
					return fmt.Errorf("%s has no end", verb)
				}
			}
		}
	}
	if slices.Contains(l.ends, pop3.EndLineTooLong) && strings.HasPrefix(got, "-ERR ") {
		next() // the reply to what was no command
	}
	if got != "" {
		return fmt.Errorf("%q is left over", got)
	}
	return nil
}
