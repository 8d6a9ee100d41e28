package realtest

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/deploy/lab"
)

// inFrontOfDovecot: the address of a client is in Dovecot's log.
func (s *site) inFrontOfDovecot(t *testing.T, blocks []string) {
	own := newSite(t, s.bench.dovecotFor(t, "dovecot-front", s.issuer, blocks[1]), s.issuer)
	own.serve(t, own.front, blocks[0])
	from := own.fetches(t, own.front.pop3s, own.user, own.pass)
	p := login(t, own.front.pop3, own.user, own.pass) // without TLS from loopback
	p.ok(t, "QUIT")
	text, err := os.ReadFile(own.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	if want := "user=<" + own.user + ">, method=PLAIN, rip=" + from + ","; !strings.Contains(string(text), want) {
		t.Errorf("Dovecot's log has no %q:\n%s", want, clip(text))
	}
}

// haproxy fetches mail through HAProxy, and after the first gateway has gone from
// the second one.
func (s *site) haproxy(t *testing.T, blocks []string) {
	s.serve(t, s.front, blocks[1])
	second := &front{pop3: s.front.pop3, pop3s: s.other[0]}
	s.serve(t, second, strings.ReplaceAll(blocks[1], "10.0.0.11", "10.0.0.12"))
	config := s.write(t, "haproxy.cfg", s.here(blocks[0]))
	if out, err := program(t, "", "haproxy", "-c", "-f", config); err != nil {
		t.Fatalf("haproxy -c: %v\n%s", err, out)
	}
	proxy := s.start(t, "haproxy", "-db", "-n", "100", "-f", config)
	from := s.fetches(t, s.proxy, s.user, s.pass)
	s.front.logs(t, `"peer":"`+from+`"`, `"user":"`+s.user+`"`, `"session ended"`)
	if n := second.lines(t, `"user":"`); n != "" {
		t.Errorf("the gateway that waits had sessions:\n%s", n)
	}
	s.front.stop(t)
	(&front{log: proxy.LogFile}).logs(t, "Server popgate/a is DOWN")
	s.fetches(t, s.proxy, s.user, s.pass)
	s.counts(t, second, `popgate_rejected_total{reason="handshake"}`, 1) // HAProxy's looks
	second.logs(t, `"peer":"`+from+`"`, `"user":"`+s.user+`"`, `"session ended"`)
}

// start runs a proxy beside the gateway until the end of the test.
func (s *site) start(t *testing.T, argv ...string) *lab.Server {
	t.Helper()
	p, err := s.bench.Start(context.Background(), filepath.Base(s.dir)+"-proxy", []string{s.proxy}, argv...) // ends with the cleanup
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("%s: %v", argv[0], err)
		}
	})
	return p
}

// nginx fetches mail through nginx; popgate's side is the block before.
func (s *site) nginx(t *testing.T, blocks []string) {
	all := sections(t)
	i := slices.IndexFunc(all, func(s section) bool { return s.name() == "proxies.md: HAProxy" })
	s.serve(t, s.front, all[i].blocks[1])
	config := s.write(t, "nginx.conf", "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\n"+
		"pid nginx.pid;\nerror_log stderr;\nevents {}\n"+s.here(blocks[0]))
	s.start(t, "/usr/sbin/nginx", "-e", "stderr", "-p", s.dir, "-c", config)
	from := s.fetches(t, s.proxy, s.user, s.pass)
	s.front.logs(t, `"peer":"`+from+`"`, `"user":"`+s.user+`"`, `"session ended"`)
}

// gmail is once with a password of the server, and once with a token.
func (s *site) gmail(t *testing.T, blocks []string) {
	s.serve(t, s.front, blocks[0])
	s.fetches(t, s.front.pop3s, s.user, s.pass)
	v := newVisit(t, s.station, "page", tls, s.front.pop3s, s.user, s.pass)
	v.remove = true
	visitCurl(t, v)
	if gone, left := s.judge.look(t, "Trash"), s.judge.look(t, "INBOX"); len(gone) != len(removed) || len(left) != len(s.set)-len(removed) {
		t.Errorf("%d messages are in the trash and %d are left, want %d and %d", len(gone), len(left), len(removed), len(s.set)-len(removed))
	}
	s.front.stop(t)
	next := newSite(t, s.station, s.issuer)
	next.token(t, "gmail.yaml", "popgate passwd --file accounts alice\n"+blocks[1], next.user)
}

func (s *site) microsoft(t *testing.T, blocks []string) {
	s.token(t, "microsoft365-scanners.yaml", strings.Join(blocks, ""), "scanner1")
}

