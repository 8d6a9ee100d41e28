package demo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/mail"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"go.uber.org/goleak"

	"github.com/popgate/popgate/cmd/internal/demo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSamples(t *testing.T) {
	list := demo.Samples()
	if len(list) != 12 {
		t.Errorf("%d samples, want a dozen", len(list))
	}
	again := demo.BuildSamples()
	var dots, empty, large, open bool
	for i, s := range list {
		if !bytes.Equal(s.Raw, again[i].Raw) {
			t.Errorf("%s: not the same the second time", s.What)
		}
		if bytes.Contains(bytes.ReplaceAll(s.Raw, []byte("\r\n"), nil), []byte("\n")) {
			t.Errorf("%s: a bare LF", s.What)
		}
		for line := range bytes.Lines(s.Raw) {
			if len(line) > 1000 {
				t.Errorf("%s: a line of %d octets", s.What, len(line))
			}
		}
		m, err := mail.ReadMessage(bytes.NewReader(s.Raw))
		if err != nil {
			t.Errorf("%s: %v", s.What, err)
			continue
		}
		for _, field := range []string{"From", "To"} {
			a, err := m.Header.AddressList(field)
			if err != nil || !strings.HasSuffix(a[0].Address, "@example.com") {
				t.Errorf("%s: %s is %q, %v", s.What, field, a, err)
			}
		}
		if _, _, err := mime.ParseMediaType(m.Header.Get("Content-Type")); err != nil {
			t.Errorf("%s: Content-Type: %v", s.What, err)
		}
		dots = dots || bytes.Contains(s.Raw, []byte("\r\n.\r\n"))
		empty = empty || bytes.HasSuffix(s.Raw, []byte("\r\n\r\n"))
		large = large || len(s.Raw) > 4_000_000
		open = open || !bytes.HasSuffix(s.Raw, []byte("\r\n"))
	}
	if !dots || !empty || !large || !open {
		t.Errorf("a kind of message is missing: dots %v, empty %v, large %v, open %v", dots, empty, large, open)
	}
}

func TestTheSessionEndsWell(t *testing.T) {
	var out bytes.Buffer
	if err := demo.Play(t.Context(), fakePOP3(t, nil), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"C: CAPA\n", "C: USER demo\n", "C: PASS demo\n", "C: STAT\n", "C: LIST\n", "C: UIDL\n", "C: TOP 5 3\n",
		"C: RETR 7\n", "C: RSET\n", "C: DELE 2\n", "C: QUIT\n", "lines more, 4", "S: .\n", "a second session"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the dialogue lacks %q", want)
		}
	}
	if n := strings.Count(out.String(), "\n"); n > 200 {
		t.Errorf("the dialogue has %d lines: the large message is not abbreviated", n)
	}
}

// Whatever the gateway does wrong, the demonstration says so.
func TestTheSessionFindsFaults(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to string // replaced in what the server sends
		want     string
	}{
		{"an_error", "+OK bye", "-ERR [SYS/TEMP] some messages are not removed", "not +OK"},
		{"a_wrong_total", "+OK 12 ", "+OK 13 ", "STAT"},
		{"a_wrong_size", "\r\n4 ", "\r\n4 1", "LIST"},
		{"an_id_twice", "\r\n4 id4\r\n", "\r\n4 id3\r\n", "UIDL"},
		{"ids_that_change", "\r\n2 id3\r\n", "\r\n2 id2\r\n", "unique-ids"},
		{"dots_that_are_not_doubled", "\r\n..hidden", "\r\n.hidden", "RETR 5"},
		{"an_octet_that_changed", "knows nothing", "knows-nothing", "RETR 1"},
		{"a_reply_cut_short", "\r\n12 id12\r\n.\r\n", "!", "EOF"},
		{"a_bare_line_feed", "+OK 12 ", "+OK\n", "CR LF"},
		{"what_was_deleted_is_still_there", "+OK 11 ", "+OK 12 ", "STAT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			err := demo.Play(t.Context(), fakePOP3(t, strings.NewReplacer(tt.from, tt.to)), &out)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q\n%s", err, tt.want, &out)
			}
		})
	}
}

func TestTheSessionEndsWithItsContext(t *testing.T) {
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- demo.Play(ctx, ln.Addr().String(), io.Discard) }()
	c, err := ln.Accept() // and say nothing
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name string
		once bool
	}{{"once_returns_after_the_session", true}, {"else_it_serves_until_the_context_ends", false}} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			out := &cancelOn{text: "The same mailbox over IMAP", cancel: cancel}
			stopped := 0
			err := demo.Run(ctx, demo.Options{Address: "127.0.0.1:0", Once: tt.once, Out: out,
				Start: func(_ context.Context, upstream netip.AddrPort) (string, func() error, error) {
					countMessages(t, upstream, 12)
					return fakePOP3(t, nil), func() error { stopped++; return nil }, nil
				}})
			if err != nil || stopped != 1 {
				t.Errorf("Run = %v, gateway stopped %d times, want nil and once\n%s", err, stopped, &out.Buffer)
			}
			for _, want := range []string{"curl -u demo:demo pop3://127.0.0.1:", "encryption", "a large attachment"} {
				if got := strings.Contains(out.String(), want); got == tt.once {
					t.Errorf("invitation with %q: %v, want %v", want, got, !tt.once)
				}
			}
		})
	}
}

func TestRunFailures(t *testing.T) {
	start := func(context.Context, netip.AddrPort) (string, func() error, error) {
		return "", nil, errors.New("no gateway today")
	}
	for _, tt := range []struct{ name, imap, want string }{
		{"the_gateway_does_not_start", "127.0.0.1:0", "no gateway today"},
		{"not_on_other_addresses", "0.0.0.0:0", "loopback"},
		{"the_port_is_no_port", "127.0.0.1:x", "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := demo.Run(t.Context(), demo.Options{Address: tt.imap, Once: true, Out: io.Discard, Start: start})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Run = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// The library's deadlines are for whole responses; ours are for progress.
func TestPatientConnectionsIgnoreDeadlines(t *testing.T) {
	ln := demo.Patient(listen(t))
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	past := time.Now().Add(-time.Hour)
	for _, set := range []func(time.Time) error{server.SetDeadline, server.SetReadDeadline, server.SetWriteDeadline} {
		if err := set(past); err != nil {
			t.Fatal(err)
		}
	}
	large := bytes.Repeat([]byte("x"), 1<<20)
	go server.Write(large)
	got, err := io.ReadAll(io.LimitReader(client, int64(len(large))))
	if err != nil || !bytes.Equal(got, large) {
		t.Errorf("read %d octets, %v; want %d", len(got), err, len(large))
	}
}

// cancelOn is a buffer that cancels when a text comes by.
type cancelOn struct {
	bytes.Buffer
	text   string
	cancel func()
}

func (c *cancelOn) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	if strings.Contains(c.String(), c.text) {
		c.cancel()
	}
	return n, err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func countMessages(t *testing.T, at netip.AddrPort, want uint32) {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	c := imapclient.New(conn, nil)
	defer c.Close()
	if err := c.Login("demo", "demo").Wait(); err != nil {
		t.Fatal(err)
	}
	data, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil || data.NumMessages != want {
		t.Errorf("INBOX: %+v, %v; want %d messages", data, err, want)
	}
}
