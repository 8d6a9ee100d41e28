package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