// token serves an example with access tokens, once the commands of a page have been
// typed. user logs in with the password of this machine.
func (s *site) token(t *testing.T, example, commands, user string) {
	t.Helper()
	s.write(t, "token.key", strings.Repeat("k", 44))
	s.write(t, "client.secret", "of the client")
	text := readExample(t, example)
	s.write(t, "popgate.yaml", s.here(text))
	s.shell(t, commands, localPass+"\n")
	if out, err := program(t, "", s.popgate(), "oauth", "status", "--config", filepath.Join(s.dir, "popgate.yaml")); err != nil || !strings.Contains(out, s.user) {
		t.Errorf("popgate oauth status: %v\n%s", err, out)
	}
	s.serve(t, s.front, text)
	s.fetches(t, s.front.pop3s, user, localPass)
	s.wrongPassword(t, user)
}

// wrongPassword: the account's own password is what counts.
func (s *site) wrongPassword(t *testing.T, user string) {
	t.Helper()
	if out, err := program(t, "", "curl", "-sS", "--cacert", s.bench.CA(), "-u", user+":"+s.pass, "pop3s://"+s.front.pop3s+"/"); err == nil || !strings.Contains(out, "denied") {
		t.Errorf("a wrong password: %v\n%s", err, out)
	}
	s.front.logs(t, `"login failed"`, `"cause":"refused"`)
}

// localAccounts types the commands, which make the lines that are shown, and logs in
// to the first two: by a password, and by a digest of the shared secret.
func (s *site) localAccounts(t *testing.T, blocks []string) {
	const shared = "tanstaaf"
	answers := []string{localPass + "\n" + s.pass + "\n", shared + "\n" + s.pass + "\n", ""}
	for i, line := range strings.Split(strings.TrimSpace(blocks[1]), "\n") {
		s.shell(t, line, answers[i])
	}
	made, err := os.ReadFile(filepath.Join(s.dir, "accounts"))
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.ReplaceAll(regexp.QuoteMeta(s.here(strings.ReplaceAll(blocks[2], "password=secret", "password="+s.pass))), `\.\.\.`, ".*")
	if !regexp.MustCompile("^" + shown + "$").Match(made) {
		t.Errorf("the file is\n%s\nand the page has\n%s", made, blocks[2])
	}
	s.judge.must(t, "CREATE Scans")
	s.judge.must(t, "SELECT INBOX")
	s.judge.must(t, "COPY 1 Scans")
	s.serve(t, s.front, blocks[0])
	curl := func(argv ...string) string {
		t.Helper()
		out, err := program(t, "", append([]string{"curl", "-sS", "--cacert", s.bench.CA()}, argv...)...)
		if err != nil {
			t.Errorf("curl %q: %v\n%s", argv, err, out)
		}
		return out
	}
	if got := curl("-u", "scanner:"+localPass, "pop3s://"+s.front.pop3s+"/"); strings.Count(got, "\n") != 1 {
		t.Errorf("the list of the mailbox Scans: %q, want one message", got)
	}
	if got := curl("-u", "old-fax:"+shared, "--login-options", "AUTH=+APOP", "pop3://"+s.front.pop3+"/"); strings.Count(got, "\n") != len(s.set) {
		t.Errorf("the list by APOP: %q, want %d messages", got, len(s.set))
	}
	s.wrongPassword(t, "scanner")
}

// routes are three: by the client's address, which is told, by the domain, and for
// all others, who may not delete.
func (s *site) routes(t *testing.T, blocks []string) {
	s.serve(t, s.front, blocks[0])
	if out := s.shell(t, blocks[1], ""); !strings.Contains(out, "office") {
		t.Errorf("%s: %s", blocks[1], out)
	}
	local, _, _ := strings.Cut(s.user, "@")
	s.judge.must(t, "CREATE Work")
	s.fetches(t, s.front.pop3s, local+"@example.net", s.pass)
	p := login(t, s.front.pop3, local+"+Work@example.net", s.pass)
	if got := p.ok(t, "STAT"); !strings.HasPrefix(got, "+OK 0 0") {
		t.Errorf("STAT of a folder: %s", got)
	}
	p.ok(t, "QUIT")
	p = login(t, s.front.pop3, s.user, s.pass)
	p.refused(t, "", "DELE 1")
	p.ok(t, "QUIT")
}

// An example is a file of deploy/examples and what serves it.
type example struct {
	file string
	run  func(s *site, t *testing.T, file string)
}

var examples = []example{
	{"one-server.yaml", (*site).oneServer},
	{"two-domains.yaml", (*site).twoDomains},
	{"behind-haproxy.yaml", (*site).behindHAProxy},
	{"nginx-auth-http.yaml", (*site).authHTTP},
	{"gmail.yaml", (*site).exampleWithCommands},
	{"microsoft365-scanners.yaml", (*site).exampleWithCommands},
}

