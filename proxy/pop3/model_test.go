package pop3_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream/memdrop"
)

// model is RFC 1939's TRANSACTION and UPDATE, made to be read rather than used.
type model struct {
	ids    []string
	sizes  []int
	bodies []string
	marked []bool
}

// answer is the reply to one command, without its free text.
func (m *model) answer(verb string, n int) string {
	there := n >= 1 && n <= len(m.ids) && !m.marked[n-1]
	line := map[string]func(i int) string{
		"LIST": func(i int) string { return fmt.Sprint(i+1, " ", m.sizes[i]) },
		"UIDL": func(i int) string { return fmt.Sprint(i+1, " ", m.ids[i]) },
	}[verb]
	switch {
	case verb == "STAT":
		count, octets := 0, 0
		for i := range m.ids {
			if !m.marked[i] {
				count, octets = count+1, octets+m.sizes[i]
			}
		}
		return fmt.Sprintf("+OK %d %d\r\n", count, octets)
	case line != nil && n == 0:
		text := "+OK\r\n"
		for i := range m.ids {
			if !m.marked[i] {
				text += line(i) + "\r\n"
			}
		}
		return text + ".\r\n"
	case verb == "RSET":
		m.marked = make([]bool, len(m.ids))
		return "+OK\r\n"
	case verb == "NOOP":
		return "+OK\r\n"
	case !there:
		return "-ERR\r\n"
	case line != nil:
		return "+OK " + line(n-1) + "\r\n"
	case verb == "DELE":
		m.marked[n-1] = true
		return "+OK\r\n"
	case verb == "RETR":
		return "+OK\r\n" + m.bodies[n-1] + ".\r\n"
	}
	panic(verb)
}

// plain takes the free text out of a reply. The numbers of STAT, LIST n and
// UIDL n are none.
func plain(verb string, n int, line string) string {
	if strings.HasPrefix(line, "-ERR") {
		return "-ERR"
	}
	if verb == "STAT" || n > 0 && (verb == "LIST" || verb == "UIDL") {
		return line
	}
	return "+OK"
}

// Random sessions, in one piece, answer as the model does, and leave what the
// model leaves.
func TestRandomSessionsFollowTheModel(t *testing.T) {
	verbs := []string{"STAT", "LIST", "UIDL", "DELE", "DELE", "DELE", "RSET", "NOOP", "RETR"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &model{}
		var messages []memdrop.Message
		for i := range r.IntN(8) {
			msg := filler(fmt.Sprintf("id%d", i), 20+r.IntN(200))
			messages = append(messages, msg)
			m.ids, m.sizes, m.bodies = append(m.ids, msg.ID), append(m.sizes, int(msg.Size)), append(m.bodies, string(msg.Body))
		}
		m.marked = make([]bool, len(m.ids))
		in, want := "USER alice\r\nPASS pw\r\n", "+OK\r\n+OK\r\n+OK\r\n"
		type step struct {
			verb string
			n    int
		}
		steps := []step{{}, {}, {}}
		for range r.IntN(40) {
			c := step{verbs[r.IntN(len(verbs))], r.IntN(len(m.ids) + 2)}
			if c.verb == "STAT" || c.verb == "RSET" || c.verb == "NOOP" || c.n == 0 && (c.verb == "LIST" || c.verb == "UIDL") {
				c.n = 0
				in += c.verb + "\r\n"
			} else {
				c.n = max(c.n, 1)
				in += fmt.Sprintf("%s %d\r\n", c.verb, c.n)
			}
			steps = append(steps, c)
			want += m.answer(c.verb, c.n)
		}
		left := []string{}
		for i, id := range m.ids {
			if !m.marked[i] {
				left = append(left, id)
			}
		}
		in, want, steps = in+"QUIT\r\n", want+"+OK\r\n", append(steps, step{})

		l := newLab("alice", "pw", messages...)
		var got strings.Builder
		rest := l.play(t, l.server(t, nil), in, 1+r.IntN(512))
		for _, c := range steps {
			status, more, _ := strings.Cut(rest, "\r\n")
			got.WriteString(plain(c.verb, c.n, status) + "\r\n")
			rest = more
			if strings.HasPrefix(status, "+OK") && (c.verb == "RETR" || c.n == 0 && (c.verb == "LIST" || c.verb == "UIDL")) {
				end := strings.Index("\r\n"+rest, "\r\n.\r\n") + len(".\r\n")
				got.WriteString(rest[:end])
				rest = rest[end:]
			}
		}
		l.check(t)
		if got.String() != want || rest != "" {
			t.Fatalf("seed %d: %q\ngot  %q\nwant %q", seed, in, got.String(), want)
		}
		if have := ids(l.store, "alice"); !slices.Equal(have, left) {
			t.Fatalf("seed %d: %q\n%q are left, want %q", seed, in, have, left)
		}
	}
}
