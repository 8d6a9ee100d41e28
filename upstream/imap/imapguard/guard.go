package imapguard

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// bufferSize is the read buffer of a connection, and the longest line that is
// looked at as a whole.
const bufferSize = 4096

// ErrCut says that the stream ended inside a literal or a response line.
var ErrCut = errors.New("the server's stream ended inside a response")

// ErrBye says that the server took its leave.
var ErrBye = errors.New("the server said BYE")

// A Violation is what a server did that no server may do. The connection is
// over.
type Violation struct{ Reason string }

func (v *Violation) Error() string { return "protocol violation by the server: " + v.Reason }

func violation(format string, args ...any) error {
	return &Violation{Reason: fmt.Sprintf(format, args...)}
}

// Limits bounds what a server may do. Zero values mean the defaults.
type Limits struct {
	Progress time.Duration // for each read and write while a command is in flight; 60 s
	Trickle  int64         // octets that have to come in each Progress spent waiting; 1024
	Idle     time.Duration // for each read between commands; 30 min
	Line     int           // octets of one response outside literals; 256 KiB
	Literal  int64         // octets of a literal that is no body; 64 KiB
	Depth    int           // nesting of parentheses; 16
	Command  int64         // octets of all responses to one command, bodies aside; 128 MiB
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&l.Progress, time.Minute)
	set(&l.Idle, 30*time.Minute)
	if l.Trickle <= 0 {
		l.Trickle = 1024
	}
	if l.Line <= 0 {
		l.Line = 256 << 10
	}
	if l.Literal <= 0 {
		l.Literal = 64 << 10
	}
	if l.Depth <= 0 {
		l.Depth = 16
	}
	if l.Command <= 0 {
		l.Command = 128 << 20
	}
	return l
}

// Expect says what the responses to the command in flight may bring. The
// functions are called in the reader's goroutine, before the command's tagged
// reply is passed on.
type Expect struct {
	List   func(number, uid uint32, size int64) // each FETCH with UID and RFC822.SIZE; number is the sequence number
	Search func(first, last uint32)             // each number or range of a SEARCH or ESEARCH response with UIDs; first <= last
	Body   uint32                               // the UID whose body is awaited; 0 for none
	Bodies bool                                 // the bodies of several messages are awaited
}

// Status is a status response of the server. Text is at most 200 octets of
// printable ASCII.
type Status struct {
	Type string // OK, NO, BAD, BYE
	Code string // response code in upper case, without its arguments
	Text string
}

func (s Status) String() string {
	if s.Code != "" {
		return s.Type + " [" + s.Code + "] " + s.Text
	}
	return s.Type + " " + s.Text
}

// Conn is a guarded connection to an IMAP server. One goroutine reads; the
// other methods are safe for concurrent use.
type Conn struct {
	base net.Conn // the transport, closed by Abort
	conn net.Conn // base, or TLS over it
	br   *bufio.Reader
	lim  Limits

	mu      sync.Mutex // deadlines and what follows
	busy    bool
	began   time.Time // of the command in flight
	status  Status
	codes   []string
	exists  bool     // an EXISTS came
	search  bool     // a SEARCH or ESEARCH came, with or without results
	secrets [][]byte // beginnings of what no status text may repeat

	expect atomic.Pointer[Expect]
	tell   atomic.Pointer[func(from, text string)] // nil for nobody
	over   atomic.Bool                             // the dialogue, by Handover
	budget atomic.Int64

	scan scanner // the reader's own
}

// New guards conn, whose transport is base: conn itself, or the connection
// under its TLS. Nothing is read or written.
func New(base, conn net.Conn, lim Limits) *Conn {
	c := &Conn{base: base, conn: conn, lim: lim.withDefaults(), busy: true}
	c.budget.Store(c.lim.Command)
	c.expect.Store(&Expect{})
	c.br = bufio.NewReaderSize(&timedReader{c: c}, bufferSize)
	return c
}

// timedReader arms the deadline before each read of the transport, and ends a
// connection that brings too little in the time spent waiting for it: a server
// that sends an octet now and then makes progress for ever.
type timedReader struct {
	c      *Conn
	waited time.Duration
	got    int64
}

