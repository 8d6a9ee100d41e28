package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/route"
)

// loginAs logs in as a user, and expects this of STAT.
func (c *popClient) loginAs(user, stat string) {
	c.t.Helper()
	c.do("USER "+user, "+OK")
	c.do("PASS "+canary, "+OK")
	c.do("STAT", stat)
}

// refused expects that a login is refused, and returns the reply.
func (c *popClient) refused(user, password, want string) string {
	c.t.Helper()
	c.do("USER "+user, "+OK")
	return c.do("PASS "+password, want)
}

// twoServers are upstreams with one and with two messages for alice.
func twoServers(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("upstreams:\n  - {name: one, url: imap://%s}\n  - {name: two, url: imap://%s}\nthrottle: {delay: 0s}\nmetrics: 127.0.0.1:0\n",
		imapServer(t, 1), imapServer(t, 2))
}

func TestServeByRoutes(t *testing.T) {
	s := serve(t, "--config", writeConfig(t, twoServers(t)+`
listen:
  - {url: "pop3://127.0.0.1:0", name: usual}
  - {url: "pop3://127.0.0.1:0", name: second}
routes:
  - {name: second, match: {listeners: second}, upstream: two}
  - {name: net, match: {domains: example.net}, user: "{local}", upstream: one}
  - {name: org, match: {domains: [example.org]}, user: "{local}", upstream: two, delete: refuse}
  - {name: devices, match: {pattern: "(?P<who>[a-z]+)-scanner", from: 127.0.0.0/8}, user: "{who}", upstream: two, delete: trash}
  - {name: elsewhere, match: {from: 192.0.2.0/24}, upstream: one}
`))
	visit := func(listener int, user, stat, dele string) {
		t.Helper()
		c := connect(t, s.pop3[listener])
		c.loginAs(user, stat)
		c.do("DELE 1", dele)
		c.do("RSET", "+OK")
		c.do("QUIT", "+OK")
		c.ended()
	}
	visit(0, "alice@example.net", "+OK 1 ", "+OK")
	visit(0, "alice@Example.NET", "+OK 1 ", "+OK")
	visit(0, "alice@example.org", "+OK 2 ", "-ERR")
	visit(0, "alice-scanner", "+OK 2 ", "+OK")
	visit(1, "alice", "+OK 2 ", "+OK")

	// No route, no user and a wrong password look the same.
	c := connect(t, s.pop3[0])
	none := c.refused("alice", canary, "-ERR [AUTH]")
	unknown := c.refused("bob@example.net", canary, "-ERR [AUTH]")
	wrong := c.refused("alice@example.net", "wrong", "-ERR [AUTH]")
	if none != unknown || none != wrong {
		t.Errorf("no route %q, no user %q, wrong password %q", none, unknown, wrong)
	}
	c.ended()
	s.wantMetrics(t,
		`popgate_route_logins_total{result="ok",route="net"} 2`,
		`popgate_route_logins_total{result="refused",route="net"} 2`,
		`popgate_route_logins_total{result="ok",route="second"} 1`,
		`popgate_route_logins_total{result="refused",route="none"} 1`,
		`popgate_route_logins_total{result="failed",route="elsewhere"} 0`,
		`popgate_config_last_reload_successful 1`,
	)
	if _, body := s.get(t, "/metrics"); strings.Contains(body, "popgate_auth_http_duration_seconds") {
		t.Error("there are series of an auth_http service that nobody asks")
	}
}

