package pop3_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/memdrop"
)

// counted counts the writes of a server to the system.
type counted struct {
	net.Conn
	writes atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// tcp starts a session on s over a real connection. The client reads through
// the buffer, whose octets come out of TLS where config is not nil.
func tcp(t testing.TB, s *pop3.Server, server, client *tls.Config) (c net.Conn, r *bufio.Reader, raw *counted) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw = &counted{Conn: accepted}
	top := net.Conn(raw)
	if server != nil {
		top = tls.Server(raw, server)
		c = tls.Client(c, client)
	}
	served := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(served)
		s.Serve(ctx, top, pop3.Via{Listener: "bench", TLS: server != nil})
	}()
	t.Cleanup(func() { c.Close(); <-served; cancel() })
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	r = bufio.NewReaderSize(c, 64<<10)
	if _, err := r.ReadSlice('\n'); err != nil { // the greeting
		t.Fatal(err)
	}
	return c, r, raw
}

// transfer sends commands and reads octets of reply, to the last.
func transfer(t testing.TB, c net.Conn, r *bufio.Reader, commands []byte, octets int) {
	if _, err := c.Write(commands); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Discard(octets); err != nil {
		t.Fatal(err)
	}
}

// full reads one multi-line response and returns how many octets it has.
func full(t testing.TB, c net.Conn, r *bufio.Reader, command string) int {
	t.Helper()
	io.WriteString(c, command+"\r\n")
	n := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			t.Fatal(err)
		}
		n += len(line)
		if string(line) == ".\r\n" {
			return n
		}
	}
}

func benchLab(t testing.TB, messages, size int) *pop3.Server {
	t.Helper()
	list := make([]memdrop.Message, messages)
	for i := range list {
		list[i] = memdrop.Message{ID: fmt.Sprintf("1234567890.%d", i+1), Body: []byte("Subject: x\r\n\r\n"), Size: int64(size)}
		if messages < 1000 {
			list[i] = filler(list[i].ID, size)
		}
	}
	store := memdrop.New()
	store.AddUser("alice", "pw", list...)
	s, err := pop3.NewServer(pop3.Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func logIn(t testing.TB, c net.Conn, r *bufio.Reader) {
	t.Helper()
	transfer(t, c, r, []byte("USER alice\r\nPASS pw\r\n"), len("+OK\r\n+OK logged in\r\n"))
}

// BenchmarkRetrieve is one message after the other over TCP, as most clients
// fetch them, and sixteen at a time.
func BenchmarkRetrieve(b *testing.B) {
	server, client := certificate(b)
	for _, bb := range []struct {
		name   string
		size   int
		depth  int
		secure bool
	}{
		{"4kB", 4 << 10, 1, false},
		{"4kB_by_16", 4 << 10, 16, false},
		{"4kB_tls", 4 << 10, 1, true},
		{"1MB", 1 << 20, 1, false},
		{"1MB_tls", 1 << 20, 1, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := benchLab(b, 1, bb.size)
			var c net.Conn
			var r *bufio.Reader
			var raw *counted
			if bb.secure {
				c, r, raw = tcp(b, s, server, client)
			} else {
				c, r, raw = tcp(b, s, nil, nil)
			}
			logIn(b, c, r)
			octets := full(b, c, r, "RETR 1")
			commands := bytes.Repeat([]byte("RETR 1\r\n"), bb.depth)
			before := raw.writes.Load()
			b.SetBytes(int64(octets * bb.depth))
			b.ReportAllocs()
			for b.Loop() {
				transfer(b, c, r, commands, octets*bb.depth)
			}
			b.ReportMetric(float64(raw.writes.Load()-before)/float64(b.N*bb.depth), "writes/msg")
		})
	}
}

// BenchmarkListing is LIST and UIDL of a large maildrop over TCP.
func BenchmarkListing(b *testing.B) {
	s := benchLab(b, 100_000, 4096)
	for _, command := range []string{"LIST", "UIDL"} {
		b.Run(command+"_100k", func(b *testing.B) {
			c, r, raw := tcp(b, s, nil, nil)
			logIn(b, c, r)
			octets := full(b, c, r, command)
			before := raw.writes.Load()
			b.SetBytes(int64(octets))
			b.ReportAllocs()
			for b.Loop() {
				transfer(b, c, r, []byte(command+"\r\n"), octets)
			}
			b.ReportMetric(float64(raw.writes.Load()-before)/float64(b.N), "writes/op")
		})
	}
}

// endless is a connection to a client that asks the same all the time and
// takes everything at once: what is left is the engine alone.
type endless struct {
	stream
	login, again string
	left         int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.login != "" {
		n := copy(p, e.login)
		e.login = e.login[n:]
		return n, nil
	}
	if e.left == 0 {
		return 0, io.EOF
	}
	e.left--
	return copy(p, e.again), nil
}

func (e *endless) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkEngine is the cost of a command in the engine, with a store and a
// connection that cost nothing.
func BenchmarkEngine(b *testing.B) {
	for _, command := range []string{"NOOP", "STAT", "LIST 1", "UIDL 1", "RETR 1", "TOP 1 0", "TOP 1 20"} {
		b.Run(strings.ReplaceAll(command, " ", "_"), func(b *testing.B) {
			s := benchLab(b, 3, 4<<10)
			b.ReportAllocs()
			conn := &endless{login: "USER alice\r\nPASS pw\r\n", again: command + "\r\n", left: b.N}
			b.ResetTimer()
			s.Serve(b.Context(), conn, pop3.Via{})
		})
	}
}
