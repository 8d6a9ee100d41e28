package proof_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imapguard"
	"github.com/popgate/popgate/upstream/wrap"
)

// hostileCommands are what a client says to a gateway before a hostile server.
var hostileCommands = []string{"USER mallory", "PASS secret", "STAT", "LIST", "UIDL", "RETR 1", "TOP 2 5", "DELE 3", "RETR 2", "QUIT"}

// hostileRoutes is a store in which each user has a server of its own.
type hostileRoutes map[string]upstream.Store

func (r hostileRoutes) Login(ctx context.Context, c upstream.Credentials) (upstream.Account, error) {
	return r[c.User].Login(ctx, c)
}

// hostileStore is the IMAP store with the wrappers that the gateway has.
func hostileStore(t testing.TB, srv *hostileServer, o imap.Options) upstream.Store {
	t.Helper()
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.MaxMessages == 0 {
		o.MaxMessages = 10_000
	}
	o.Dial, o.ReadAhead = srv.Dial, proofReadAhead()
	s, err := imap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return wrap.Lock(wrap.Limit(wrap.Contract(s), wrap.LimitOptions{Messages: o.MaxMessages}), wrap.LockOptions{Wait: -1})
}

// hostileEngine is the engine over a store.
func hostileEngine(t testing.TB, store upstream.Store, o pop3.Options) *pop3.Server {
	t.Helper()
	o.Store = store
	s, err := pop3.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hostileNeighbour is a session on the same engine, with a server that is in
// order. It goes on until the test takes the function that it returns.
func hostileNeighbour(t testing.TB, engine *pop3.Server, user string) (leave func()) {
	client, server := net.Pipe()
	served, done, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		engine.Serve(context.Background(), server, pop3.Via{Listener: "proof", TLS: true})
	}()
	in := bufio.NewReader(client)
	stuffed := strings.ReplaceAll(hostileMail[0], "\r\n.", "\r\n..") + "."
	retr1 := append([]string{fmt.Sprintf("+OK %d octets", len(hostileMail[0]))}, strings.Split(stuffed, "\r\n")...)
	var slowest time.Duration
	ask := func(command string, want ...string) {
		start := time.Now()
		if command != "" {
			io.WriteString(client, command+"\r\n")
		}
		for _, w := range want {
			if line, err := in.ReadString('\n'); strings.TrimSuffix(line, "\r\n") != w {
				t.Errorf("the session beside it: %s: got %q and %v, want %q", command, line, err, w)
				client.Close()
				return
			}
		}
		slowest = max(slowest, time.Since(start))
	}
	go func() {
		defer close(done)
		defer client.Close()
		ask("", "+OK POP3 ready")
		ask("USER "+user, "+OK")
		ask("PASS secret", "+OK logged in")
		for i := 0; ; i++ {
			select {
			case <-end:
				ask("DELE 3", "+OK marked as deleted")
				ask("QUIT", "+OK bye, the marked messages are removed")
				if slowest > 0 {
					t.Errorf("the session beside it waited %v for a reply", slowest)
				}
				return
			default:
			}
			ask("RETR 1", retr1...)
			ask("NOOP", "+OK")
			if i%5 == 4 {
				time.Sleep(time.Second) // so that the clock of the bubble goes on
			}
		}
	}()
	return func() { close(end); <-done; <-served }
}

// hostileOutcome is what became of a session, in a few words: the first command
// that did not go well, and how.
func hostileOutcome(seen []hostileSeen) string {
	for i, r := range seen {
		if i == 0 {
			continue
		}
		command := strings.TrimSuffix(hostileCommands[i-1], " secret")
		switch {
		case !r.whole:
			return command + " cut"
		case strings.HasPrefix(r.status, "-ERR ["):
			code, _, _ := strings.Cut(r.status, "]")
			return command + " " + code + "]"
		case strings.HasPrefix(r.status, "-ERR"):
			return command + " -ERR"
		}
	}
	if len(seen) != len(hostileCommands)+1 {
		return fmt.Sprintf("cut after %d replies", len(seen))
	}
	return "fine"
}

// hostileTruth checks what a client may believe: every terminated reply is true.
func hostileTruth(t testing.TB, seen []hostileSeen, bodies []string, sizes []int64) {
	t.Helper()
	body := map[string]string{"RETR 1": bodies[0], "TOP 2 5": bodies[1], "RETR 2": bodies[1]}
	for i, r := range seen[min(1, len(seen)):] {
		command := hostileCommands[i]
		if !r.whole || !strings.HasPrefix(r.status, "+OK") {
			continue
		}
		if want, ok := body[command]; ok {
			if got := strings.Join(r.lines, "\r\n") + "\r\n"; got != want {
				t.Errorf("%s: the client takes %.200q for the message, which is %.200q", command, got, want)
			}
		}
		if command == "LIST" {
			var want []string
			for i, size := range sizes {
				want = append(want, fmt.Sprint(i+1, " ", size))
			}
			if !slices.Equal(r.lines, want) {
				t.Errorf("LIST: got %q, want %q", r.lines, want)
			}
		}
	}
}