// Of several mail servers the metrics tell which one it is: one that lists another
// size than it sends, or one whose mailboxes are listed in full each time.
func TestWhatAMailServerDoesIsCountedForIt(t *testing.T) {
	config := "upstreams:\n"
	for _, name := range []string{"right", "wrong"} {
		srv := imaptest.New(t, imaptest.Full(), imaptest.TCP(), imaptest.User("alice", canary))
		text := message(1)
		size := int64(len(text))
		if name == "wrong" {
			size++
		}
		srv.Mailbox("alice", "INBOX").AppendBody(strings.NewReader(text), size)
		config += fmt.Sprintf("  - {name: %s, url: imap://%s}\n", name, srv.Addr())
	}
	s := serve(t, "--config", writeConfig(t, config+`
metrics: 127.0.0.1:0
listen: pop3://127.0.0.1:0
routes:
  - {name: right, match: {domains: right.example}, user: "{local}", upstream: right}
  - {name: wrong, match: {domains: wrong.example}, user: "{local}", upstream: wrong}
`))
	for _, user := range []string{"alice@right.example", "alice@wrong.example", "alice@wrong.example"} {
		c := connect(t, s.pop3[0])
		c.loginAs(user, "+OK 1 ")
		c.list("RETR 1")
		c.do("QUIT", "+OK")
		c.ended()
	}
	s.wantMetrics(t,
		`popgate_size_mismatch_total{upstream="right"} 0`,
		`popgate_size_mismatch_total{upstream="wrong"} 2`,
		`popgate_upstream_listings_total{how="full",upstream="right"} 1`,
		`popgate_upstream_listings_total{how="full",upstream="wrong"} 1`,
		`popgate_upstream_listings_total{how="unchanged",upstream="wrong"} 1`,
		`popgate_upstream_read_ahead_messages_total{result="used",upstream="right"} 0`,
	)
}

// Who opens one maildrop by two routes meets the lock.
func TestTheLockHoldsOverRoutes(t *testing.T) {
	s := serve(t, "--config", writeConfig(t, twoServers(t)+`
listen: pop3://127.0.0.1:0
lock: {wait: 0s}
routes:
  - {name: net, match: {domains: example.net}, user: "{local}", upstream: one, delete: trash}
  - {name: plain, upstream: one}
`))
	first := connect(t, s.pop3[0])
	first.loginAs("alice@example.net", "+OK 1 ")
	connect(t, s.pop3[0]).refused("alice", canary, "-ERR [IN-USE]")
}

// Guesses at one user are few, however the user is written.
func TestTheThrottleCountsWhomARouteMakes(t *testing.T) {
	config := strings.Replace(twoServers(t), "{delay: 0s}", "{delay: 0s, guesses: 3, count-loopback: true}", 1) + `
listen: pop3://127.0.0.1:0
limits: {login-tries: 100}
routes:
  - {name: all, match: {pattern: ".+@.+"}, user: "{local}", upstream: one, folders: plus}
`
	s := serve(t, "--config", writeConfig(t, config))
	c := connect(t, s.pop3[0])
	for i := range 9 {
		c.refused(fmt.Sprintf("alice+%d@%d.example", i, i), "wrong", "-ERR [AUTH]")
	}
	s.wantMetrics(t, `popgate_upstream_requests_total{op="login",result="refused",upstream="one"} 3`)
}

