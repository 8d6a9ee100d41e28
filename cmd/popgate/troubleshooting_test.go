//go:build linux

package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// A row is one of the table of troubleshooting.md.
type row struct{ symptom, look, cure string }

func rows(t *testing.T) (all []row) {
	t.Helper()
	text, err := os.ReadFile(fileOf("troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\| (.*) \| (.*) \| (.*) \|$`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, row{m[1], m[2], m[3]})
	}
	if len(all) < 2 || all[0].symptom != "symptom" {
		t.Fatalf("no table of symptoms: %q", all)
	}
	return all[1:]
}

// A trouble is a case under way. What is found out in it is kept: the row may name
// nothing that did not come up.
type trouble struct {
	*testing.T
	found   []string // configurations, dialogues, lines of the log, series with what they count
	clients []*popClient
}

// troubles make the symptom of a row happen, see that its second column tells it,
// and do what the third one says.
var troubles = map[string]func(*trouble){
	`"wrong user or password", and it is right`:             passwordThatIsRight,
	"the same, and the log says `throttle:`":                guessed,
	`"no login without TLS"`:                                clearText,
	"`[SYS/TEMP]` at login":                                 serverWithoutAnswer,
	"the same before anybody uses it, or nobody can log in": checkedBeforehand,
	"`[IN-USE]`":            maildropInUse,
	"`[LOGIN-DELAY]`":       polledTooOften,
	"`[SYS/PERM]` at login": loginForAPerson,
	"the connection is refused or closed at once":   turnedAway,
	"a client fetches all mail again":               mailboxMadeAnew,
	`QUIT says "some deleted messages not removed"`: deletionNotConfirmed,
	"deleted mail is still there in webmail":        archived,
	"sizes are wrong in the client":                 wrongSizes,
	"slow":                                          slowServer,
	"a changed configuration is not in use":         wrongConfiguration,
	`"too many open files" in the log`:              fewDescriptors,
	"old devices fail with a TLS error":             oldDevice,
}

func TestEverySymptomIsToldAndCured(t *testing.T) {
	all := rows(t)
	for _, r := range all {
		name := strings.Trim(regexp.MustCompile(`[^a-zA-Z]+`).ReplaceAllString(r.symptom, "_"), "_")
		t.Run(name, func(t *testing.T) {
			happens, ok := troubles[r.symptom]
			if !ok {
				t.Fatalf("nobody has seen %q", r.symptom)
			}
			c := &trouble{T: t}
			happens(c)
			for _, client := range c.clients {
				c.found = append(c.found, client.said.String())
			}
			c.names(r)
		})
	}
	for symptom := range troubles {
		if !slices.ContainsFunc(all, func(r row) bool { return r.symptom == symptom }) {
			t.Errorf("the page has no %q", symptom)
		}
	}
}

// names looks that all that the row quotes or names has come up, with every word of
// it in one place.
func (c *trouble) names(r row) {
	c.Helper()
	for _, column := range []string{r.symptom, r.look, r.cure} {
		for _, m := range regexp.MustCompile("`([^`]+)`|\"([^\"`]+)\"").FindAllStringSubmatch(column, -1) {
			words := regexp.MustCompile(`\w[\w/-]*`).FindAllString(m[1], -1)
			words = slices.DeleteFunc(words, func(w string) bool { return w == strings.ToUpper(w) }) // FILE
			if len(words) == 0 {                                                                     // a code, or quoted
				words = []string{strings.Trim(m[0], "`\"")}
			}
			if !slices.ContainsFunc(c.found, func(text string) bool {
				return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
			}) {
				c.Errorf("the row names %s, and nothing in the test does:\n%s", m[0], strings.Join(c.found, "\n"))
			}
		}
	}
}

// server is a mail server on which a test can put faults.
func (c *trouble) server(p imaptest.Profile, o ...imaptest.Option) *imaptest.Server {
	c.Helper()
	return imaptest.New(c.T, p, append(o, imaptest.TCP(), imaptest.User("alice", canary))...)
}

// serve is the gateway with a configuration, before upstream.
func (c *trouble) serve(upstream, text string) *service {
	c.Helper()
	return serve(c.T, "--config", c.config(upstream, text))
}

// config completes a configuration and writes it.
func (c *trouble) config(upstream, text string) string {
	c.Helper()
	for _, missing := range [][2]string{{"listen:", "listen: [pop3://127.0.0.1:0]\n"}, {"metrics:", "metrics: 127.0.0.1:0\n"}, {"upstream:", "upstream: {url: " + upstream + "}\n"}} {
		if !strings.Contains("\n"+text, "\n"+missing[0]) {
			text += missing[1]
		}
	}
	if strings.Contains(text, "pop3s:") || strings.Contains(text, "proxy-protocol") {
		text += fmt.Sprintf("tls: {cert: %s, key: %s}\n", absolute(c.T, certFile), absolute(c.T, keyFile))
	}
	c.found = append(c.found, strings.Split(text, "\n")...)
	return writeConfig(c.T, text)
}

// connect is a client of the first listener.
func (c *trouble) connect(s *service) *popClient {
	c.Helper()
	client := connect(c.T, s.pop3[0])
	c.clients = append(c.clients, client)
	return client
}

// login is a session of alice.
func (c *trouble) login(s *service) *popClient {
	c.Helper()
	client := c.connect(s)
	client.login()
	return client
}

// refused is a login of alice that ends with this answer.
func (c *trouble) refused(s *service, want string) {
	c.Helper()
	client := c.connect(s)
	client.do("USER alice", "+OK")
	client.do("PASS "+canary, want)
	client.do("QUIT", "+OK")
	client.ended()
}

// tries tells whether a login of alice succeeds.
func (c *trouble) tries(s *service) bool {
	c.Helper()
	client := c.connect(s)
	client.do("USER alice", "+OK")
	ok := strings.HasPrefix(client.do("PASS "+canary, ""), "+OK")
	client.do("QUIT", "+OK")
	client.ended()
	return ok
}

// logged waits for a line of the log with all of these.
func (c *trouble) logged(s *service, parts ...string) {
	c.Helper()
	timeout := time.After(patience)
	for {
		for line := range strings.Lines(s.log.String()) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				c.found = append(c.found, line)
				return
			}
		}
		select {
		case <-s.log.line:
		case <-timeout:
			c.Fatalf("no line of the log has %q:\n%s", parts, s.log)
		}
	}
}