func (t *timedReader) Read(p []byte) (int, error) {
	start := time.Now()
	t.c.armRead()
	n, err := t.c.conn.Read(p)
	t.waited += t.c.busySince(start)
	t.got += int64(n)
	if t.waited >= t.c.progress() {
		if err == nil && t.got < t.c.lim.Trickle {
			return 0, violation("%d octets in %v", t.got, t.waited)
		}
		t.waited, t.got = 0, 0
	}
	return n, err
}

// progress is Limits.Progress as it is now: Hurry may change it.
func (c *Conn) progress() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lim.Progress
}

// armRead sets the deadline of the next or present read.
func (c *Conn) armRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.lim.Idle
	if c.busy {
		d = c.lim.Progress
	}
	c.sure(c.conn.SetReadDeadline(time.Now().Add(d)))
}

// sure closes the connection where a deadline could not be set: without one it
// could hold the session for ever.
func (c *Conn) sure(err error) {
	if err != nil {
		c.base.Close()
	}
}

// busySince returns how long, since start, the command that is in flight has
// been so; 0 if there is none.
func (c *Conn) busySince(start time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.busy:
		return 0
	case c.began.After(start):
		start = c.began
	}
	return time.Since(start)
}

// Begin says that a command is about to be sent and what may come of it.
func (c *Conn) Begin(e Expect) {
	c.expect.Store(&e)
	c.budget.Store(c.lim.Command)
	c.mu.Lock()
	c.busy, c.began, c.status, c.codes, c.exists, c.search = true, time.Now(), Status{}, c.codes[:0], false, false
	c.mu.Unlock()
	c.armRead() // reaches a read that is already blocked
}

// End says that the command is over.
func (c *Conn) End() {
	c.expect.Store(&Expect{})
	c.budget.Store(c.lim.Command)
	c.mu.Lock()
	c.busy = false
	c.mu.Unlock()
	c.armRead()
}

// Status returns the last NO, BAD, BYE or ALERT since Begin; its Type is empty
// if there was none.
func (c *Conn) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Saw reports whether a status response since Begin carried the response code,
// which is given in upper case.
func (c *Conn) Saw(code string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.codes {
		if s == code {
			return true
		}
	}
	return false
}

// SawExists reports whether the server has told since Begin how many messages
// there are.
func (c *Conn) SawExists() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exists
}

// SawSearch reports whether the server has answered since Begin with what a
// SEARCH found, be it nothing.
func (c *Conn) SawSearch() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.search
}

func (c *Conn) noteSearch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.search = true
}

func (c *Conn) noteExists() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exists = true
}

// Withhold names what no text of a status may repeat: servers tell a command
// line back that they did not understand, and these texts go into the log. What
// was named before is forgotten.
func (c *Conn) Withhold(secrets ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.secrets)
	c.secrets = nil
	for _, s := range secrets {
		// The server may have repeated no more than the beginning.
		if s = s[:min(len(s), 8)]; s != "" {
			c.secrets = append(c.secrets, []byte(s))
		}
	}
}

// note keeps a status, which was read from line.
func (c *Conn) note(s Status, line []byte) {
	const maxCodes = 32
	if c.repeats(line) {
		s.Text = "(the text repeats the credentials)"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Code != "" && len(c.codes) < maxCodes {
		c.codes = append(c.codes, s.Code)
	}
	if s.Type != "OK" || s.Code == "ALERT" {
		c.status = s
	}
}

// Write sends p within Limits.Progress.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	conn, progress := c.conn, c.lim.Progress
	c.mu.Unlock()
	c.sure(conn.SetWriteDeadline(time.Now().Add(progress)))
	if c.over.Load() {
		c.saidLines(p)
	}
	return conn.Write(p)
}

// Hurry shortens Limits.Progress: for a farewell that must not wait.
func (c *Conn) Hurry(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lim.Progress = min(c.lim.Progress, d)
}

// Abort ends the connection at once: blocked reads and writes return.
func (c *Conn) Abort() error { return c.base.Close() }

// Close ends the connection, TLS with its closing alert.
func (c *Conn) Close() error {
	err := c.conn.Close()
	c.base.Close()
	return err
}

// LocalAddr returns the local address of the transport.
func (c *Conn) LocalAddr() net.Addr { return c.base.LocalAddr() }

// RemoteAddr returns the server's address.
func (c *Conn) RemoteAddr() net.Addr { return c.base.RemoteAddr() }

// SetDeadline does nothing: the guard owns the deadlines.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: the guard owns the deadlines.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: the guard owns the deadlines.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
