package pop3_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
)

// fake is a store made of functions, for what no right store does.
type fake struct {
	login    func(context.Context, upstream.Credentials) error
	sizes    []int64
	uidl     func(i int) string
	retrieve func(context.Context, int, upstream.Extent) (upstream.Body, error)
	update   func(context.Context, upstream.Changes) (upstream.Receipt, error)
	close    func() error
	closed   int
}

func (f *fake) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	if f.login != nil {
		if err := f.login(ctx, c); err != nil {
			return nil, err
		}
	}
	return f, nil
}
func (f *fake) Terms() upstream.Terms { return upstream.Terms{Upstream: "fake"} }

func (f *fake) Key() string                                     { return "key" }
func (f *fake) Open(context.Context) (upstream.Maildrop, error) { return f, nil }
func (f *fake) Close() error {
	f.closed++
	if f.close != nil {
		return f.close()
	}
	return nil
}
func (f *fake) Len() int         { return len(f.sizes) }
func (f *fake) Size(i int) int64 { return f.sizes[i] }
func (f *fake) AppendUIDL(dst []byte, i int) []byte {
	if f.uidl != nil {
		return append(dst, f.uidl(i)...)
	}
	return append(dst, byte('a'+i%26))
}
func (f *fake) Retrieve(ctx context.Context, i int, e upstream.Extent) (upstream.Body, error) {
	return f.retrieve(ctx, i, e)
}
func (f *fake) Update(ctx context.Context, ch upstream.Changes) (upstream.Receipt, error) {
	return f.update(ctx, ch)
}

// body is a message that reads as a reader does.
type body struct {
	io.Reader
	octets int64
	closed bool
}

func (b *body) Octets() int64 { return b.octets }
func (b *body) Close() error  { b.closed = true; return nil }

// playFake runs a session over f.
func playFake(t *testing.T, f *fake, commands string) (got string, l *lab) {
	t.Helper()
	l = newLab("nobody", "")
	s := l.server(t, func(o *pop3.Options) { o.Store = f })
	return l.play(t, s, "USER alice\r\nPASS pw\r\n"+commands, 512), l
}

const welcome = "+OK POP3 ready\r\n+OK\r\n+OK logged in\r\n"

func TestTotalsDoNotOverflow(t *testing.T) {
	const max = math.MaxInt64
	for _, tt := range []struct {
		name  string
		sizes []int64
		want  string
	}{
		{"over_4_gib", []int64{2 << 30, 2 << 30, 2 << 30}, "+OK 3 6442450944\r\n+OK 2 4294967296\r\n+OK 3 6442450944\r\n"},
		{"over_2_to_the_63", []int64{max, max, 5}, "+OK 3 9223372036854775807\r\n+OK 2 9223372036854775807\r\n+OK 3 9223372036854775807\r\n"},
		{"back_from_overflow", []int64{max, 7, 5}, "+OK 3 9223372036854775807\r\n+OK 2 12\r\n+OK 3 9223372036854775807\r\n"},
		{"over_2_to_the_64", []int64{max, max, max, 1}, "+OK 4 9223372036854775807\r\n+OK 3 9223372036854775807\r\n+OK 4 9223372036854775807\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, l := playFake(t, &fake{sizes: tt.sizes}, "STAT\r\nDELE 1\r\nSTAT\r\nRSET\r\nSTAT\r\n")
			l.record.check(t)
			got = strings.ReplaceAll(strings.ReplaceAll(got, "+OK marked as deleted\r\n", ""), "+OK no message is marked\r\n", "")
			if got != welcome+tt.want {
				t.Errorf("got %q, want %q", got, welcome+tt.want)
			}
		})
	}
}

func TestTheSizeTheServiceAnnouncesIsTold(t *testing.T) {
	const text = "Subject: x\n\n.dot\n"
	f := &fake{sizes: []int64{99}, retrieve: func(context.Context, int, upstream.Extent) (upstream.Body, error) {
		return &body{strings.NewReader(text), int64(len(text)), false}, nil
	}}
	got, l := playFake(t, f, "RETR 1\r\nTOP 1 99\r\n")
	if want := welcome + "+OK 17 octets\r\nSubject: x\r\n\r\n..dot\r\n.\r\n+OK\r\nSubject: x\r\n\r\n..dot\r\n.\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []string{"fake: 99 20"}; !slices.Equal(l.mismatches, want) {
		t.Errorf("size mismatches: %q, want %q", l.mismatches, want)
	}
	if want := []string{"20 true", "20 true"}; !slices.Equal(l.retrieved, want) {
		t.Errorf("retrieved: %q, want %q", l.retrieved, want)
	}
}

