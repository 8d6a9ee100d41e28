package arrows_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "github.com/popgate/popgate"

// An arrow is a rule for the imports of some packages.
//
// A package is named by its path, within this module if that begins with "./"
// and "." for all of it. "x/..." is x and everything below it, "std" is the
// standard library.
type arrow struct {
	name   string
	from   []string // the packages that it holds for
	except []string // but not for these
	only   []string // they import nothing but these ...
	never  []string // ... or none of these
	reach  reach
	why    string
}

// reach is how far a rule looks.
type reach int

const (
	direct        reach = iota // the imports of the package itself
	directInTests              // and those of its tests
	through                    // all that is linked with it, by whatever way
)

var (
	all  = []string{"./..."}
	imap = "github.com/emersion/go-imap/v2"
)

var table = []arrow{
	{name: "pop3wire_is_pure", from: []string{"./proxy/pop3/pop3wire"}, only: []string{"std"}, reach: through,
		why: "the octets of POP3 stand on the standard library alone"},
	{name: "the_hinge_is_pure", from: []string{"./upstream"}, only: []string{"std"}, reach: through,
		why: "every store and every engine stands on the hinge; it stands on the standard library alone"},
	{name: "read_ahead_is_pure", from: []string{"./upstream/readahead"}, only: []string{"std"}, reach: through,
		why: "every store shares it; it decides, and fetches nothing"},
	{name: "the_engine_knows_the_hinge_alone", from: []string{"./proxy/pop3"}, reach: through,
		only: []string{"std", "./upstream", "./proxy/pop3/pop3wire", "github.com/emersion/go-sasl", "github.com/xdg-go/...", "golang.org/x/..."},
		why:  "the engine must work with every store, so it may know none"},
	{name: "the_listeners_know_no_protocol", from: []string{"./proxy"}, never: all, reach: through,
		why: "connections are admitted before an octet is parsed"},
	{name: "stores_know_no_engine", from: []string{"./upstream/..."}, never: []string{"./proxy/...", "./cmd/..."}, reach: through,
		why: "a store serves the hinge, whoever stands on the other side"},
	{name: "nor_do_their_tests", from: []string{"./upstream/..."}, never: []string{"./proxy/...", "./cmd/..."}, reach: directInTests,
		why: "a store is tested by the conformance suite, and the two together in cmd"},
	{name: "decorators_and_routes_know_no_store", from: []string{"./upstream/route/...", "./upstream/wrap/...", "./upstream/accounts/..."},
		never: []string{"./upstream/imap/...", "./upstream/jmap/..."}, reach: through,
		why: "a decorator uses the interface alone; what needs the identity of a store lives in the store"},
	{name: "the_configuration_is_read_by_the_command", from: all, except: []string{"./cmd/..."}, never: []string{"./cmd/internal/config"}, reach: directInTests,
		why: "each package has Options of its own, and the command fills them"},
	{name: "metrics_are_joined_by_the_command", from: all, except: []string{"./cmd/...", "./metrics/..."}, never: []string{"./metrics/..."}, reach: directInTests,
		why: "packages report through a Trace, and the command joins it to the metrics"},
	{name: "metrics_are_a_leaf", from: []string{"./metrics/..."}, except: nil, never: []string{"./proxy/...", "./upstream/...", "./cmd/..."}, reach: through,
		why: "the registry knows numbers and names, not who counts them"},
	{name: "prometheus_is_named_in_metrics_and_cmd", from: all, except: []string{"./cmd/...", "./metrics/..."}, never: []string{"github.com/prometheus/..."}, reach: through,
		why: "one package knows the library, so that it can be replaced"},
	{name: "the_imap_client_has_one_user", from: all, except: []string{"./upstream/imap"}, never: []string{imap + "/imapclient/..."}, reach: direct,
		why: "the traps of the library are known and guarded in one place"},
	{name: "files_of_state_are_opened_in_one_place", from: all, except: []string{"./upstream/imap/listcache", "./upstream/imap/ledger", "./upstream/imap/boltfile"}, never: []string{"go.etcd.io/..."}, reach: direct,
		why: "what is read from a file is proved, and a damaged one is met, where it is known what is lost"},
	{name: "tokens_have_one_library", from: all, except: []string{"./upstream/oauth"}, never: []string{"golang.org/x/oauth2/..."}, reach: directInTests,
		why: "every request that carries a refresh token passes one function"},
	{name: "the_imap_server_is_for_the_demo", from: all, except: []string{"./cmd/internal/demo", "./upstream/imap/imaptest/..."}, never: []string{imap + "/imapserver/..."}, reach: direct,
		why: "a gateway is no IMAP server"},
	{name: "the_jmap_server_is_for_the_demo", from: all, except: []string{"./cmd/internal/demo", "./upstream/jmap/jmaptest"}, never: []string{"./upstream/jmap/jmapmem"}, reach: direct,
		why: "nor is it a JMAP server"},
	{name: "test_doubles_are_for_tests", from: all, except: []string{"./upstream/imap/imaptest/...", "./upstream/jmap/jmaptest/...", "./upstream/oauth/oauthtest", "./upstream/upstreamtest/...", "./upstream/memdrop/memdroptest"},
		never: []string{"./upstream/imap/imaptest/...", "./upstream/jmap/jmaptest/...", "./upstream/oauth/oauthtest", "./upstream/upstreamtest/...", "./upstream/memdrop/memdroptest"}, reach: direct,
		why: "what makes faults on purpose is not linked into the command"},
	{name: "the_command_links_no_test_code", from: []string{"./cmd/popgate"}, never: []string{"testing/...", "go.uber.org/goleak/..."}, reach: through,
		why: "what makes faults on purpose is not linked into the command"},
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
}

