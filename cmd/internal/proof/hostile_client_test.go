package proof_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// hostilePlay logs alice in and plays commands; it returns what came behind the
// login.
func hostilePlay(t testing.TB, say map[string]hostileSay, commands string) string {
	t.Helper()
	var panics atomic.Int64
	srv := newHostileServer(say)
	engine := hostileEngine(t, hostileStore(t, srv, imap.Options{}), pop3.Options{Trace: hostileCounter(&panics), BadCommands: 1000})
	got := string(fidelityPlay(t, engine, "USER alice\r\nPASS secret\r\n"+commands))
	srv.conns.Wait()
	if panics.Load() > 0 {
		t.Errorf("%q: a panic", commands)
	}
	_, got, ok := strings.Cut(got, "+OK logged in\r\n")
	if !ok {
		t.Fatalf("no login: %q", got)
	}
	return got
}

// TestNumbersAreDigitsAndInRange has one reply for each form of a number, and no
// reply repeats it.
func TestNumbersAreDigitsAndInRange(t *testing.T) {
	const wrong, none = "-ERR wrong arguments\r\n", "-ERR no such message\r\n"
	two := fmt.Sprintf("+OK 2 %d\r\n", len(hostileMail[1]))
	for _, tt := range []struct{ command, want string }{
		{"LIST 2", two}, {"LIST 02", two}, {"LIST 000000000000000000000000002", two}, {"list 2", two}, {"LIST 2 ", two},
		{"LIST 4", none}, {"LIST 2147483647", none},
		{"LIST 0", wrong}, {"LIST 00", wrong}, {"LIST -0", wrong}, {"LIST -1", wrong}, {"LIST +1", wrong}, {"LIST 2147483648", wrong},
		{"LIST 4294967295", wrong}, {"LIST 4294967296", wrong}, {"LIST 4294967297", wrong}, {"LIST 9223372036854775807", wrong},
		{"LIST 9223372036854775808", wrong}, {"LIST 18446744073709551615", wrong}, {"LIST 18446744073709551617", wrong},
		{"LIST 340282366920938463463374607431768211457", wrong}, {"LIST " + strings.Repeat("9", 400), wrong},
		{"LIST 0x1", wrong}, {"LIST 0b1", wrong}, {"LIST 0o1", wrong}, {"LIST 1e0", wrong}, {"LIST 1e3", wrong}, {"LIST 1.0", wrong},
		{"LIST 1.", wrong}, {"LIST .1", wrong}, {"LIST 1,0", wrong}, {"LIST 1_0", wrong}, {"LIST 1:2", wrong}, {"LIST 1:*", wrong},
		{"LIST *", wrong}, {"LIST 1-2", wrong}, {"LIST --1", wrong}, {"LIST 1-", wrong}, {"LIST 1+", wrong}, {"LIST (1)", wrong},
		{"LIST \uff11", wrong}, {"LIST \u0661", wrong}, {"LIST \u2460", wrong}, {"LIST \u00b2", wrong}, {"LIST 1\u200b", wrong}, {"LIST \u00a01", wrong},
		{"LIST 1\x00", wrong}, {"LIST \x001", wrong}, {"LIST 1\t", wrong}, {"LIST \t1", wrong}, {"LIST 1\r", wrong}, {"LIST 1\x7f", wrong},
		{"LIST  1", wrong}, {"LIST 1 1", wrong}, {"LIST 1 2 3", wrong}, {"LIST one", wrong}, {"LIST NaN", wrong}, {"LIST Inf", wrong},
		{"LIST %d", wrong}, {"LIST %31", wrong}, {"LIST $1", wrong}, {`LIST "1"`, wrong}, {"LIST '1'", wrong}, {"LIST 1;", wrong},
		{"RETR", wrong}, {"RETR 4294967297", wrong}, {"RETR 4", none}, {"DELE", wrong}, {"DELE 0", wrong}, {"DELE -3", wrong}, {"UIDL 0", wrong},
		{"TOP 1", wrong}, {"TOP 1 -1", wrong}, {"TOP 1 99999999999999999999", wrong}, {"TOP 1 2147483648", wrong}, {"TOP 0 1", wrong}, {"TOP 9 1", none},
		{"UIDL 2", "+OK 2 7.2\r\n"},
	} {
		if got := hostilePlay(t, nil, tt.command+"\r\nQUIT\r\n"); got != tt.want+"+OK bye\r\n" {
			t.Errorf("%q: got %q, want %q", tt.command, got, tt.want)
		}
	}
}