// A body of another length than was announced is no whole message, whatever it
// says of itself.
func TestABodyOfTheWrongLengthIsCut(t *testing.T) {
	for _, octets := range []int64{16, 18} {
		b := &body{strings.NewReader("Subject: x\n\n.dot\n"), octets, false}
		f := &fake{sizes: []int64{17}, retrieve: func(context.Context, int, upstream.Extent) (upstream.Body, error) { return b, nil }}
		got, l := playFake(t, f, "RETR 1\r\nDELE 1\r\nQUIT\r\n")
		if strings.Contains(got, "\r\n.\r\n") || l.ends[0] != pop3.EndUpstreamLost || !b.closed || f.closed != 1 {
			t.Errorf("%d announced: got %q, ended by %q", octets, got, l.ends[0])
		}
	}
}

// TOP closes the body early: what it does not need is not read.
func TestTopLeavesTheRestWhereItIs(t *testing.T) {
	read := 0
	endless := readerFunc(func(p []byte) (int, error) {
		n := copy(p, "Subject: x\r\n\r\nline\r\n"[min(read, 14):])
		read += n
		return n, nil
	})
	b := &body{endless, 1 << 40, false}
	var asked upstream.Extent
	f := &fake{sizes: []int64{1 << 40}, retrieve: func(_ context.Context, _ int, e upstream.Extent) (upstream.Body, error) {
		asked = e
		return b, nil
	}}
	got, l := playFake(t, f, "TOP 1 2\r\nNOOP\r\n")
	if want := welcome + "+OK\r\nSubject: x\r\n\r\nline\r\nline\r\n.\r\n+OK\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !b.closed || read > 100 || asked != (upstream.Extent{Top: true, Lines: 2}) {
		t.Errorf("closed: %v, %d octets read, asked for %+v", b.closed, read, asked)
	}
	if want := []string{"26 false"}; !slices.Equal(l.retrieved, want) {
		t.Errorf("retrieved: %q, want %q", l.retrieved, want)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A TOP of a store that gives the top alone ends in io.EOF, and is not the whole
// message for that.
func TestTopOfAStoreThatCutsIsNotRead(t *testing.T) {
	l := newLab("alice", "pw", filler("a1", 500))
	l.store.SetTerms(upstream.Terms{MarkSeen: true})
	s := l.server(t, nil)
	l.play(t, s, "USER alice\r\nPASS pw\r\nTOP 1 1\r\nQUIT\r\n", 512)
	l.check(t)
	if seen := l.store.Seen("alice"); len(seen) != 0 {
		t.Errorf("read: %q", seen)
	}
}

func TestAReceiptThatDoesNotBalanceIsNoConfirmation(t *testing.T) {
	for _, r := range []upstream.Receipt{{}, {Removed: 1}, {Removed: 3}, {Removed: 3, Kept: -1}} {
		f := &fake{sizes: []int64{1, 2}, update: func(context.Context, upstream.Changes) (upstream.Receipt, error) { return r, nil }}
		got, l := playFake(t, f, "DELE 1\r\nDELE 2\r\nQUIT\r\n")
		if !strings.HasSuffix(got, "-ERR [SYS/PERM] some deleted messages not removed\r\n") {
			t.Errorf("%+v: got %q", r, got)
		}
		if want := (pop3.Deletions{Marked: 2, Kept: 2}); l.deletions != want {
			t.Errorf("%+v: %+v, want %+v", r, l.deletions, want)
		}
	}
}

// An error is no confirmation either, whatever the receipt says.
func TestAnErrorBesideAReceiptIsNoConfirmation(t *testing.T) {
	f := &fake{sizes: []int64{1}, update: func(context.Context, upstream.Changes) (upstream.Receipt, error) {
		return upstream.Receipt{Removed: 1}, fault(upstream.Unavailable, "update")
	}}
	got, l := playFake(t, f, "DELE 1\r\nQUIT\r\n")
	if !strings.HasSuffix(got, "-ERR [SYS/TEMP] some deleted messages not removed\r\n") {
		t.Errorf("got %q", got)
	}
	if want := (pop3.Deletions{Marked: 1, Removed: 1}); l.deletions != want {
		t.Errorf("%+v, want %+v", l.deletions, want)
	}
}

// What could be taken for something else on the way is refused here: the store
// is not asked. The reply is that of a wrong password.
func TestHostileCredentialsDoNotReachTheStore(t *testing.T) {
	var hostile [][2]string
	for c := range 0x20 {
		hostile = append(hostile, [2]string{"al" + string(rune(c)) + "ice", "pw"})
	}
	hostile = append(hostile, [][2]string{{"alice\x7f", "pw"}, {"", "pw"}, {"alice", ""}, {"alice", "p\x00w"}, {"alice", "p\rw"}, {"alice", "p\nw"}}...)
	for _, h := range hostile {
		encode := base64.StdEncoding.EncodeToString
		for _, commands := range []string{
			"AUTH PLAIN " + encode([]byte("\x00"+h[0]+"\x00"+h[1])) + "\r\n",
			"AUTH LOGIN\r\n" + encode([]byte(h[0])) + "\r\n" + encode([]byte(h[1])) + "\r\n",
		} {
			l := newLab("alice", "pw")
			got := l.play(t, l.server(t, nil), commands+"QUIT\r\n", 512)
			if n := l.store.Calls().Login; n != 0 || !strings.Contains(got, "-ERR [AUTH] wrong user or password\r\n") {
				t.Errorf("%q: the store was asked %d times, the client got %q", h, n, got)
			}
		}
	}
}

func TestDeletionsBalance(t *testing.T) {
	l := newLab("alice", "pw", filler("a1", 50), filler("b2", 50), filler("c3", 50), filler("d4", 50))
	l.store.SetFaults(memdrop.Faults{Update: func(context.Context, string, []string) ([]string, error) { return []string{"c3"}, nil }})
	l.store.Deliver("alice")
	s := l.server(t, nil)
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, s, loopback4, loopback4, pop3.Via{})
		for _, c := range []string{"USER alice", "PASS pw", "DELE 1", "DELE 4", "RSET", "DELE 1", "DELE 2", "DELE 3"} {
			p.want(lastLine(p.ask(c)), "+OK...")
		}
		l.store.Expunge("alice", "a1")
		p.want(p.ask("QUIT"), "-ERR [SYS/TEMP]...")
		p.hangUp()
	})
	l.check(t)
	if want := (pop3.Deletions{Marked: 5, Reset: 2, Removed: 1, Missing: 1, Kept: 1}); l.deletions != want {
		t.Errorf("%+v, want %+v", l.deletions, want)
	}

	l = newLab("alice", "pw", filler("a1", 50))
	l.play(t, l.server(t, nil), "USER alice\r\nPASS pw\r\nDELE 1\r\n", 512)
	l.check(t)
	if want := (pop3.Deletions{Marked: 1, Abandoned: 1}); l.deletions != want {
		t.Errorf("without QUIT: %+v, want %+v", l.deletions, want)
	}
}