// sum adds up the series of a metric with these labels, and notes them.
func (c *trouble) sum(s *service, metric string, labels ...string) (sum float64) {
	c.Helper()
	_, body := s.get(c.T, "/metrics")
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, metric)
		if !ok || !strings.ContainsAny(rest[:1], "{ ") || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			c.Fatalf("%q: %v", line, err)
		}
		if n != 0 {
			c.found = append(c.found, line)
		}
		sum += n
	}
	return sum
}

// counts waits until the series of a metric with these labels count so many.
func (c *trouble) counts(s *service, want float64, metric string, labels ...string) {
	c.Helper()
	c.until(fmt.Sprint(metric, labels, " ", want), func() bool { return c.sum(s, metric, labels...) == want })
}

// page waits for a text on the status page, which knows of metrics every 10 s.
func (c *trouble) page(s *service, text string) {
	c.Helper()
	c.until("the status page says "+text, func() bool {
		_, body := s.get(c.T, "/")
		return strings.Contains(strings.ReplaceAll(body, "<wbr>", ""), text)
	})
	c.found = append(c.found, text)
}

// until asks again and again, and gives up in the end.
func (c *trouble) until(what string, is func() bool) {
	c.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-timeout:
			c.Fatalf("not in %v: %s", patience, what)
		}
	}
}