type graph map[string]pkg

func TestArrows(t *testing.T) {
	g := list(t)
	for _, a := range table {
		t.Run(a.name, func(t *testing.T) {
			for _, way := range a.violations(g) {
				t.Errorf("%s\n\tis not allowed: %s", strings.ReplaceAll(way, module, "."), a.why)
			}
		})
	}
}

// list asks go list for the module and all that it depends on. Packages that do
// not compile are in it: their imports are known all the same.
func list(t *testing.T) graph {
	t.Helper()
	watch(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps",
		"-json=ImportPath,Standard,Imports,TestImports,XTestImports", module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	g := graph{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		g[p.ImportPath] = p
	}
	if _, ok := g[module+"/upstream"]; !ok {
		t.Fatalf("go list knows %d packages, and the hinge is not among them", len(g))
	}
	return g
}

// watch looks at every directory of the module: go test remembers a result until
// something changes that the test itself has looked at, and what go list reads
// does not count.
func watch(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a file that went away meanwhile
		t.Fatal(err)
	}
}

// violations returns the ways, from a package to one that it may not import.
func (a arrow) violations(g graph) (ways []string) {
	for path, p := range g {
		if !p.matches(a.from) || p.matches(a.except) {
			continue
		}
		imports := slices.Clone(p.Imports)
		if a.reach == directInTests {
			imports = slices.Concat(imports, p.TestImports, p.XTestImports)
		}
		seen := map[string]bool{path: true}
		type step struct{ path, way string }
		var queue []step
		push := func(from string, imports []string) {
			for _, i := range imports {
				if !seen[i] {
					seen[i] = true
					queue = append(queue, step{i, from + " -> " + i})
				}
			}
		}
		push(path, imports)
		for len(queue) > 0 {
			next := queue[0]
			queue = queue[1:]
			to := g.pkg(next.path)
			if to.matches(a.never) || a.only != nil && !to.matches(a.only) {
				ways = append(ways, next.way)
				continue
			}
			if a.reach == through && !to.Standard {
				push(next.way, to.Imports)
			}
		}
	}
	slices.Sort(ways)
	return ways
}

// pkg returns a package that may be unknown: one that tests alone import.
func (g graph) pkg(path string) pkg {
	if p, ok := g[path]; ok {
		return p
	}
	first, _, _ := strings.Cut(path, "/")
	return pkg{ImportPath: path, Standard: !strings.Contains(first, ".")}
}

func (p pkg) matches(patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if pattern == "std" {
			return p.Standard
		}
		if rest, ok := strings.CutPrefix(pattern, "."); ok {
			pattern = module + rest
		}
		if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
			return p.ImportPath == tree || strings.HasPrefix(p.ImportPath, tree+"/")
		}
		return p.ImportPath == pattern
	})
}