func lastLine(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return lines[max(len(lines)-2, 0)]
}

// A fault anywhere in the store ends one session, and everything is let go.
func TestAPanicEndsOneSession(t *testing.T) {
	boom := func() { panic("boom") }
	for _, tt := range []struct {
		name     string
		f        *fake
		commands string
		want     pop3.Deletions
	}{
		{"login", &fake{login: func(context.Context, upstream.Credentials) error { boom(); return nil }}, "", pop3.Deletions{}},
		{"size", &fake{sizes: []int64{1}, retrieve: func(context.Context, int, upstream.Extent) (upstream.Body, error) { boom(); return nil, nil }},
			"DELE 1\r\nRSET\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n", pop3.Deletions{Marked: 1, Reset: 1}},
		{"uidl", &fake{sizes: []int64{1}, uidl: func(int) string { boom(); return "" }}, "DELE 1\r\nRSET\r\nDELE 1\r\nUIDL\r\nUIDL 1\r\nRSET\r\nUIDL\r\nQUIT\r\n",
			pop3.Deletions{Marked: 2, Reset: 2}},
		{"read", &fake{sizes: []int64{1}, retrieve: func(context.Context, int, upstream.Extent) (upstream.Body, error) {
			return &body{readerFunc(func([]byte) (int, error) { boom(); return 0, nil }), 1, false}, nil
		}}, "RETR 1\r\nDELE 1\r\nQUIT\r\n", pop3.Deletions{}},
		{"update", &fake{sizes: []int64{1}, update: func(context.Context, upstream.Changes) (upstream.Receipt, error) {
			boom()
			return upstream.Receipt{}, nil
		}}, "DELE 1\r\nQUIT\r\n", pop3.Deletions{Marked: 1, Kept: 1}},
		{"close", &fake{sizes: []int64{1}, close: func() error { boom(); return nil }}, "DELE 1\r\n", pop3.Deletions{Marked: 1, Abandoned: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, l := playFake(t, tt.f, tt.commands)
			l.record.check(t)
			if l.panics != 1 || len(l.ends) != 1 || l.ends[0] != pop3.EndPanic {
				t.Errorf("%d panics, ended by %q", l.panics, l.ends)
			}
			if l.deletions != tt.want {
				t.Errorf("%+v, want %+v", l.deletions, tt.want)
			}
			if tt.name != "login" && tt.f.closed != 1 {
				t.Errorf("the account was closed %d times", tt.f.closed)
			}
			if strings.Contains(got, "boom") || !strings.Contains(l.log.String(), "boom") || !strings.Contains(l.log.String(), "stack=") {
				t.Errorf("client: %q, log: %s", got, l.log.String())
			}
		})
	}
}

