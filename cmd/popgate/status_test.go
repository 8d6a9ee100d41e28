package main

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
)

func TestServeShowsAPage(t *testing.T) {
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://"+imapServer(t, 1), "--metrics", "127.0.0.1:0",
		"--config", writeConfig(t, "lock: {enabled: false}\nthrottle: {delay: 0s}\n"))
	c := connect(t, s.pop3[0])
	c.do("USER alice", "+OK")
	c.do("PASS wrong", "-ERR [AUTH]")
	c.login()
	c.do("QUIT", "+OK")
	c.ended()
	code, page := s.get(t, "/")
	page = strings.ReplaceAll(page, "<wbr>", "") // where a line may end
	if code != http.StatusOK {
		t.Fatalf("GET / = %d", code)
	}
	for _, want := range []string{"Serving", "pop3://" + s.pop3[0], "imap://127.0.0.1:", "limits.connections",
		"lock.enabled: false lets two sessions", "login failed", "cause refused"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, secret := range []string{"alice", canary, "wrong", c.conn.LocalAddr().String(), "INBOX"} {
		if strings.Contains(page, secret) {
			t.Errorf("the page holds %q", secret)
		}
	}
}

func TestServeShowsNoPageWhereItIsOff(t *testing.T) {
	s := serve(t, "--listen", "pop3://127.0.0.1:0", "--upstream", "imap://127.0.0.1:1", "--metrics", "127.0.0.1:0",
		"--config", writeConfig(t, "status: off\n"))
	for path, want := range map[string]int{"/": http.StatusNotFound, "/metrics": http.StatusOK} {
		if code, _ := s.get(t, path); code != want {
			t.Errorf("GET %s = %d, want %d", path, code, want)
		}
	}
}

// After a reload the page and the metrics are of the configuration in use; of one
// that is wrong the page tells where it is, and nothing that stands in it.
func TestAReloadIsSeen(t *testing.T) {
	text := func(more string) string {
		return "listen: pop3://127.0.0.1:0\nmetrics: 127.0.0.1:0\n" + more
	}
	file := writeConfig(t, text("upstreams: [{name: old, url: imap://127.0.0.1:1}, {name: both, url: imap://127.0.0.1:2}]\nroutes: [{name: one, upstream: old}]\nclear-text-login: anywhere\n"))
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGateway(t.Context(), cfg, metrics.Build{}, &sockets{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g.source.file = file
	t.Cleanup(func() {
		if err := errors.Join(g.routing.close(), g.close()); err != nil {
			t.Error(err)
		}
	})
	sampled, cancel := context.WithCancel(t.Context())
	cancel() // Run takes one sample and ends
	wants := func(step string, wanted, unwanted []string) {
		t.Helper()
		g.page.Run(sampled)
		w := httptest.NewRecorder()
		g.page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		g.metrics.Handler(g.ready.Load, nil, g.plain).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		body := strings.ReplaceAll(w.Body.String(), "<wbr>", "")
		for _, want := range wanted {
			if !strings.Contains(body, want) {
				t.Errorf("%s: page and metrics lack %q", step, want)
			}
		}
		for _, no := range unwanted {
			if strings.Contains(body, no) {
				t.Errorf("%s: page and metrics hold %q", step, no)
			}
		}
	}
	r := g.reloader()
	reload := func(more string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text(more)), 0o600); err != nil {
			t.Fatal(err)
		}
		r.reload()
	}
	const (
		oldServer = `popgate_upstream_connections{upstream="old"} 0`
		newServer = `popgate_upstream_connections{upstream="new"} 0`
		bothCount = `popgate_upstream_requests_total{op="login",result="ok",upstream="both"} 1`
		oldRoute  = `popgate_route_logins_total{result="ok",route="one"} 0`
		newRoute  = `popgate_route_logins_total{result="ok",route="another"} 0`
		oldWarns  = "clear-text-login: anywhere lets"
		newWarns  = "route never is never reached"
	)
	g.routing.stores.counts["both"].Request("login", "ok", time.Millisecond)
	wants("at the start", []string{oldServer, bothCount, oldRoute, oldWarns, "old imap://127.0.0.1:1"}, []string{newServer, newRoute, newWarns, "was wrong when it was last read"})

	next := "upstreams: [{name: new, url: imap://127.0.0.1:3}, {name: both, url: imap://127.0.0.1:2}]\nroutes: [{name: another, upstream: new}, {name: never, upstream: both}]\n"
	reload(next)
	after, before := []string{newServer, bothCount, newRoute, newWarns, "new imap://127.0.0.1:3"}, []string{oldServer, oldRoute, oldWarns, "old imap://127.0.0.1:1"}
	wants("after a reload", after, append(before, "was wrong when it was last read"))

	reload(next + "seen: alice@example.net\n")
	wants("a wrong value", append(after, "when it was last read ("+file+":5); the one"), append(before, "alice"))
	reload(next + "drain: 1s\n")
	wants("a setting that cannot change", append(after, "when it was last read (drain cannot change while popgate runs"), before)
	reload(next)
	wants("right again", after, append(before, "was wrong when it was last read"))
}

// The status page shows the messages of warnings and errors. So that no user and
// no address can be in one, each message is written in the code, and never made:
// not by a caller, and not by a logger of the standard library's that writes to ours.
func TestMessagesOfTheLogAreConstant(t *testing.T) {
	const root = "../.."
	made := []string{"cmd/popgate/serve.go: w"} // warnings about the configuration, logged before there is a page
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(filepath.Dir(path), "test") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || !slices.ContainsFunc([]string{"cmd/popgate/", "metrics/", "proxy/", "upstream/"}, func(dir string) bool { return strings.HasPrefix(rel, dir) }) {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if name, ok := n.(*ast.SelectorExpr); ok && name.Sel.Name == "NewLogLogger" && rel != "metrics/http.go" { // which has the other log
				t.Errorf("%s: a logger whose messages are made", rel)
			}
			message, ok := messageOf(n)
			if !ok {
				return true
			}
			seen++
			if lit, ok := message.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				return true
			}
			name, _ := message.(*ast.Ident)
			if name == nil || !slices.Contains(made, rel+": "+name.Name) {
				t.Errorf("%s: the message of a warning or an error is no constant", rel)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 15 {
		t.Errorf("%d messages were found: this test looks in the wrong place", seen)
	}
}

// messageOf is the message where n logs a warning or an error, at whatever level
// it may be: with a context and without, and by level.
func messageOf(n ast.Node) (ast.Expr, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil, false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil, false
	}
	if of, ok := method.X.(*ast.Ident); ok && of.Name == "http" {
		return nil, false
	}
	at := map[string]int{"Warn": 0, "Error": 0, "WarnContext": 1, "ErrorContext": 1, "Log": 2, "LogAttrs": 2}
	i, ok := at[method.Sel.Name]
	if !ok || len(call.Args) <= i {
		return nil, false // err.Error() is no line of the log
	}
	return call.Args[i], true
}
