package proof_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/popgate/popgate/cmd/internal/proof"
)

// suiteRun runs a command at the root of the module, at the smallest level.
func suiteRun(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = root
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, proof.EnvLevel+"=") || strings.HasPrefix(s, proof.EnvOut+"=")
	})
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestEveryFuzzTarget gives each fuzz target its time, and measures how much of
// the session's code the one that goes through all states reaches.
func TestEveryFuzzTarget(t *testing.T) {
	if proof.Pick(true, false, false) {
		t.Skip("a plain go test runs the seeds of every target: at the levels quick and full")
	}
	each := proof.Pick("", "5s", "10m")
	out, err := suiteRun(t, filepath.Join(".ci", "fuzz.sh"), each)
	t.Logf("\n%s", out)
	if err != nil {
		t.Errorf("fuzz.sh: %v", err)
	}
	targets := strings.Count(out, "  ok\n") + strings.Count(out, "  FAILED\n")
	profile := filepath.Join(t.TempDir(), "cover")
	seeds, err := suiteRun(t, "go", "test", "-count=1", "-run=^FuzzFaultySession$", "-coverprofile="+profile, "./proxy/pop3")
	m := regexp.MustCompile(`coverage: ([0-9.]+)%`).FindStringSubmatch(seeds)
	if err != nil || m == nil {
		t.Fatalf("coverage: %v\n%s", err, seeds)
	}
	var covered float64
	fmt.Sscan(m[1], &covered)
	proof.Report(t, "M8", targets >= 10 && covered >= 85, "%d targets, %s each: %d failed; the stateful one covers %.1f %% of the session code", targets, each, strings.Count(out, "  FAILED\n"), covered)
}

// TestTheWholeSuiteUnderTheRaceDetector runs every test of the module with -race.
func TestTheWholeSuiteUnderTheRaceDetector(t *testing.T) {
	if proof.Pick(true, false, false) {
		t.Skip("runs the whole suite: at the levels quick and full")
	}
	out, err := suiteRun(t, "go", "test", "-race", "-count="+proof.Pick("", "1", "3"), "-shuffle=on", "-timeout=30m", "./...")
	if err != nil {
		t.Errorf("%v\n%s", err, regexp.MustCompile(`(?m)^(ok  |\?   ).*\n`).ReplaceAllString(out, "")) // what failed is not lost among what did not
	}
	races := strings.Count(out, "WARNING: DATA RACE")
	proof.Report(t, "M23", races == 0, "%d packages, %s time(s), shuffled: %d races", len(regexp.MustCompile(`(?m)^ok `).FindAllString(out, -1)), proof.Pick("", "1", "3"), races)
}
