package proof_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

// hostileText stands in all that a hostile server says in words: no client may
// ever see it outside of a message.
const hostileText = "EVIL"

// hostileMail is the maildrop of a hostile server that does not lie about it. The
// first message does not fit into a buffer, so that a client has a part of it
// when the rest goes wrong.
var hostileMail = []string{
	"Subject: one\r\n\r\n" + strings.Repeat(".a line of the first message\r\n", pop3wire.BufferSize/25),
	"Subject: two\r\n\r\n.the second\r\n",
	"Subject: three\r\n\r\nthe third\r\n",
}

// A hostileSay answers one command; {tag} stands for its tag. An error ends the
// connection.
type hostileSay func(w io.Writer, tag string) error

// hostileRaw says text.
func hostileRaw(text string) hostileSay {
	return func(w io.Writer, tag string) error {
		_, err := io.WriteString(w, strings.ReplaceAll(text, "{tag}", tag))
		return err
	}
}

// hostileTimes says text n times.
func hostileTimes(n int, text string) hostileSay {
	return func(w io.Writer, tag string) error {
		text := strings.ReplaceAll(text, "{tag}", tag)
		chunk := strings.Repeat(text, max(1, min(n, (32<<10)/len(text))))
		for left := n * len(text); left > 0; left -= len(chunk) {
			if _, err := io.WriteString(w, chunk[:min(left, len(chunk))]); err != nil {
				return err
			}
		}
		return nil
	}
}

// hostileSeq says one thing after the other.
func hostileSeq(all ...hostileSay) hostileSay {
	return func(w io.Writer, tag string) error {
		for _, say := range all {
			if err := say(w, tag); err != nil {
				return err
			}
		}
		return nil
	}
}

// hostileBye ends the connection.
func hostileBye(io.Writer, string) error { return io.EOF }

// hostilePolite is what a server says that is no enemy, by the moment at which
// it says it.
func hostilePolite() map[string]string {
	const caps = "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS MOVE"
	say := map[string]string{
		"GREETING":     "* OK [CAPABILITY " + caps + "] EVIL\r\n",
		"CAPABILITY":   "* CAPABILITY " + caps + "\r\n{tag} OK EVIL\r\n",
		"AUTHENTICATE": "{tag} OK [CAPABILITY " + caps + "] EVIL\r\n",
		"LOGIN":        "{tag} OK [CAPABILITY " + caps + "] EVIL\r\n",
		"SEARCH":       "* SEARCH 3\r\n{tag} OK EVIL\r\n",
		"LOGOUT":       "* BYE EVIL\r\n{tag} OK EVIL\r\n",
		"":             "{tag} OK EVIL\r\n",
	}
	const mailbox = "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* OK [PERMANENTFLAGS (\\Deleted \\Seen \\*)] EVIL\r\n" +
		"* 3 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 7] EVIL\r\n* OK [UIDNEXT 4] EVIL\r\n{tag} OK EVIL\r\n"
	say["EXAMINE"], say["SELECT"] = mailbox, mailbox
	for i, m := range hostileMail {
		say["SIZES"] += fmt.Sprintf("* %d FETCH (UID %d RFC822.SIZE %d)\r\n", i+1, i+1, len(m))
		say[fmt.Sprint("BODY", i+1)] = fmt.Sprintf("* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n{tag} OK EVIL\r\n", i+1, i+1, len(m), m)
	}
	say["SIZES"] += "{tag} OK EVIL\r\n"
	return say
}

// hostileMoment names what a command asks for.
func hostileMoment(line string) (tag, moment string) {
	f := strings.Fields(line)
	if len(f) < 2 {
		return line, ""
	}
	moment = strings.ToUpper(f[1])
	if moment == "UID" && len(f) > 3 {
		moment = strings.ToUpper(f[2])
		switch {
		case moment == "FETCH" && strings.Contains(line, "RFC822.SIZE"):
			moment = "SIZES"
		case moment == "FETCH":
			moment = "BODY" + f[3]
		}
	}
	return f[0], moment
}

// A hostileServer has three messages, and says at each moment what it is told
// to; what it does not know it answers as hostilePolite does.
type hostileServer struct {
	say    map[string]hostileSay
	polite map[string]string
	tls    *tls.Config // for STARTTLS
	then   bool        // TLS goes on behind a lie to STARTTLS too

	gone  atomic.Bool  // message 3 was removed
	sent  atomic.Int64 // octets, below TLS
	dials atomic.Int64
	conns sync.WaitGroup

	mu       sync.Mutex
	commands []string // received, without their line ends
	clear    []byte   // all that was received in clear text
}

func newHostileServer(say map[string]hostileSay) *hostileServer {
	return &hostileServer{say: say, polite: hostilePolite()}
}

