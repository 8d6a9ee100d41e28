package realtest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/popgate/popgate/deploy/lab"
)

// A section is what a page of deploy/docs shows under one heading.
type section struct {
	page, heading string
	languages     []string // of its blocks; "sh" where none is named
	blocks        []string
}

func (s section) name() string { return s.page + ": " + s.heading }

var fence = regexp.MustCompile("^ *```([a-z]*)$")

// sections reads the pages, and keeps what has blocks.
func sections(t *testing.T) []section {
	t.Helper()
	var all []section
	for page, text := range pages(t) {
		now, inside := section{page: page}, false
		for line := range strings.Lines(text + "\n## \n") {
			m := fence.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
			switch {
			case m != nil && inside:
				inside = false
			case m != nil:
				inside = true
				now.languages, now.blocks = append(now.languages, cmp.Or(m[1], "sh")), append(now.blocks, "")
			case inside:
				now.blocks[len(now.blocks)-1] += line
			case strings.HasPrefix(line, "#"):
				if len(now.blocks) > 0 {
					all = append(all, now)
				}
				now = section{page: now.page, heading: strings.TrimSpace(strings.TrimLeft(line, "#"))}
			}
		}
		if inside {
			t.Errorf("%s: the last block has no end", page)
		}
	}
	return all
}

// pages are the texts of deploy/docs by name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatal("no pages here: ", err)
	}
	all := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = string(text)
	}
	return all
}

// A guide carries out what a section shows, with the programs that it is for.
type guide struct {
	section   string
	languages string // of the blocks, in their order
	run       func(s *site, t *testing.T, blocks []string)
}

var guides = []guide{
	{"accounts.md: Local accounts, and who guesses passwords", "yaml sh text", (*site).localAccounts},
	{"clients.md: fetchmail", "fetchmail", (*site).fetchmail},
	{"clients.md: getmail", "ini", (*site).getmail},
	{"clients.md: mpop", "mpop", (*site).mpop},
	{"clients.md: curl", "sh", (*site).curl},
	{"clients.md: Old devices", "yaml", (*site).oldDevices},
	{"dovecot.md: In front of Dovecot", "yaml dovecot", (*site).inFrontOfDovecot},
	{"gmail.md: Gmail", "yaml sh", (*site).gmail},
	{"microsoft365.md: Microsoft 365", "sh sh", (*site).microsoft},
	{"moving.md: Look before you move", "yaml sh", (*site).moving},
	{"moving.md: Where the ids cannot be kept", "yaml", (*site).movingInAWindow},
	{"proxies.md: HAProxy", "haproxy yaml", (*site).haproxy},
	{"proxies.md: nginx", "nginx", (*site).nginx},
	{"routes.md: Who goes where", "yaml sh", (*site).routes},
	{"troubleshooting.md: From symptom to cure", "yaml", (*site).transcript},
}

// A block that nobody runs is not known to work.
func TestEveryBlockOfThePagesIsRun(t *testing.T) {
	left := map[string]string{}
	for _, g := range guides {
		left[g.section] = g.languages
	}
	for _, s := range sections(t) {
		got := strings.Join(s.languages, " ")
		if want, ok := left[s.name()]; !ok {
			t.Errorf("nobody runs the blocks of %q", s.name())
		} else if got != want {
			t.Errorf("%q has the blocks %q, and %q are run", s.name(), got, want)
		}
		delete(left, s.name())
	}
	for name := range left {
		t.Errorf("%q is not in the pages any more", name)
	}
}

// What the pages and the examples show, done with the real programs before a real
// Dovecot.
func TestPages(t *testing.T) {
	b := newBench(t, "what the pages and examples show, with fetchmail, getmail, mpop, curl, HAProxy, nginx and Dovecot")
	if b.front != "" {
		t.Skip("these are rules of the gateway, which is not the front end here")
	}
	report.guard(t, "dovecot", "", "")
	t.Setenv("SSL_CERT_FILE", b.CA()) // the lab's authority is the one that this system trusts
	issuer := newConsenting(t)
	s := b.dovecotFor(t, "dovecot-pages", issuer, "auth_default_realm = example.test\n")
	show := func(subject, name string, run func(s *site, t *testing.T)) {
		report.leaf(t, "dovecot", subject, "", name, func(t *testing.T) {
			sc := newSite(t, s, issuer)
			defer func() {
				if t.Failed() {
					t.Logf("gateway:\n%s", sc.front.tail())
				}
			}()
			run(sc, t)
		})
	}
	blocks := map[string][]string{}
	for _, s := range sections(t) {
		blocks[s.name()] = s.blocks
	}
	for _, g := range guides {
		name := strings.ReplaceAll(strings.ReplaceAll(g.section, ".md: ", "_"), " ", "_")
		show("pages", name, func(s *site, t *testing.T) { g.run(s, t, blocks[g.section]) })
	}
	show("pages", "series_that_the_pages_name", (*site).series)
	for _, e := range examples {
		show("examples", e.file, func(s *site, t *testing.T) { e.run(s, t, e.file) })
	}
	for _, subject := range []string{"pages", "examples"} {
		report.progress("dovecot", subject)
	}
}

