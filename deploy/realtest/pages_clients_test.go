package realtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// fetchmail polls with the line as it stands, twice, and then without "keep" and
// "uidl". It would deliver to the mail server of this machine, so it is told of a
// folder.
func (s *site) fetchmail(t *testing.T, blocks []string) {
	s.serve(t, s.front, "")
	v := s.home(t, s.front.pop3s)
	inbox := filepath.Join(v.dir, "Mail", "new")
	poll := func(block string, allowed ...int) []string {
		v.write(t, ".fetchmailrc", s.here(block))
		v.ordinary(t, allowed, "fetchmail", "--nodetach", "--nosyslog", "--mda", "f=$(mktemp "+inbox+"/m.XXXXXX) && cat >$f")
		return s.arrivals(t, v, inbox)
	}
	const noMail, badTLS = 1, 2
	s.trustsOnly(t, v, func() []string { return poll(blocks[0], badTLS) })
	before := s.judge.look(t, "INBOX")
	s.allOf(t, poll(blocks[0]))
	s.counts(t, s.front, `popgate_commands_total{command="TOP",status="ok"}`, len(s.set))
	if again := poll(blocks[0], noMail); len(again) != 0 {
		t.Errorf("fetched again: %q", again)
	}
	unchanged(t, before, s.judge.look(t, "INBOX"))
	without := strings.NewReplacer(" keep", "", " uidl", "").Replace(blocks[0])
	if len(without) != len(blocks[0])-len(" keep uidl") {
		t.Fatalf("the line has no keep, or no uidl: %s", blocks[0])
	}
	if seen := poll(without, noMail); len(seen) != 0 {
		t.Errorf("fetched again: %q", seen)
	}
	unchanged(t, before, s.judge.look(t, "INBOX"))
	s.allOf(t, poll(strings.TrimSuffix(without, "\n")+" fetchall\n"))
	if left := s.judge.look(t, "INBOX"); len(left) != 0 {
		t.Errorf("%d messages are left", len(left))
	}
}

// trustsOnly has a client fetch where another authority is the one that is trusted.
func (s *site) trustsOnly(t *testing.T, v *visit, fetch func() []string) {
	t.Helper()
	right := v.ca
	v.ca = s.bench.OtherCA()
	if got := fetch(); len(got) != 0 {
		t.Errorf("from a gateway with a certificate that is not to be trusted came %q", got)
	}
	v.ca = right
}

// counts looks at one series of a gateway.
func (s *site) counts(t *testing.T, f *front, series string, least int) {
	t.Helper()
	for line := range strings.Lines(f.scrape(t)) {
		if n, ok := strings.CutPrefix(line, series+" "); ok {
			if got, err := strconv.ParseFloat(strings.TrimSpace(n), 64); err != nil || got < float64(least) {
				t.Errorf("%s is %s, want at least %d", series, n, least)
			}
			return
		}
	}
	t.Errorf("there is no %s", series)
}

// scrape is what a gateway tells Prometheus.
func (f *front) scrape(t *testing.T) string {
	t.Helper()
	client := http.Client{Timeout: popTimeout}
	resp, err := client.Get("http://" + f.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *site) getmail(t *testing.T, blocks []string) {
	s.maildir(t, ".config/getmail/getmailrc", blocks[0], "getmail")
}

func (s *site) mpop(t *testing.T, blocks []string) {
	s.maildir(t, ".mpoprc", blocks[0], "mpop")
}

// maildir runs a program twice that delivers into the Maildir ~/Mail and leaves all
// on the server.
func (s *site) maildir(t *testing.T, rc, block, program string) {
	t.Helper()
	s.serve(t, s.front, "")
	v := s.home(t, s.front.pop3s)
	fetch := func(allowed ...int) []string {
		v.write(t, rc, strings.ReplaceAll(s.here(block), "/etc/ssl/certs/ca-certificates.crt", v.ca))
		v.ordinary(t, allowed, program)
		return s.arrivals(t, v, filepath.Join(v.dir, "Mail", "new"))
	}
	const mpopFails, getmailFails = 69, 127
	s.trustsOnly(t, v, func() []string { return fetch(mpopFails, getmailFails) })
	before := s.judge.look(t, "INBOX")
	s.allOf(t, fetch())
	if again := fetch(); len(again) != 0 {
		t.Errorf("fetched again: %q", again)
	}
	unchanged(t, before, s.judge.look(t, "INBOX"))
}

// curl asks for the password on a terminal.
func (s *site) curl(t *testing.T, blocks []string) {
	s.serve(t, s.front, "")
	v := s.home(t, s.front.pop3s)
	var screens strings.Builder
	for line := range strings.Lines(s.here(blocks[0])) {
		screens.WriteString(v.typed(t, strings.TrimSpace(line), "Enter host password for user", s.pass))
	}
	for _, want := range []string{fmt.Sprintf("%d ", len(s.set)), "Subject: 01 plain", "< +OK", "> USER", "> PASS"} {
		if !strings.Contains(screens.String(), want) && !(strings.HasPrefix(want, "> ") && strings.Contains(screens.String(), "> AUTH")) {
			t.Errorf("%q does not show in\n%s", want, clip([]byte(screens.String())))
		}
	}
}

// typed runs a line of shell on a terminal, and answers its question.
func (v *visit) typed(t *testing.T, line, question, answer string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), visitTimeout)
	defer cancel()
	cmd := v.command(ctx, "env", "SSL_CERT_FILE="+v.ca, "script", "-qec", line, "/dev/null")
	keyboard, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer keyboard.Close()
	p := &typist{question: question, answer: answer, keyboard: keyboard}
	cmd.Stdout, cmd.Stderr = p, p
	v.check(t, line, p.screen.Bytes(), cmd.Run(), nil)
	if !p.answered {
		t.Errorf("%s did not ask", line)
	}
	return p.screen.String()
}