// Dial is for imap.Options.
func (s *hostileServer) Dial(context.Context, string, string) (net.Conn, error) {
	s.dials.Add(1)
	client, server := net.Pipe()
	s.conns.Go(func() {
		defer server.Close()
		s.serve(server)
	})
	return client, nil
}

// clearText is all that came without TLS.
func (s *hostileServer) clearText() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.clear)
}

func (s *hostileServer) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands
}

// hostileWriter counts what is sent.
type hostileWriter struct {
	io.Writer
	n *atomic.Int64
}

func (w hostileWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// hostileTee keeps what is read in clear text.
type hostileTee struct {
	net.Conn
	s *hostileServer
}

func (c hostileTee) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.s.mu.Lock()
	c.s.clear = append(c.s.clear, p[:n]...)
	c.s.mu.Unlock()
	return n, err
}

// answer says what belongs to a moment.
func (s *hostileServer) answer(w io.Writer, moment, tag string) error {
	if say, ok := s.say[moment]; ok {
		return say(w, tag)
	}
	text, ok := s.polite[moment]
	switch {
	case !ok:
		text = s.polite[""]
	case moment == "SEARCH" && s.gone.Load():
		text = "* SEARCH\r\n{tag} OK EVIL\r\n"
	}
	return hostileRaw(text)(w, tag)
}

func (s *hostileServer) serve(raw net.Conn) {
	var c net.Conn = hostileTee{raw, s}
	in, out := bufio.NewReader(c), hostileWriter{c, &s.sent}
	if s.answer(out, "GREETING", "*") != nil {
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.commands = append(s.commands, line)
		s.mu.Unlock()
		tag, moment := hostileMoment(line)
		if moment == "EXPUNGE" || moment == "MOVE" {
			s.gone.Store(true)
		}
		if s.answer(out, moment, tag) != nil || moment == "LOGOUT" {
			return
		}
		if _, lies := s.say[moment]; moment == "STARTTLS" && (!lies || s.then) && s.tls != nil {
			t := tls.Server(raw, s.tls)
			if t.Handshake() != nil {
				return
			}
			in, out = bufio.NewReader(t), hostileWriter{t, &s.sent}
		}
	}
}

// hostileLine is every status line that a client may see.
var hostileLine = regexp.MustCompile(`^(\+OK( POP3 ready| logged in| \d+ octets| \d+ messages \(\d+ octets\)| \d+ \d+| \d+ \d+\.\d+` +
	`| marked as deleted| no message is marked| bye| bye, the marked messages are removed| capabilities follow| mechanisms follow| begin TLS)?` +
	`|-ERR( \[(AUTH|SYS/TEMP|SYS/PERM|IN-USE|LOGIN-DELAY)\])? [A-Za-z0-9,: ]{1,80})$`)

// A hostileSeen is a reply: its status line, and the lines below it. Whole is
// false where the stream ended inside.
type hostileSeen struct {
	status string
	lines  []string
	whole  bool
}

// hostileReplies reads what a client got for its commands, the greeting first.
// It fails the test for every octet that is no reply.
func hostileReplies(t testing.TB, got string, commands []string) []hostileSeen {
	t.Helper()
	var seen []hostileSeen
	next := func() (string, bool) {
		line, rest, ok := strings.Cut(got, "\r\n")
		if !ok {
			return "", false
		}
		got = rest
		return line, true
	}
	for _, command := range append([]string{"greeting"}, commands...) {
		if got == "" {
			break
		}
		status, ok := next()
		if !ok || len(status) > 510 || !hostileLine.MatchString(status) || strings.Contains(status, hostileText) {
			t.Errorf("%s: the client sees %.300q (whole line: %v)", command, status+got, ok)
			return seen
		}
		r := hostileSeen{status: status, whole: true}
		verb, _, arg := strings.Cut(command, " ")
		if strings.HasPrefix(status, "+OK") && (verb == "RETR" || verb == "TOP" || verb == "CAPA" || !arg && (verb == "LIST" || verb == "UIDL")) {
			r.whole = false
			for {
				line, ok := next()
				if !ok {
					r.lines = append(r.lines, got)
					got = ""
					break
				}
				if line == "." {
					r.whole = true
					break
				}
				r.lines = append(r.lines, strings.TrimPrefix(line, "."))
			}
		}
		seen = append(seen, r)
	}
	if got != "" {
		t.Errorf("octets that answer nothing: %.300q", got)
	}
	return seen
}

// hostileCounter is a trace that counts panics.
func hostileCounter(n *atomic.Int64) pop3.Trace { return pop3.Trace{Panicked: func() { n.Add(1) }} }

// hostileCPU is the time that this process has used.
func hostileCPU() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// hostileMemory watches how much memory the runtime holds, until stop, which
// returns the highest value above that of the beginning.
func hostileMemory() (stop func() int64) {
	held := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
	}
	base, highest := held(), int64(0)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			highest = max(highest, held()-base)
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(end); <-done; return highest }
}