func TestWhereAPasswordIsAccepted(t *testing.T) {
	for _, tt := range []struct {
		name          string
		local, remote net.Addr
		tls, allow    bool
		want          bool
	}{
		{"both_ends_loopback", loopback4, loopback4, false, false, true},
		{"ipv6_loopback", loopback6, loopback6, false, false, true},
		{"loopback_in_ipv6_clothes", mapped4, mapped4, false, false, true},
		{"from_outside", loopback4, remote4, false, false, false},
		{"from_outside_ipv6", loopback6, remote6, false, false, false},
		{"to_outside", remote4, loopback4, false, false, false},
		{"from_outside_with_tls", loopback4, remote4, true, false, true},
		{"from_outside_allowed", loopback4, remote4, false, true, true},
		{"no_ip_at_all", pipeAddr{}, pipeAddr{}, false, false, false},
		{"no_address_at_all", nil, nil, false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab("alice", "pw")
				s := l.server(t, func(o *pop3.Options) { o.AllowClearText = tt.allow })
				p := dial(t, s, tt.local, tt.remote, pop3.Via{TLS: tt.tls})
				p.received()
				caps := p.ask("CAPA")
				if got := strings.Contains(caps, "\r\nUSER\r\n"); got != tt.want {
					t.Errorf("USER in CAPA: %v, want %v", got, tt.want)
				}
				if got := strings.Contains(caps, "\r\nSASL "); got != tt.want {
					t.Errorf("SASL in CAPA: %v, want %v", got, tt.want)
				}
				for _, c := range []string{"USER alice", "AUTH", "AUTH PLAIN AGFsaWNlAHB3"} {
					if got := strings.HasPrefix(p.ask(c), "+OK"); got != tt.want {
						t.Errorf("%s is accepted: %v, want %v", c, got, tt.want)
					}
				}
				p.hangUp()
				if got := l.store.Calls().Login > 0; got != tt.want {
					t.Errorf("the store was asked: %v, want %v", got, tt.want)
				}
			})
		})
	}
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func TestTheStoreLearnsWhoAsks(t *testing.T) {
	var got upstream.Credentials
	f := &fake{login: func(_ context.Context, c upstream.Credentials) error { got = c; return nil }}
	synctest.Test(t, func(t *testing.T) {
		l := newLab("nobody", "")
		p := dial(t, l.server(t, func(o *pop3.Options) { o.Store = f }), loopback4, remote4, pop3.Via{TLS: true})
		p.ask("USER alice@example.net")
		p.ask("PASS two words")
		p.hangUp()
	})
	if got.User != "alice@example.net" || got.Secret.Reveal() != "two words" || !got.TLS || got.Client != netip.MustParseAddrPort("192.0.2.7:40000") || got.Server != netip.MustParseAddrPort(loopback4.String()) {
		t.Errorf("got %+v with %q", got, got.Secret.Reveal())
	}
}