// TestHostileServers lets a gateway serve a user of one server that breaks every
// rule, and a user of one that keeps them, at the same time.
func TestHostileServers(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(192 << 20))
	scale := proof.Pick(1, 16, 64) // 16: MiB of each flood
	var panics atomic.Int64
	var received, highest int64
	worst, worstName, highName := time.Duration(0), "", ""
	factor := 0.0 // octets of memory for each that was received
	cases := hostileCases(scale)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			stop, start := hostileMemory(), hostileCPU()
			var sent int64
			synctest.Test(t, func(t *testing.T) { sent = hostileCaseRun(t, c, &panics) })
			held, cpu := stop(), hostileCPU()-start
			received += sent
			if held > highest {
				highest, highName = held, c.name
			}
			if sent >= 1<<20 {
				factor = max(factor, float64(held)/float64(sent))
				if perMiB := cpu * (1 << 20) / time.Duration(sent); perMiB > worst {
					worst, worstName = perMiB, c.name
				}
			}
			if held > 256<<20 {
				t.Errorf("the process grew by %d MiB", held>>20)
			}
		})
	}
	if worst > 10*time.Second {
		t.Errorf("%s: %v of CPU for a MiB", worstName, worst)
	}
	if panics.Load() > 0 {
		t.Errorf("%d panics", panics.Load())
	}
	if len(cases) < 60 {
		t.Errorf("%d cases only", len(cases))
	}
	proof.Report(t, "M7", highest <= 256<<20 && factor <= 10, "%d kinds of hostile server, %d MiB received: 0 panics, 0 untrue terminators, 0 words of theirs passed on, the session beside them undisturbed; "+
		"at most %.1f MiB more memory (%s), %.1f octets for each received, and %v of CPU a MiB received (%s), all with the server in the same process",
		len(cases), received>>20, float64(highest)/(1<<20), highName, factor, worst.Round(100*time.Microsecond), worstName)
}

func hostileCaseRun(t *testing.T, c hostileCase, panics *atomic.Int64) (sent int64) {
	evil := newHostileServer(map[string]hostileSay{c.at: c.say})
	for moment, say := range c.also {
		evil.say[moment] = say
	}
	good := newHostileServer(map[string]hostileSay{})
	options := imap.Options{Reuse: harnessReuse, Guard: proof.Pick(imapguard.Limits{Command: 256 << 10, Line: 32 << 10}, imapguard.Limits{}, imapguard.Limits{})}
	if c.options != nil {
		c.options(&options)
	}
	engine := hostileEngine(t, hostileRoutes{
		"mallory": hostileStore(t, evil, options),
		"alice":   hostileStore(t, good, imap.Options{Reuse: harnessReuse}),
	}, pop3.Options{Trace: hostileCounter(panics), AllowClearText: true})
	leave := hostileNeighbour(t, engine, "alice")

	began := time.Now()
	got := fidelityPlay(t, engine, strings.Join(hostileCommands, "\r\n")+"\r\n")
	if took := time.Since(began); took > 15*time.Minute {
		t.Errorf("the session took %v", took)
	}
	leave()
	evil.conns.Wait()
	good.conns.Wait()

	seen := hostileReplies(t, string(got), hostileCommands)
	if out := hostileOutcome(seen); out != c.want {
		t.Errorf("%s, want %s; the client saw:\n%.2000s", out, c.want, bytes.ReplaceAll(got, []byte("\r"), nil))
	}
	bodies, sizes := c.bodies, c.sizes
	if bodies == nil {
		bodies = hostileMail
	}
	if sizes == nil {
		for _, m := range hostileMail {
			sizes = append(sizes, int64(len(m)))
		}
	}
	hostileTruth(t, seen, bodies, sizes)
	if len(seen) < len(hostileCommands)+1 || strings.HasPrefix(c.want, "PASS") { // there was no QUIT in TRANSACTION
		for _, line := range evil.received() {
			if _, moment := hostileMoment(line); slices.Contains([]string{"SELECT", "STORE", "EXPUNGE", "MOVE", "COPY"}, moment) {
				t.Errorf("without a QUIT the server was told: %s", line)
			}
		}
	}
	return evil.sent.Load()
}