// An example that nobody serves is not known to work.
func TestEveryExampleIsServed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "examples", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var served, there []string
	for _, e := range examples {
		served = append(served, e.file)
	}
	for _, file := range files {
		there = append(there, filepath.Base(file))
	}
	slices.Sort(served)
	if !slices.Equal(served, there) {
		t.Errorf("%q are served, and there are %q", served, there)
	}
}

func readExample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// oneServer takes mail by each of its four listeners, and moves to the trash.
func (s *site) oneServer(t *testing.T, file string) {
	s.serve(t, s.front, readExample(t, file))
	s.fetches(t, s.front.pop3s, s.user, s.pass)
	for _, addr := range []string{"[::1]:" + portOf(s.other[2]), s.front.pop3} {
		p := dialPOP(t, addr)
		p.stls(t, s.bench.CA())
		p.ok(t, "USER %s", s.user)
		p.ok(t, "PASS %s", s.pass)
		p.ok(t, "DELE 1")
		p.ok(t, "QUIT")
	}
	if got := s.judge.look(t, "Trash"); len(got) != 2 {
		t.Errorf("%d messages are in the trash, want 2", len(got))
	}
}

// twoDomains is Dovecot over IMAP for one and Cyrus over JMAP for the other.
func (s *site) twoDomains(t *testing.T, file string) {
	cyrus := s.bench.start(t, overJMAP)
	other := newSite(t, cyrus, s.issuer)
	s.jmap = cyrus.HTTPS
	s.serve(t, s.front, readExample(t, file))
	local, _, _ := strings.Cut(s.user, "@")
	s.judge.must(t, "CREATE Work")
	s.fetches(t, s.front.pop3s, local+"@example.net", s.pass)
	p := dialPOP(t, s.front.pop3)
	p.stls(t, s.bench.CA())
	p.ok(t, "USER %s+Work@example.net", local)
	p.ok(t, "PASS %s", s.pass)
	if got := p.ok(t, "STAT"); !strings.HasPrefix(got, "+OK 0 0") {
		t.Errorf("STAT of a folder: %s", got)
	}
	p.ok(t, "QUIT")
	other.front = s.front
	other.fetches(t, s.front.pop3s, other.user, other.pass)
	p = dialPOP(t, s.front.pop3)
	p.stls(t, s.bench.CA())
	p.ok(t, "USER %s@example.com", local)
	p.refused(t, "AUTH", "PASS %s", s.pass)
	if out := s.shell(t, "popgate route --config popgate.yaml alice@example.net", ""); !strings.Contains(out, "net") {
		t.Errorf("popgate route: %s", out)
	}
}

// behindHAProxy is tried with the lines for HAProxy that its comment has.
func (s *site) behindHAProxy(t *testing.T, file string) {
	text := readExample(t, file)
	s.serve(t, s.front, text)
	config := "defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n" + comments(text, "   ")
	if !strings.Contains(config, "send-proxy-v2") {
		t.Fatalf("the comment has no configuration: %s", config)
	}
	s.start(t, "haproxy", "-db", "-n", "100", "-f", s.write(t, "haproxy.cfg", s.here(config)))
	from := s.fetches(t, s.proxy, s.user, s.pass)
	s.front.logs(t, `"peer":"`+from+`"`, `"user":"`+s.user+`"`, `"session ended"`)
}

// comments are the comment's lines that begin with this, without it.
func comments(text, mark string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#"+mark); ok {
			b.WriteString(rest)
		}
	}
	return b.String()
}

func (s *site) authHTTP(t *testing.T, file string) {
	service := newAuthService(t, s.IMAPS)
	s.service = strings.TrimSuffix(service.url, "/auth")
	s.write(t, "auth.secret", authKey+"\n")
	s.serve(t, s.front, readExample(t, file))
	s.fetches(t, s.front.pop3s, s.user, s.pass)
	if got := service.question()["Auth-User"]; got != strings.ReplaceAll(s.user, "@", "%40") && got != s.user {
		t.Errorf("the service was asked for %q", got)
	}
}

// exampleWithCommands types the commands of the example's comment.
func (s *site) exampleWithCommands(t *testing.T, file string) {
	commands := ""
	for line := range strings.Lines(comments(readExample(t, file), "   - ")) {
		if strings.HasPrefix(line, "popgate ") || strings.HasPrefix(line, "openssl ") {
			commands += strings.ReplaceAll(line, file, "popgate.yaml")
		}
	}
	user := "scanner1"
	if file == "gmail.yaml" {
		user = s.user
	}
	s.token(t, file, commands, user)
}