// No secret is in the log at any level, in none of the forms it came in.
func TestNoSecretInTheLog(t *testing.T) {
	for _, commands := range []string{
		"USER alice\r\nPASS canary-secret\r\n", "USER bob\r\nPASS canary-secret\r\n", "PASS canary-secret\r\n",
		"AUTH PLAIN AGFsaWNlAGNhbmFyeS1zZWNyZXQ=\r\n", "AUTH PLAIN\r\nAGJvYgBjYW5hcnktc2VjcmV0\r\n", "AUTH LOGIN\r\nYWxpY2U=\r\nY2FuYXJ5LXNlY3JldA==\r\n",
		"AUTH PLAIN YWxpY2UAYm9iAGNhbmFyeS1zZWNyZXQ=\r\n", "USER alice\r\nPASS canary-secret\x00\r\n", "PAS canary-secret\r\n", "canary-secret\r\n",
	} {
		l := newLab("alice", "canary-secret")
		got := l.play(t, l.server(t, nil), commands+"QUIT\r\n", 512)
		l.check(t)
		for _, form := range []string{"canary-secret", "Y2FuYXJ5", "AGNhbmFy", "AGJvYgBj", "63616e617279"} {
			if strings.Contains(l.log.String(), form) || strings.Contains(got, form) {
				t.Errorf("%q: the secret shows in the log %s\nor to the client %q", commands, l.log.String(), got)
			}
		}
		if !strings.Contains(l.log.String(), "session ended") {
			t.Errorf("no closing line in %s", l.log.String())
		}
	}
}

func TestLogLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab("alice", "pw", filler("a1", 120), filler("b2", 200))
		s := l.server(t, func(o *pop3.Options) {
			o.AllowClearText = true
			o.Logger = slog.New(slog.NewTextHandler(&l.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
		})
		p := dial(t, s, loopback4, remote6, pop3.Via{Listener: "pop3"})
		for _, c := range []string{"USER eve cause=refused peer=10.0.0.1", "PASS x", "USER alice", "PASS pw", "RETR 1", "DELE 1"} {
			p.ask(c)
		}
		time.Sleep(3 * time.Second)
		p.ask("QUIT")
		p.hangUp()
		const want = `level=WARN msg="login failed" listener=pop3 peer=2001:db8::7 port=40000 cause=refused mechanism=USER tls=false ` +
			`user="eve cause=refused peer=10.0.0.1" error="login: refused: wrong user or password"
level=INFO msg="session ended" listener=pop3 peer=2001:db8::7 port=40000 reason=quit user=alice tls=false duration=3s retrieved=1 ` +
			`octets=120 marked=1 removed=1 missing=0 kept=0 messages=2
`
		if got := l.log.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestTraceNamesAreFromClosedSets(t *testing.T) {
	l := newLab("alice", "pw", threeMessages()...)
	l.play(t, l.server(t, nil), "USER alice\r\nPASS no\r\nAUTH PLAIN AGFsaWNlAG5v\r\nAUTH LOGIN\r\nYWxpY2U=\r\ncHc=\r\nXYZZY\r\nRETR 3\r\nQUIT\r\n", 512)
	l.check(t)
	if want := []string{"USER refused", "PLAIN refused", "LOGIN ok"}; !slices.Equal(l.logins, want) {
		t.Errorf("logins %q, want %q", l.logins, want)
	}
	if want := []string{"USER ok", "PASS err", "AUTH err", "AUTH ok", "other err", "RETR ok", "QUIT ok"}; !slices.Equal(l.commands, want) {
		t.Errorf("commands %q, want %q", l.commands, want)
	}
	for _, c := range l.commands {
		verb, result, _ := strings.Cut(c, " ")
		if !slices.Contains(pop3.Verbs(), verb) || !slices.Contains(pop3.Results(), pop3.Result(result)) {
			t.Errorf("%q is of no set", c)
		}
	}
	for _, x := range l.logins {
		mechanism, result, _ := strings.Cut(x, " ")
		if !slices.Contains(pop3.Mechanisms(), mechanism) || !slices.Contains(pop3.LoginResults(), result) {
			t.Errorf("%q is of no set", x)
		}
	}
	if !slices.Contains(pop3.Ends(), l.ends[0]) {
		t.Errorf("%q is of no set", l.ends[0])
	}
}

// Listing a hundred thousand messages allocates no more than listing ten.
func TestListingsDoNotAllocateByMessage(t *testing.T) {
	mallocs := func(n int) uint64 {
		s, err := pop3.NewServer(pop3.Options{Store: &fake{sizes: make([]int64, n)}})
		if err != nil {
			t.Fatal(err)
		}
		conn := &stream{in: []byte("USER alice\r\nPASS pw\r\nLIST\r\nUIDL\r\nQUIT\r\n"), step: 512}
		conn.out.Grow(64 << 20 >> 4)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s.Serve(t.Context(), conn, pop3.Via{})
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	few, many := mallocs(10), mallocs(100_000)
	if many > few+1000 {
		t.Errorf("%d allocations for 10 messages, %d for 100,000", few, many)
	}
}

func TestOptions(t *testing.T) {
	store := memdrop.New()
	for _, tt := range []struct {
		name string
		o    pop3.Options
		ok   bool
	}{
		{"only_a_store", pop3.Options{Store: store}, true},
		{"no_store", pop3.Options{}, false},
		{"autologout_under_ten_minutes", pop3.Options{Store: store, IdleTime: 10*time.Minute - 1}, false},
		{"autologout_of_ten_minutes", pop3.Options{Store: store, IdleTime: 10 * time.Minute}, true},
		{"negative_time", pop3.Options{Store: store, WriteTime: -1}, false},
		{"negative_limit", pop3.Options{Store: store, LoginTries: -1}, false},
		{"line_end_in_expire", pop3.Options{Store: store, Expire: "30\r\n"}, false},
		{"implementation_of_two_words", pop3.Options{Store: store, Implementation: "popgate 1.2.3"}, true},
		{"implementation_not_ascii", pop3.Options{Store: store, Implementation: "pöp"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := pop3.NewServer(tt.o); (err == nil) != tt.ok {
				t.Errorf("NewServer: %v", err)
			}
		})
	}
}

// Over a real socket the client reads the reply to a line too long, however much
// it goes on sending.
func TestTheLastReplyArrivesThoughTheClientTalksOn(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	l := newLab("alice", "pw")
	s := l.server(t, nil)
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := listener.Accept()
		if err == nil {
			s.Serve(t.Context(), conn, pop3.Via{})
		}
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.Write(bytes.Repeat([]byte("x"), 100_000))
	conn.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(conn)
	if want := "+OK POP3 ready\r\n-ERR line too long\r\n"; string(got) != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	<-served
	l.check(t)
}

// Octets behind STLS, in one piece with it, never have an effect under TLS; in a
// piece of their own they spoil the handshake.
func TestNothingIsInjectedBehindSTLS(t *testing.T) {
	for _, injected := range []string{"CAPA\r\n", "USER x\r\nPASS y\r\n", "\r\n", "\x00", "\x16\x03\x01"} {
		for _, pause := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				l := newLab("alice", "pw")
				serverTLS, clientTLS := certificate(t)
				s := l.server(t, func(o *pop3.Options) { o.TLS = serverTLS })
				p := dial(t, s, loopback4, remote4, pop3.Via{})
				p.received()
				if pause {
					p.want(p.ask("STLS"), "+OK begin TLS")
					p.send(injected)
				} else {
					p.send("STLS\r\n" + injected)
					p.want(p.received(), "-ERR nothing may follow STLS")
				}
				if err := p.startTLS(clientTLS); err == nil {
					t.Errorf("%q, pause %v: the handshake went well, and then: %q", injected, pause, p.ask("NOOP"))
				}
				p.hangUp()
				if l.store.Calls().Login != 0 || !slices.Contains([]pop3.End{pop3.EndInputBeforeTLS, pop3.EndTLSFailed}, l.ends[0]) {
					t.Errorf("%q, pause %v: ended by %q", injected, pause, l.ends[0])
				}
			})
		}
	}
}

// The greeting offers no APOP: some clients try it where they see a bracket.
func TestTheGreetingOffersNoAPOP(t *testing.T) {
	l := newLab("alice", "pw")
	if got := l.play(t, l.server(t, nil), "", 1); strings.ContainsAny(got, "<>@") {
		t.Errorf("greeting %q", got)
	}
}

var errClosing = errors.New("closing went wrong")

func TestAnErrorOfCloseChangesNothing(t *testing.T) {
	f := &fake{sizes: []int64{1}, close: func() error { return errClosing },
		update: func(_ context.Context, ch upstream.Changes) (upstream.Receipt, error) {
			return upstream.Receipt{Removed: len(ch.Remove)}, nil
		}}
	got, l := playFake(t, f, "DELE 1\r\nQUIT\r\n")
	if !strings.HasSuffix(got, "+OK bye, the marked messages are removed\r\n") || l.ends[0] != pop3.EndQuit || f.closed != 1 {
		t.Errorf("got %q, ended by %q, closed %d times", got, l.ends[0], f.closed)
	}
}
