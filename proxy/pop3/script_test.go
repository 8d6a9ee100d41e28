package pop3_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
)

var updateScripts = flag.Bool("update", false, "rewrite the S lines of testdata/script")

// TestScripts runs testdata/script/*.txt. The notation is in the README there.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sc := parseScript(t, string(raw))
			synctest.Test(t, sc.run)
			if *updateScripts && sc.changed {
				if err := os.WriteFile(file, []byte(sc.text()), 0o666); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type script struct {
	head, tail     []string // lines before and behind the session, headings included
	session        []string
	user, password string
	messages       []memdrop.Message
	options        map[string]string
	after          []string // nil: all is still there
	seen           []string
	end            string
	changed        bool // by -update
}

func parseScript(t *testing.T, raw string) *script {
	t.Helper()
	sc := &script{user: "alice", password: "pw", options: map[string]string{}}
	part := &sc.head
	var name []string
	var body strings.Builder
	for _, line := range strings.Split(strings.TrimSuffix(raw, "\n"), "\n") {
		if h, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(h, " --") {
			if len(name) > 0 && name[0] == "message" {
				sc.messages = append(sc.messages, memdrop.Message{ID: name[1], Body: []byte(body.String())})
				body.Reset()
			}
			name = strings.Fields(strings.TrimSuffix(h, " --"))
			if name[0] == "session" {
				sc.head = append(sc.head, line)
				part = &sc.session
				continue
			}
			if part == &sc.session {
				part = &sc.tail
			}
			*part = append(*part, line)
			switch {
			case name[0] == "maildrop" && len(name) == 3:
				sc.user, sc.password = name[1], name[2]
			case name[0] == "after":
				sc.after = []string{}
			}
			continue
		}
		*part = append(*part, line)
		if len(name) == 0 {
			continue
		}
		words := strings.Fields(line)
		switch name[0] {
		case "message":
			body.WriteString(unescape(t, line))
			continue
		case "session":
			continue
		}
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		switch name[0] {
		case "maildrop":
			sc.messages = append(sc.messages, filler(words[0], number(t, words[1])))
		case "options":
			sc.options[words[0]] = strings.Join(words[1:], " ")
		case "after":
			sc.after = append(sc.after, words...)
		case "seen":
			sc.seen = append(sc.seen, words...)
		case "end":
			sc.end = words[0]
		default:
			t.Fatalf("unknown section %q", name)
		}
	}
	if sc.after == nil {
		for _, m := range sc.messages {
			sc.after = append(sc.after, m.ID)
		}
	}
	return sc
}

func (sc *script) text() string {
	return strings.Join(slices.Concat(sc.head, sc.session, sc.tail), "\n") + "\n"
}

// unescape gives the octets of a line of a script: \r, \n, \t, \xHH and \\ as in
// Go, and a CRLF at the end unless that is a backslash.
func unescape(t *testing.T, line string) string {
	t.Helper()
	end := "\r\n"
	if strings.HasSuffix(line, `\`) && !strings.HasSuffix(line, `\\`) {
		line, end = strings.TrimSuffix(line, `\`), ""
	}
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(line, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return text + end
}

func number(t *testing.T, word string) int {
	t.Helper()
	n, err := strconv.Atoi(word)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run plays the script inside a synctest bubble.
func (sc *script) run(t *testing.T) {
	l := newLab(sc.user, sc.password, sc.messages...)
	serverTLS, clientTLS := certificate(t)
	local, remote, via := net.Addr(loopback4), net.Addr(loopback4), pop3.Via{Listener: "test"}
	server := l.server(t, func(o *pop3.Options) {
		for key, value := range sc.options {
			switch key {
			case "client":
				remote = map[string]net.Addr{"remote": remote4, "remote6": remote6}[value]
			case "clear-text":
				o.AllowClearText = true
			case "tls":
				o.TLS = serverTLS
			case "implicit-tls":
				via.TLS = true
			case "read-only":
				l.store.SetTerms(upstream.Terms{ReadOnly: true})
			case "mark-seen":
				l.store.SetTerms(upstream.Terms{MarkSeen: true})
			case "shared-secrets":
				cryptotest.SetGlobalRandom(t, 1) // what clients reckon with is in the script
				o.Shared = secretsOf(strings.Fields(value))
			case "bearer":
				o.Bearer = true
			case "authorization-identity":
				o.AuthorizationIdentity = true
			case "expire":
				o.Expire = value
			case "login-delay":
				d, err := time.ParseDuration(value)
				if err != nil {
					t.Fatal(err)
				}
				o.LoginDelay = d
			case "login-tries":
				o.LoginTries = number(t, value)
			case "bad-commands":
				o.BadCommands = number(t, value)
			default:
				t.Fatalf("unknown option %q", key)
			}
		}
	})
	p := dial(t, server, local, remote, via)
	sc.play(t, l, p, clientTLS)
	p.hangUp()
	l.check(t)

	if got := ids(l.store, sc.user); !slices.Equal(got, sc.after) {
		t.Errorf("the maildrop holds %q afterwards, want %q", got, sc.after)
	}
	if got := l.store.Seen(sc.user); !slices.Equal(got, sc.seen) {
		t.Errorf("read afterwards: %q, want %q", got, sc.seen)
	}
	if sc.end != "" && string(l.ends[0]) != sc.end {
		t.Errorf("the session ended by %q, want %q", l.ends[0], sc.end)
	}
	if t.Failed() {
		t.Logf("log:\n%s", l.log.String())
	}
}

// secrets are shared secrets by user.
type secrets map[string]string

func (s secrets) SharedSecret(user string) (upstream.Secret, bool) {
	secret, ok := s[user]
	return upstream.NewSecret(secret), ok
}

// secretsOf takes users and their secrets by turns.
func secretsOf(words []string) secrets {
	s := secrets{}
	for i := 0; i+1 < len(words); i += 2 {
		s[words[i]] = words[i+1]
	}
	return s
}

// play goes through the session. Lines from the client that follow each other go
// out in one piece; what came back is compared when the next piece goes out.
func (sc *script) play(t *testing.T, l *lab, p *peer, clientTLS *tls.Config) {
	var dialogue, played, expected []string
	settle := func() {
		got := splitLines(p.received())
		for _, line := range got {
			dialogue = append(dialogue, "S: "+line)
		}
		if !matches(got, expected) {
			if *updateScripts {
				sc.changed = true
				expected = got
			} else {
				t.Errorf("got\n  %s\nwant\n  %s\nthe dialogue so far:\n%s", strings.Join(got, "\n  "),
					strings.Join(expected, "\n  "), strings.Join(dialogue, "\n"))
			}
		}
		for _, line := range expected {
			played = append(played, strings.TrimSpace("S: "+line))
		}
		expected = nil
	}
	for i := 0; i < len(sc.session); i++ {
		line := sc.session[i]
		switch {
		case strings.HasPrefix(line, "S:"):
			expected = append(expected, strings.TrimPrefix(strings.TrimPrefix(line, "S:"), " "))
			continue
		case strings.HasPrefix(line, "C:"):
			settle()
			var piece strings.Builder
			for ; i < len(sc.session) && strings.HasPrefix(sc.session[i], "C:"); i++ {
				dialogue, played = append(dialogue, sc.session[i]), append(played, sc.session[i])
				piece.WriteString(unescape(t, strings.TrimPrefix(strings.TrimPrefix(sc.session[i], "C:"), " ")))
			}
			i--
			p.send(piece.String())
		case strings.HasPrefix(line, "!"):
			if line != "!half-close" { // which is to come right behind the last octet
				settle()
			}
			dialogue, played = append(dialogue, line), append(played, line)
			sc.verb(t, l, p, clientTLS, strings.Fields(strings.TrimPrefix(line, "!")))
		default:
			settle()
			played = append(played, line) // a comment
			if line != "" && !strings.HasPrefix(line, "#") {
				t.Fatalf("what is %q?", line)
			}
		}
	}
	settle()
	sc.session = played
}

// verb does what the client cannot say.
func (sc *script) verb(t *testing.T, l *lab, p *peer, clientTLS *tls.Config, words []string) {
	switch words[0] {
	case "cut":
		p.conn.Close()
		p.raw.Close()
	case "half-close":
		p.raw.CloseWrite()
	case "closed":
		if !p.isClosed() {
			t.Error("the server has not closed the connection")
		}
	case "open":
		if p.isClosed() {
			t.Error("the server has closed the connection")
		}
	case "stall":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(d)
	case "stop-reading":
		p.stopReading()
	case "drain":
		p.drain()
	case "tls":
		if err := p.startTLS(clientTLS); err != nil {
			t.Errorf("handshake: %v", err)
		}
	case "deliver":
		l.store.Deliver(sc.user, filler(words[1], number(t, words[2])))
	case "expunge":
		l.store.Expunge(sc.user, words[1:]...)
	case "maildrop":
		if got := ids(l.store, sc.user); !slices.Equal(got, words[1:]) {
			t.Errorf("the maildrop holds %q now, want %q", got, words[1:])
		}
	case "free":
		if accounts, bodies := l.store.InUse(); accounts != 0 || bodies != 0 {
			t.Errorf("%d accounts and %d bodies are open now", accounts, bodies)
		}
	case "upstream":
		l.store.SetFaults(faults(t, words[1:]))
	default:
		t.Fatalf("unknown verb %q", words[0])
	}
}

// faults reads what follows !upstream: "up", "down", "login KIND", "open KIND",
// "retrieve KIND", "hang CALL", "body OCTETS", "unannounced", "keep ID..." and
// "update KIND".
func faults(t *testing.T, words []string) memdrop.Faults {
	t.Helper()
	kind := upstream.Unavailable
	if len(words) > 1 {
		for _, k := range upstream.Kinds() {
			if k.String() == words[1] {
				kind = k
			}
		}
	}
	login := func(context.Context, upstream.Credentials) error { return fault(kind, "login") }
	open := func(context.Context, string) error { return fault(kind, "open") }
	retrieve := func(context.Context, string, string) error { return fault(kind, "retrieve") }
	update := func(_ context.Context, _ string, remove []string) ([]string, error) {
		return remove, fault(kind, "update")
	}
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return fault(upstream.Unavailable, "wait")
	}
	switch words[0] {
	case "up":
		return memdrop.Faults{}
	case "down":
		return memdrop.Faults{Login: login, Open: open, Retrieve: retrieve, Update: update}
	case "login":
		return memdrop.Faults{Login: login}
	case "open":
		return memdrop.Faults{Open: open}
	case "retrieve":
		return memdrop.Faults{Retrieve: retrieve}
	case "update":
		return memdrop.Faults{Update: update}
	case "keep":
		return memdrop.Faults{Update: func(context.Context, string, []string) ([]string, error) { return words[1:], nil }}
	case "body":
		cut := &memdrop.Cut{After: int64(number(t, words[1])), Err: fault(upstream.Unavailable, "read")}
		return memdrop.Faults{Body: func(string, string) *memdrop.Cut { return cut }}
	case "unannounced":
		return memdrop.Faults{Octets: func(string, string, int64) int64 { return -1 }}
	case "hang":
		switch words[1] {
		case "login":
			return memdrop.Faults{Login: func(ctx context.Context, _ upstream.Credentials) error { return hang(ctx) }}
		case "open":
			return memdrop.Faults{Open: func(ctx context.Context, _ string) error { return hang(ctx) }}
		case "retrieve":
			return memdrop.Faults{Retrieve: func(ctx context.Context, _, _ string) error { return hang(ctx) }}
		case "update":
			return memdrop.Faults{Update: func(ctx context.Context, _ string, remove []string) ([]string, error) {
				return remove, hang(ctx)
			}}
		case "body":
			return memdrop.Faults{Body: func(string, string) *memdrop.Cut { return &memdrop.Cut{After: int64(number(t, words[2]))} }}
		}
	}
	t.Fatal(fmt.Sprint("unknown fault ", words))
	return memdrop.Faults{}
}