// TestSizesOfAnyGreatnessAddUp has maildrops of sizes that 32 and 64 bits do not
// hold.
func TestSizesOfAnyGreatnessAddUp(t *testing.T) {
	for _, tt := range []struct {
		sizes [3]int64
		stat  string // the total
		rest  string // without the first message
	}{
		{[3]int64{2 << 30, 2 << 30, 2 << 30}, "6442450944", "4294967296"},
		{[3]int64{1<<31 - 1, 1, 1 << 31}, "4294967296", "2147483649"},
		{[3]int64{math.MaxInt64, 0, 0}, "9223372036854775807", "0"},
		{[3]int64{math.MaxInt64, math.MaxInt64, 1}, "9223372036854775807", "9223372036854775807"},
		{[3]int64{math.MaxInt64, math.MaxInt64 - 1, 1}, "9223372036854775807", "9223372036854775807"},
	} {
		var list string
		for i, size := range tt.sizes {
			list += fmt.Sprintf("* %d FETCH (UID %d RFC822.SIZE %d)\r\n", i+1, i+1, size)
		}
		got := hostilePlay(t, map[string]hostileSay{"SIZES": hostileRaw(list + "{tag} OK x\r\n")}, "STAT\r\nLIST 1\r\nDELE 1\r\nSTAT\r\nRSET\r\nSTAT\r\nQUIT\r\n")
		want := fmt.Sprintf("+OK 3 %s\r\n+OK 1 %d\r\n+OK marked as deleted\r\n+OK 2 %s\r\n+OK no message is marked\r\n+OK 3 %[1]s\r\n+OK bye\r\n", tt.stat, tt.sizes[0], tt.rest)
		if got != want {
			t.Errorf("%v: got %q, want %q", tt.sizes, got, want)
		}
	}
}

// hostileFlood is a client that sends a line without end: prefix, then n octets,
// then tail. It keeps what is sent to it.
type hostileFlood struct {
	fidelityScript
	n    int64
	tail string
	took int64 // octets that were taken from it
}

func (f *hostileFlood) Read(p []byte) (int, error) {
	n := 0
	if len(f.in) > 0 {
		n, _ = f.fidelityScript.Read(p)
	} else if f.n > 0 {
		n = int(min(f.n, int64(len(p))))
		for i := range n {
			p[i] = 'x'
		}
		if f.n -= int64(n); f.n == 0 {
			f.in, f.tail = []byte(f.tail), ""
		}
	} else {
		return 0, io.EOF
	}
	f.took += int64(n)
	return n, nil
}

// TestAnEndlessLineEndsTheSession feeds lines of any length to every state: one
// -ERR, the end, and what comes behind the line is never a command.
func TestAnEndlessLineEndsTheSession(t *testing.T) {
	size := proof.Pick[int64](4<<20, 64<<20, 1<<30)
	for _, tt := range []struct {
		name, before, prefix string
		length               int64
		want                 string // the last reply
	}{
		{"first_line", "", "", size, "-ERR line too long"},
		{"command", "CAPA\r\n", "NOOP ", size, "-ERR line too long"},
		{"just_over_the_limit", "CAPA\r\n", "NOOP ", 600, "-ERR line too long"},
		{"pass", "USER alice\r\n", "PASS ", size, "-ERR line too long"},
		{"pass_of_10_MiB", "USER alice\r\n", "PASS ", 10 << 20, "-ERR line too long"},
		{"auth", "", "AUTH PLAIN ", size, "-ERR line too long"},
		{"sasl_line", "AUTH PLAIN\r\n", "", size, "-ERR line too long"},
		{"after_login", "USER alice\r\nPASS secret\r\n", "RETR ", size, "-ERR line too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := newHostileServer(nil)
			engine := hostileEngine(t, hostileStore(t, srv, imap.Options{}), pop3.Options{})
			c := &hostileFlood{n: tt.length, tail: "\nDELE 1\r\nQUIT\r\n"}
			c.in = []byte(tt.before + tt.prefix)
			stop := hostileMemory()
			engine.Serve(t.Context(), c, pop3.Via{Listener: "proof"})
			held := stop()
			srv.conns.Wait()
			lines := strings.Split(strings.TrimSuffix(c.out.String(), "\r\n"), "\r\n")
			if last := lines[len(lines)-1]; last != tt.want || strings.Count(c.out.String(), "too long") != 1 {
				t.Errorf("the client sees %q", lines)
			}
			if c.took > 64<<10 || held > 16<<20 {
				t.Errorf("%d octets were taken, %d octets of memory held", c.took, held)
			}
		})
	}
}