// replacements are what an operator would put into the place of what stands in the
// pages and examples: names and addresses of hosts, ports, users and passwords. All
// the rest is used as it stands. Names of files need none: the files are there.
func (s *site) replacements() [][2]string {
	return [][2]string{
		// The gateway, where clients are told of it, and its listeners.
		{`pop3s://pop\.example\.net`, "pop3s://localhost:" + portOf(s.front.pop3s)},
		{`pop\.example\.net`, "localhost"},
		{`\bport( =|) 995`, "port${1} " + portOf(s.front.pop3s)},
		{`pop3s://0\.0\.0\.0:9950`, "pop3s://" + s.other[0]},
		{`pop3s://0\.0\.0\.0`, "pop3s://" + s.front.pop3s},
		{`pop3://0\.0\.0\.0`, "pop3://" + s.front.pop3},
		{`pop3s://\[::\]`, "pop3s://[::1]:" + portOf(s.other[1])},
		{`pop3://\[::\]`, "pop3://[::1]:" + portOf(s.other[2])},
		{`pop3://127\.0\.0\.1:2110`, "pop3://" + s.front.pop3},
		{`pop3://127\.0\.0\.1:110\b`, "pop3://" + s.POP3},
		// Proxies, and what is behind them.
		{`(bind|listen) :?995`, "${1} " + s.proxy},
		{`10\.0\.0\.(11:9950|2:9951)`, s.front.pop3s},
		{`10\.0\.0\.12:9950`, s.other[0]},
		{`from: \[10\.0\.0\.[15]\]`, "from: [127.0.0.1]"},
		{`http://127\.0\.0\.1:9000/`, s.service + "/"},
		// Mail servers and issuers.
		{`imaps://(imap\.example\.(?:net|org)|imap\.gmail\.com|outlook\.office365\.com)`, "imaps://localhost:" + portOf(s.IMAPS)},
		{`imaps://10\.0\.0\.11`, "imaps://" + s.IMAPS},
		{`imaps://10\.0\.0\.12`, "imaps://127.0.0.2:" + portOf(s.IMAPS)},
		{`server-name: imap\.example\.net`, "server-name: localhost"},
		{`imap://127\.0\.0\.1`, "imap://" + s.IMAP},
		{`jmap\+https://mail\.example\.org`, "jmap+https://" + s.jmap},
		{`example\.org`, "example.test"},
		{`( *)provider: microsoft`, "$0\n${1}token-url: " + s.issuer.url + "/token\n${1}device-url: " + s.issuer.url + "/device"},
		{`( *)provider: google`, "$0\n${1}token-url: " + s.issuer.url + "/token\n${1}authorize-url: " + s.issuer.url + "/authorize"},
		// Users and passwords.
		{`\b(alice|scans)@(example|gmail)\.com`, s.user},
		{`\balice\b`, s.user},
		{`([" ])secret\b`, "${1}" + s.pass},
	}
}

// here is text with the replacements.
func (s *site) here(text string) string {
	for _, r := range s.replacements() {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	return text
}

// What the replacements leave alone is everything that has a meaning of its own.
func TestReplacementsTouchNamesAlone(t *testing.T) {
	s := &site{front: &front{}, station: &station{Server: &lab.Server{}}, issuer: &consenting{}}
	for _, text := range []string{"client-secret-file: client.secret", "key-file: auth.secret", "password-file: secrets", "timeout 20", "port 1995", "uidl keep ssl", "pop3s://192.0.2.1"} {
		if got := s.here(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got, want := fmt.Sprintf("%q", s.here("user: alice")), `"user: "`; got != want {
		t.Errorf("a user became %s, want %s", got, want)
	}
}