// Local accounts come in with passwords of their own, and the mail server sees
// others; where a route allows it, clients open other folders.
func TestServeByAccountsAndFolders(t *testing.T) {
	file := writeConfig(t, twoServers(t)+`
listen: pop3://127.0.0.1:0
limits: {login-tries: 100}
accounts: {file: accounts}
routes:
  - {name: proved, match: {domains: here}, upstream: two, accounts: true, user: alice, password-file: one.secret}
  - {name: theirs, match: {users: fax}, upstream: one, accounts: true}
  - {name: folders, match: {domains: there}, upstream: one, user: "{local}", folders: plus}
  - {name: plain, upstream: two}
`)
	for name, text := range map[string]string{"one.secret": canary + "\n", "accounts": "scanner@here::shared-secret=scans\nfax::shared-secret=faxes:upstream-user=alice:upstream-password=pw%20canary-5f1c:mailbox=Trash\n"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, "--config", file)
	for _, tt := range []struct{ user, password, want string }{
		{"scanner@here", "scans", "+OK 2 "},
		{"fax", "faxes", "+OK 0 "},
		{"alice@there", canary, "+OK 1 "},
		{"alice+Trash@there", canary, "+OK 0 "},
		{"alice@there+INBOX", canary, "+OK 1 "},
	} {
		c := connect(t, s.pop3[0])
		c.do("USER "+tt.user, "+OK")
		c.do("PASS "+tt.password, "+OK")
		c.do("STAT", tt.want)
		c.do("QUIT", "+OK")
	}
	c := connect(t, s.pop3[0])
	for _, tt := range []struct{ user, password, want string }{
		{"scanner@here", canary, "-ERR [AUTH]"}, // the password of the mail server is none here
		{"alice@here", canary, "-ERR [AUTH]"},
		{"fax", "scans", "-ERR [AUTH]"},
		{"alice+../x@there", canary, "-ERR [AUTH]"},
	} {
		c.refused(tt.user, tt.password, tt.want)
	}
	c.do("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("bob\x00alice\x00"+canary)), "-ERR [AUTH]")
}

// What a window has shown stays, over a restart too.
func TestServeAWindow(t *testing.T) {
	file := writeConfig(t, twoServers(t)+`
listen: pop3://127.0.0.1:0
ledger: {file: ledger}
routes:
  - {name: newest, upstream: two, window: {newest: 1}}
`)
	for range 2 {
		s := serve(t, "--config", file)
		c := connect(t, s.pop3[0])
		c.login()
		c.do("STAT", fmt.Sprintf("+OK 1 %d", len(message(2))))
		c.do("QUIT", "+OK")
		c.ended()
		s.stop()
		if code := s.code(t); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
	if info, err := os.Stat(filepath.Join(filepath.Dir(file), "ledger")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the ledger: %v, %v", info, err)
	}
}

// An authService answers nginx's questions.
func authService(t *testing.T, answer func(h http.Header, user, pass string)) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w.Header(), r.Header.Get("Auth-User"), r.Header.Get("Auth-Pass"))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestServeByAuthHTTP(t *testing.T) {
	var down atomic.Bool
	url := authService(t, func(h http.Header, user, pass string) {
		switch {
		case down.Load():
		case user == "locked":
			h.Set("Auth-Status", "[SYS/TEMP] later")
		case pass != "pw%20canary-5f1c":
			h.Set("Auth-Status", "Invalid login or password")
			h.Set("Auth-Wait", "1")
		case user == "astray":
			h.Set("Auth-Status", "OK")
			h.Set("Auth-Server", "192.0.2.1")
			h.Set("Auth-Port", "143")
		default:
			h.Set("Auth-Status", "OK")
			h.Set("Popgate-Upstream", user)
			h.Set("Popgate-Delete", "refuse")
			h.Set("Auth-User", "alice")
		}
	})
	s := serve(t, "--config", writeConfig(t, twoServers(t)+`
listen: pop3://127.0.0.1:0
limits: {login-tries: 100}
routes: [{name: asked, auth-http: {url: "`+url+`"}}]
`))
	for user, stat := range map[string]string{"one": "+OK 1 ", "two": "+OK 2 "} {
		c := connect(t, s.pop3[0])
		c.loginAs(user, stat)
		c.do("DELE 1", "-ERR")
		c.do("QUIT", "+OK")
	}
	c := connect(t, s.pop3[0])
	c.refused("one", "wrong", "-ERR [AUTH]")
	c.refused("locked", canary, "-ERR [SYS/TEMP]")
	c.refused("astray", canary, "-ERR [SYS/PERM]")
	c.refused("three", canary, "-ERR [SYS/PERM]")
	down.Store(true)
	c.refused("one", canary, "-ERR [SYS/PERM]") // it answers, and not in the protocol
	s.wantMetrics(t,
		`popgate_auth_http_duration_seconds_count{result="ok"} 2`,
		`popgate_auth_http_duration_seconds_count{result="refused"} 1`,
		`popgate_auth_http_duration_seconds_count{result="failed"} 4`,
	)
}

func TestTheUpstreamThatAReplyNames(t *testing.T) {
	upstreams := []config.Upstream{
		{Name: "main", Host: "imap.example.net", Port: 993}, {Name: "ten", Host: "10.0.0.1", Port: 143}, {Name: "twin", Host: "10.0.0.1", Port: 1143}, {Name: "six", Host: "2001:db8::1", Port: 993},
	}
	for _, tt := range []struct {
		said route.Choice
		want string // "" is an error
	}{
		{route.Choice{Upstream: "main"}, "main"},
		{route.Choice{Upstream: "main", Server: "10.0.0.1", Port: "143"}, "main"},
		{route.Choice{Upstream: "none", Server: "10.0.0.1", Port: "143"}, ""},
		{route.Choice{Upstream: "imap.example.net"}, ""},
		{route.Choice{Server: "main"}, "main"},
		{route.Choice{Server: "imap.example.net"}, "main"},
		{route.Choice{Server: "IMAP.example.net", Port: "110"}, "main"},
		{route.Choice{Server: "imap.example.net:993"}, "main"},
		{route.Choice{Server: "2001:db8::1", Port: "110"}, "six"},
		{route.Choice{Server: "[2001:db8::1]:993"}, "six"},
		{route.Choice{Server: "10.0.0.1", Port: "1143"}, "twin"},
		{route.Choice{Server: "10.0.0.1", Port: "143"}, "ten"},
		{route.Choice{Server: "10.0.0.1", Port: "110"}, ""},
		{route.Choice{Server: "10.0.0.2", Port: "143"}, ""},
		{route.Choice{Server: "imap.example.net.evil.example"}, ""},
		{route.Choice{}, ""},
	} {
		if got, err := chosen(tt.said, upstreams); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%+v leads to %q, %v; want %q", tt.said, got, err, tt.want)
		}
	}
}

