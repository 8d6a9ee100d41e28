package proof

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
)

// The environment variables that cmd/prove sets.
const (
	EnvLevel = "POPGATE_PROOF"
	EnvOut   = "POPGATE_PROOF_OUT"
)

// Pick returns the value for the level that is asked for.
func Pick[T any](smoke, quick, full T) T {
	switch os.Getenv(EnvLevel) {
	case "full":
		return full
	case "quick":
		return quick
	}
	return smoke
}

// A Figure is what one test measured for one row of the table.
type Figure struct {
	Row     string // "M1"
	Text    string // what was measured, in a few words with its counts
	Reached bool   // whether that is the figure to reach, counts aside
}

var reporting sync.Mutex

// Report logs what was measured for a row and, under cmd/prove, hands it over. A
// row may have several figures. reached is false if the test found that the
// figure is missed without that being an error; a failed test is never reached.
func Report(t testing.TB, row string, reached bool, format string, args ...any) {
	t.Helper()
	f := Figure{Row: row, Text: fmt.Sprintf(format, args...), Reached: reached && !t.Failed()}
	t.Logf("%s: %s", f.Row, f.Text)
	path := os.Getenv(EnvOut)
	if path == "" {
		return
	}
	reporting.Lock()
	defer reporting.Unlock()
	out, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := json.NewEncoder(out).Encode(f); err != nil {
		t.Fatal(err)
	}
}