// oldDevices: TLS 1.0 is spoken by the listener for it, and by that one alone.
func (s *site) oldDevices(t *testing.T, blocks []string) {
	s.serve(t, s.front, strings.ReplaceAll(blocks[0], "192.168.7.0/24", "127.0.0.0/8"))
	s.fetches(t, s.front.pop3s, s.user, s.pass)
	for addr, served := range map[string]bool{s.other[0]: true, s.front.pop3s: false} {
		out, err := program(t, "USER "+s.user+"\nPASS "+s.pass+"\nSTAT\nQUIT\n", "openssl", "s_client", "-connect", addr, "-tls1",
			"-cipher", "DEFAULT@SECLEVEL=0", "-CAfile", s.bench.CA(), "-verify_return_error", "-quiet", "-crlf")
		if got := strings.Contains(out, fmt.Sprintf("+OK %d ", len(s.set))); got != served {
			t.Errorf("TLS 1.0 at %s: %v, want a session: %v\n%s", addr, err, served, out)
		}
	}
}

// transcript reads along with one user, and not with another.
func (s *site) transcript(t *testing.T, blocks []string) {
	s.serve(t, s.front, blocks[0])
	pass := s.pass
	watched := s.fetches(t, s.front.pop3s, s.user, s.pass)
	s.welcome(t)
	other := s.fetches(t, s.front.pop3s, s.user, s.pass)
	s.front.stop(t)
	notes, others := s.front.lines(t, `"msg":"transcript"`, `"peer":"`+watched+`"`), s.front.lines(t, `"msg":"transcript"`, `"peer":"`+other+`"`)
	for _, want := range []string{`"from":"client"`, `"from":"server"`, `"text":"UIDL"`, `"text":"RETR 1"`, "(hidden)", "UID FETCH"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the log has not %s of the user:\n%s", want, clip([]byte(notes)))
		}
	}
	if others != "" {
		t.Errorf("the log has sessions of another user:\n%s", clip([]byte(others)))
	}
	for _, never := range []string{`"` + pass, " " + pass, "This is a message."} {
		if strings.Contains(notes, never) {
			t.Errorf("the log holds %q", never)
		}
	}
}

// lines are those of the log that have all of these.
func (f *front) lines(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(f.log)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
lines:
	for line := range strings.Lines(string(text)) {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue lines
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

var (
	seriesNamed = regexp.MustCompile("`((?:popgate|process|go)_[a-z_]+)(\\{[^`]*\\})?`(?: by `([a-z_]+)`)?")
	labelNamed  = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
)

// series looks for every metric that a page names, with its labels and their values,
// on a gateway that has had a session and a failed login.
func (s *site) series(t *testing.T) {
	s.exampleWithCommands(t, "microsoft365-scanners.yaml")
	scraped := s.front.scrape(t)
	has := func(name string, labels ...string) bool {
		for line := range strings.Lines(scraped) {
			at := strings.TrimLeft(strings.TrimPrefix(line, name), "abcdefghijklmnopqrstuvwxyz_")
			if !strings.HasPrefix(line, name) || strings.HasPrefix(line, "#") || at == "" {
				continue
			}
			suffix := strings.TrimSuffix(strings.TrimPrefix(line, name), at)
			found := suffix == "" || suffix == "_bucket"
			for _, l := range labels {
				found = found && (strings.Contains(at, "{"+l) || strings.Contains(at, ","+l))
			}
			if found {
				return true
			}
		}
		return false
	}
	named := 0
	for page, text := range pages(t) {
		if page == "metrics.md" {
			continue // made of the code, of all metrics that any configuration has
		}
		for line := range strings.Lines(text) {
			for _, m := range seriesNamed.FindAllStringSubmatch(line, -1) {
				named++
				var labels []string
				for _, l := range labelNamed.FindAllString(m[2], -1) {
					labels = append(labels, l)
				}
				if by := m[3]; by != "" {
					labels = append(labels, by+"=")
				}
				if !has(m[1], labels...) {
					t.Errorf("%s: there is no %s with %q", page, m[1], labels)
				}
				// What a row says of the values of a label.
				if cells := strings.Split(line, " | "); m[3] != "" && len(cells) == 3 {
					for _, value := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(cells[2], -1) {
						if !has(m[1], fmt.Sprintf("%s=%q", m[3], value[1])) {
							t.Errorf("%s: there is no %s with %s=%q", page, m[1], m[3], value[1])
						}
					}
				}
			}
		}
	}
	if named < 10 {
		t.Errorf("the pages name %d metrics", named)
	}
}
