package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/cmd/internal/screen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tested = "=== RUN   TestA\n=== RUN   TestA/part\n    a_test.go:7: a figure\n=== NAME  TestA\n=== PAUSE TestB\n=== CONT  TestB\n--- PASS: TestA (0.00s)\nok  \tpackage"

// However the output is cut: which test runs is heard, and the rest passed on.
func TestTheTestThatRunsIsHeard(t *testing.T) {
	for _, in := range []io.Reader{strings.NewReader(tested), iotest.OneByteReader(strings.NewReader(tested))} {
		var out bytes.Buffer
		var heard []string
		l := &testLog{out: &out, test: func(name string) { heard = append(heard, name) }}
		if _, err := io.Copy(l, in); err != nil {
			t.Fatal(err)
		}
		l.flush()
		if want := []string{"TestA", "TestA/part", "TestB"}; !slices.Equal(heard, want) {
			t.Errorf("heard %q, want %q", heard, want)
		}
		if want := "    a_test.go:7: a figure\n--- PASS: TestA (0.00s)\nok  \tpackage"; out.String() != want {
			t.Errorf("passed on %q, want %q", &out, want)
		}
	}
}

// Into a pipe goes the table alone; a row whose command fails says why.
func TestAPipeGetsTheTableAlone(t *testing.T) {
	var out, errs bytes.Buffer
	p := prover{level: "quick", out: &out, stderr: screen.Of(&errs, func(string) string { return "xterm" })}
	o := p.measure(t.Context(), row{"X1", "a goal", []string{"sh", "-c", "printf '=== R%sN   TestX\\n' U; echo broken; echo '    --- FAIL: TestX/this'; for n in $(seq 100); do echo \"    --- PASS: TestX/$n\"; done; exit 3"}}, "X1 (1 of 1)", t.TempDir()+"/out")
	if v := p.print(row{id: "X1", goal: "a goal"}, o); v != failed || !strings.HasPrefix(out.String(), "X1   a goal\n     quick: FAILED:") {
		t.Errorf("%s\n%s", v, &out)
	}
	if got := errs.String(); !strings.HasSuffix(got, ": exit status 3\nbroken\n    --- FAIL: TestX/this\n") || strings.Contains(got, "\x1b") || strings.Contains(got, "RUN") {
		t.Errorf("standard error: %q", got)
	}
}

func TestRowsAreChosenByName(t *testing.T) {
	all := func() []row { return []row{{id: "A"}, {id: "B"}, {id: "C"}} }
	for _, tt := range []struct{ only, without, want string }{
		{"", "", "ABC"}, {"A,C", "", "AC"}, {"", "B", "AC"}, {"A,B", "B", "A"}, {"A,Z", "", "no row is called Z"}, {"", "Z", "no row is called Z"},
	} {
		var got string
		chosen, err := choose(all(), tt.only, tt.without)
		for _, r := range chosen {
			got += r.id
		}
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("only %q without %q: %s, want %s", tt.only, tt.without, got, tt.want)
		}
	}
}