// TestABrowserHearsNothingOfItself is ALPACA: what another protocol's client
// posts to a POP3S port never comes back, and a client that offers other
// protocols only is refused in the handshake. The TLS settings are those of
// cmd/popgate, which has a test of its own for them.
func TestABrowserHearsNothingOfItself(t *testing.T) {
	ca := imaptest.NewCA(t)
	config := ca.ServerConfig()
	config.NextProtos = []string{"pop3"}
	engine := hostileEngine(t, hostileStore(t, newHostileServer(nil), imap.Options{}), pop3.Options{TLS: config})
	server, err := proxy.New(proxy.Options{}, proxy.Listener{Addr: "127.0.0.1:0", TLS: config, Handler: func(ctx context.Context, c net.Conn) {
		engine.Serve(ctx, c, pop3.Via{Listener: "proof", TLS: true})
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(done); server.Serve(ctx); server.Shutdown(ctx) }()
	defer func() { cancel(); <-done }()

	dial := func(alpn ...string) (*tls.Conn, error) {
		client := ca.ClientConfig()
		client.NextProtos = alpn
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", server.Addrs()[0].String(), client)
		if err == nil {
			c.SetDeadline(time.Now().Add(time.Minute))
			// Under TLS 1.3 a refusal comes with the first read.
			if _, err = bufio.NewReaderSize(c, 16).Peek(1); err != nil {
				c.Close()
			}
		}
		return c, err
	}
	for _, tt := range []struct {
		alpn []string
		ok   bool
	}{{nil, true}, {[]string{"pop3"}, true}, {[]string{"h2", "pop3"}, true}, {[]string{"http/1.1"}, false}, {[]string{"h2", "http/1.1"}, false}, {[]string{"imap"}, false}} {
		c, err := dial(tt.alpn...)
		if (err == nil) != tt.ok {
			t.Errorf("ALPN %q: %v", tt.alpn, err)
		}
		if err == nil {
			c.Close()
		}
	}
	const script = "<script>alert(document.domain)</script>"
	for _, post := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n" + script + "\r\nUSER alice\r\nPASS secret\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n",
		"GET /" + script + " HTTP/1.1\r\n\r\n",
		script + "\r\n" + script + "\r\n" + script + "\r\n",
		"USER " + script + "\r\nPASS " + script + "\r\nRETR " + script + "\r\nAUTH " + script + "\r\n" + script + "\r\nTOP 1 " + script + "\r\nQUIT\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + script, "EHLO " + script + "\r\nMAIL FROM:<" + script + ">\r\n",
	} {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, post)
		c.CloseWrite()
		got, _ := io.ReadAll(c)
		c.Close()
		if strings.Contains(strings.ToLower(string(got)), "script") || strings.Contains(string(got), "document") {
			t.Errorf("%.20q: what was sent comes back: %q", post, got)
		}
		if verb, _, _ := strings.Cut(post, " "); strings.Contains("POST GET PRI EHLO", verb) && len(got) > len("OK POP3 ready\r\n")+1 {
			t.Errorf("%.20q: got %q", post, got)
		}
	}
}
