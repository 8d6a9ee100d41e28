package realtest

import (
	"fmt"
	"os"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// labEnv names the folder that deploy/test.sh prepared.
const labEnv = "POPGATE_LAB"

// leftOut is why a test was skipped on a machine without the servers.
const leftOut = "left out: %s; real servers and clients are needed, which ./deploy/test.sh installs and runs"

// report is filled by the leaves of the tests and printed by TestMain.
var report = &reporter{versions: map[string]string{}}

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv(labEnv) != "" {
		report.print()
	}
	os.Exit(code)
}

// A reporter collects what ran against what.
type reporter struct {
	mu       sync.Mutex
	versions map[string]string // server or client -> Debian version
	leaves   []leafResult
}

type leafResult struct{ server, subject, mode, name, result string }

func (r *reporter) version(name, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.versions[name] = version
}

// leaf runs one test and remembers how it ended. subject is the client, or
// "rules" for what is spoken with the gateway directly.
func (r *reporter) leaf(t *testing.T, server, subject, mode, name string, fn func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Cleanup(func() {
			result := "passed"
			if t.Failed() {
				result = "FAILED"
			} else if t.Skipped() {
				result = "skipped"
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.leaves = append(r.leaves, leafResult{server, subject, mode, name, result})
		})
		fn(t)
	})
}

// guard counts a failure that came before any test of its own could be run,
// such as a server that does not start: the closing line must not hide it.
func (r *reporter) guard(t *testing.T, server, subject, mode string) {
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		counted := slices.ContainsFunc(r.leaves, func(l leafResult) bool {
			return l.result == "FAILED" && l.server == server &&
				(subject == "" || l.subject == subject) && (mode == "" || l.mode == mode)
		})
		if t.Failed() && !counted {
			r.leaves = append(r.leaves, leafResult{server, subject, mode, "setup", "FAILED"})
		}
	})
}

// progress says on standard error how one row of the table ended.
func (r *reporter) progress(server, subject string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := map[string]int{}
	for _, l := range r.leaves {
		if l.server == server && l.subject == subject {
			count[l.result]++
		}
	}
	if len(count) > 0 {
		fmt.Fprintf(os.Stderr, "%s, %s: %d passed, %d failed\n", server, subject, count["passed"], count["FAILED"])
	}
}

// print writes one row for each server and subject, and the closing line.
func (r *reporter) print() {
	r.mu.Lock()
	defer r.mu.Unlock()
	type key struct{ server, subject string }
	count := map[string]int{}
	rows := map[key]map[string]int{}
	modes := map[key][]string{}
	for _, l := range r.leaves {
		k := key{l.server, l.subject}
		if rows[k] == nil {
			rows[k] = map[string]int{}
		}
		rows[k][l.result]++
		count[l.result]++
		if l.mode != "" && !slices.Contains(modes[k], l.mode) {
			modes[k] = append(modes[k], l.mode)
		}
	}
	keys := make([]key, 0, len(rows))
	for k := range rows {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		return keys[i].server+keys[i].subject < keys[j].server+keys[j].subject
	})
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nserver\tversion\tclient\tversion\tmodes\tpassed\tfailed\tskipped")
	for _, k := range keys {
		mode := strings.Join(modes[k], " ")
		if mode == "" {
			mode = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\n", k.server, r.versions[k.server], k.subject, r.versions[k.subject],
			mode, rows[k]["passed"], rows[k]["FAILED"], rows[k]["skipped"])
	}
	w.Flush()
	for _, l := range r.leaves {
		if l.result == "FAILED" {
			fmt.Println("FAILED", path.Join(l.server, l.subject, l.mode, l.name))
		}
	}
	closing := fmt.Sprintf("%d passed, %d failed", count["passed"], count["FAILED"])
	if count["skipped"] > 0 {
		closing += fmt.Sprintf(", %d skipped", count["skipped"])
	}
	fmt.Println("\n" + closing)
}