// The table is worth something only if it finds what it forbids.
func TestArrowsAreFound(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to string
		inTest   bool
		found    string // the arrow that is violated; none: it is allowed
	}{
		{"wire_to_std", "./proxy/pop3/pop3wire", "bufio", false, ""},
		{"wire_to_x", "./proxy/pop3/pop3wire", "golang.org/x/text", false, "pop3wire_is_pure"},
		{"wire_test_to_goleak", "./proxy/pop3/pop3wire", "go.uber.org/goleak", true, ""},
		{"hinge_to_a_store", "./upstream", "./upstream/memdrop", false, "the_hinge_is_pure"},
		{"read_ahead_to_a_store", "./upstream/readahead", "./upstream/imap", false, "read_ahead_is_pure"},
		{"engine_to_the_hinge", "./proxy/pop3", "./upstream", false, ""},
		{"engine_to_sasl", "./proxy/pop3", "github.com/emersion/go-sasl", false, ""},
		{"engine_to_a_store", "./proxy/pop3", "./upstream/memdrop", false, "the_engine_knows_the_hinge_alone"},
		{"engine_test_to_a_store", "./proxy/pop3", "./upstream/memdrop", true, ""},
		{"engine_to_prometheus", "./proxy/pop3", "github.com/prometheus/client_golang/prometheus", false, "the_engine_knows_the_hinge_alone"},
		{"listeners_to_the_engine", "./proxy", "./proxy/pop3", false, "the_listeners_know_no_protocol"},
		{"store_to_the_hinge", "./upstream/jmap", "./upstream", false, ""},
		{"store_to_the_engine", "./upstream/jmap", "./proxy/pop3/pop3wire", false, "stores_know_no_engine"},
		{"store_test_to_the_engine", "./upstream/imap/imapguard", "./proxy/pop3", true, "nor_do_their_tests"},
		{"decorator_to_a_store", "./upstream/wrap", "./upstream/imap", false, "decorators_and_routes_know_no_store"},
		{"accounts_to_a_store", "./upstream/accounts", "./upstream/imap", false, "decorators_and_routes_know_no_store"},
		{"engine_to_scram", "./proxy/pop3", "github.com/xdg-go/scram", false, ""},
		{"route_to_the_guard", "./upstream/route", "./upstream/imap/imapguard", false, "decorators_and_routes_know_no_store"},
		{"command_to_config", "./cmd/popgate", "./cmd/internal/config", false, ""},
		{"listeners_to_metrics", "./proxy", "./metrics", true, "metrics_are_joined_by_the_command"},
		{"command_to_metrics", "./cmd/popgate", "./metrics", false, ""},
		{"metrics_to_the_hinge", "./metrics", "./upstream", false, "metrics_are_a_leaf"},
		{"store_to_prometheus", "./upstream/imap", "github.com/prometheus/client_model/go", false, "prometheus_is_named_in_metrics_and_cmd"},
		{"imap_store_to_the_client", "./upstream/imap", imap + "/imapclient", false, ""},
		{"guard_to_the_client", "./upstream/imap/imapguard", imap + "/imapclient", false, "the_imap_client_has_one_user"},
		{"guard_test_to_the_client", "./upstream/imap/imapguard", imap + "/imapclient", true, ""},
		{"imap_store_to_the_server", "./upstream/imap", imap + "/imapserver/imapmemserver", false, "the_imap_server_is_for_the_demo"},
		{"demo_to_the_server", "./cmd/internal/demo", imap + "/imapserver", false, ""},
		{"demo_to_the_bench", "./cmd/internal/demo", "./upstream/imap/imaptest", false, "test_doubles_are_for_tests"},
		{"store_test_to_the_bench", "./upstream/imap", "./upstream/imap/imaptest", true, ""},
		{"store_to_the_suite", "./upstream/imap", "./upstream/upstreamtest", false, "test_doubles_are_for_tests"},
		{"command_to_testing", "./cmd/popgate", "testing/iotest", false, "the_command_links_no_test_code"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			full := func(s string) string {
				if rest, ok := strings.CutPrefix(s, "."); ok {
					return module + rest
				}
				return s
			}
			from, to := full(tt.from), full(tt.to)
			p := pkg{ImportPath: from}
			if tt.inTest {
				p.XTestImports = []string{to}
			} else {
				p.Imports = []string{to}
			}
			g := graph{from: p}
			if strings.HasPrefix(to, module) {
				g[to] = pkg{ImportPath: to}
			}
			var found []string
			for _, a := range table {
				if len(a.violations(g)) > 0 {
					found = append(found, a.name)
				}
			}
			if tt.found == "" && found != nil || tt.found != "" && !slices.Contains(found, tt.found) {
				t.Errorf("%s -> %s is found by %q, want %q", tt.from, tt.to, found, tt.found)
			}
		})
	}
	t.Run("through_others", func(t *testing.T) {
		g := graph{
			module + "/proxy/pop3": {ImportPath: module + "/proxy/pop3", Imports: []string{"golang.org/x/y"}},
			"golang.org/x/y":       {ImportPath: "golang.org/x/y", Imports: []string{"example.org/z"}},
		}
		want := []string{module + "/proxy/pop3 -> golang.org/x/y -> example.org/z"}
		for _, a := range table {
			if got := a.violations(g); a.name == "the_engine_knows_the_hinge_alone" && !slices.Equal(got, want) {
				t.Errorf("violations: %q, want %q", got, want)
			}
		}
	})
}