// A routesFile is a file of routes that somebody changes while popgate runs.
type routesFile struct {
	t       *testing.T
	name    string
	metrics *metrics.Metrics
	log     *logBuffer
	routing *routing
	poll    func()
}

func newRoutesFile(t *testing.T, text string) *routesFile {
	t.Helper()
	f := &routesFile{t: t, log: &logBuffer{}}
	file := writeConfig(t, "listen: pop3://127.0.0.1:0\nupstream: {url: imap://127.0.0.1:1}\nroutes-file: routes.yaml\n")
	f.name = filepath.Join(filepath.Dir(file), "routes.yaml")
	f.write(text)
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.metrics = metrics.New(metrics.Build{}, labelSets(cfg))
	if f.routing, err = newRouting(cfg, proofs{}, nil, nil, f.metrics, slog.New(slog.NewJSONHandler(f.log, nil))); err != nil {
		t.Fatal(err)
	}
	load := func() (config.Config, error) { return config.Load(file, nil) }
	ended := func(err error) {
		if err != nil {
			f.metrics.ConfigReloadFailed()
			return
		}
		f.metrics.ConfigLoaded(time.Now())
	}
	f.poll = newReloader([2]string{file, cfg.RoutesFile}, lookAt([2]string{file, cfg.RoutesFile}), load, f.routing.replace, ended, slog.New(slog.NewJSONHandler(f.log, nil))).poll
	t.Cleanup(func() {
		if err := f.routing.close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// write replaces the file.
func (f *routesFile) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.name+".new", []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.name+".new", f.name); err != nil {
		f.t.Fatal(err)
	}
}

// user is what the routes make of alice@example.net.
func (f *routesFile) user() string {
	return f.routing.store.Account(upstream.Credentials{User: "alice@example.net"})
}

func TestRoutesFollowTheirFile(t *testing.T) {
	route := func(template string) string {
		return fmt.Sprintf("routes:\n  - {name: it, user: %q}\n", template)
	}
	f := newRoutesFile(t, route("{local}"))
	want := func(user string, good int) {
		t.Helper()
		f.poll()
		if got := f.user(); got != user {
			t.Errorf("the routes make %q of the user, want %q", got, user)
		}
		expected := fmt.Sprintf("# HELP popgate_config_last_reload_successful Whether the configuration was right when it was last read: 0 while the one before stays.\n"+
			"# TYPE popgate_config_last_reload_successful gauge\npopgate_config_last_reload_successful %d\n", good)
		if err := testutil.GatherAndCompare(f.metrics.Gatherer(), strings.NewReader(expected), "popgate_config_last_reload_successful"); err != nil {
			t.Error(err)
		}
	}
	want("alice", 1)
	f.write(route("{domain}"))
	want("alice", 1) // it may be half written
	want("example.net", 1)
	f.write(route("{host}"))
	want("example.net", 1)
	want("example.net", 0)
	want("example.net", 0) // told once
	if err := os.Remove(f.name); err != nil {
		t.Fatal(err)
	}
	want("example.net", 0)
	want("example.net", 0)
	f.write(route("{user}"))
	want("example.net", 0)
	want("alice@example.net", 1)
	for _, words := range []string{"routes.yaml:2: routes[0]: a template names {host}", "cannot be read", `"msg":"a new configuration"`} {
		if !strings.Contains(strings.ReplaceAll(f.log.String(), `\"`, `"`), words) {
			t.Errorf("the log lacks %q:\n%s", words, f.log)
		}
	}
}

// A store is there as long as a route leads to it.
func TestStoresComeAndGoWithTheRoutes(t *testing.T) {
	f := newRoutesFile(t, "routes:\n  - {name: a}\n  - {name: b, delete: refuse, match: {users: b}}\n  - {name: c, delete: trash}\n")
	first := f.routing.stores.open[place{upstream: config.TheUpstream, delete: config.Expunge}]
	if n := len(f.routing.stores.open); n != 2 || first == nil {
		t.Fatalf("%d stores for three routes of which two delete alike", n)
	}
	f.write("routes:\n  - {name: a}\n  - {name: c, delete: trash, trash: Bin}\n  - {name: d, delete: hide}\n")
	f.poll()
	f.poll()
	if n := len(f.routing.stores.open); n != 3 {
		t.Errorf("%d stores, want 3", n)
	}
	if f.routing.stores.open[place{upstream: config.TheUpstream, delete: config.Expunge}] != first {
		t.Error("a store that is still used was replaced")
	}
	f.write("routes:\n  - {name: asked, auth-http: {url: \"http://127.0.0.1:1/\"}}\n")
	f.poll()
	f.poll()
	if n := len(f.routing.stores.open); n != 3 {
		t.Errorf("%d stores for a service that chooses among three ways to delete", n)
	}
}

func TestRouteCommand(t *testing.T) {
	file := writeConfig(t, `
listen: [{url: "pop3://127.0.0.1:1110", name: usual}, {url: "pop3://127.0.0.1:2110", name: old}]
upstreams: [{name: one, url: imap://127.0.0.1:1143}, {name: two, url: imap://127.0.0.1:2143, mailbox: Archive}]
routes:
  - {name: devices, match: {listeners: old, from: 10.0.0.0/8}, upstream: two, delete: refuse}
  - {name: net, match: {domains: example.net}, user: "{local}", authorize: shared, upstream: one, folders: plus}
`)
	for _, tt := range []struct {
		args string
		code int
		want []string // in stdout or stderr, blanks aside
	}{
		{"alice+Work@example.net", exitOK, []string{`"alice+Work@example.net" by usual from 127.0.0.1`, "devices no: another listener", "net takes it",
			"proved by the mail server", "user alice", "authorize shared", "upstream one imap://127.0.0.1:1143", "mailbox Work", "delete expunge"}},
		{"--listener old --from 10.1.2.3 alice", exitOK, []string{"devices takes it", "user alice", "mailbox Archive", "delete refuse"}},
		{"--listener old alice", exitFailed, []string{"devices no: another network", "net no: another domain", "no route takes this login"}},
		{"alice+..@example.net", exitFailed, []string{"net no: this is no folder"}},
		{"--from here alice", exitUsage, []string{"is no address"}},
		{"--config none alice", exitUsage, []string{"none: cannot be read"}},
	} {
		args := append([]string{"route", "--config", file}, strings.Fields(tt.args)...)
		code, stdout, stderr := invoke(t, args...)
		said := strings.Join(strings.Fields(stdout+stderr), " ")
		for _, words := range tt.want {
			if !strings.Contains(said, words) {
				t.Errorf("popgate route %s lacks %q:\n%s%s", tt.args, words, stdout, stderr)
			}
		}
		if code != tt.code {
			t.Errorf("popgate route %s: exit code %d, want %d", tt.args, code, tt.code)
		}
	}
}

// What serve could not start with, check does not accept.
func TestCheckBuildsTheRoutes(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, twoServers(t)+`
listen: pop3://127.0.0.1:1110
routes:
  - {name: asked, match: {users: [a, b, c, d, e]}, auth-http: {url: "http://127.0.0.1:1/", key-header: X-Key, key-file: `+secret+`}}
  - {name: all, upstream: one}
  - {name: never, upstream: two}
`)
	code, stdout, stderr := invoke(t, "check", "--config", file)
	for _, words := range []string{"upstream  one imap://127.0.0.1:", "users a b c and 2 more to where http://127.0.0.1:1/ says", "everybody to one, delete expunge, seen no"} {
		if !strings.Contains(stdout, words) {
			t.Errorf("stdout lacks %q:\n%s", words, stdout)
		}
	}
	for _, words := range []string{"route never is never reached: route all", secret + " holds a secret"} {
		if !strings.Contains(stderr, words) {
			t.Errorf("stderr lacks %q:\n%s", words, stderr)
		}
	}
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
