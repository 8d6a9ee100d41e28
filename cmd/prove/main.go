// Command prove measures popgate's guarantees and prints them beside the figures
// to reach.
//
//	go run ./cmd/prove            # quick: minutes, with reduced counts
//	go run ./cmd/prove -full      # full: hours
//	go run ./cmd/prove -row M1,M2 # some rows
//	go run ./cmd/prove -without M23
//
// On a terminal a line on standard error tells which row is measured, since when,
// and which of its tests runs. Into a pipe each row goes when it is measured.
//
// It exits with 1 if a test failed or measured nothing. A figure that was measured
// and is not reached is listed as that; with -strict it is a failure too.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/cmd/internal/screen"
)

func main() {
	full := flag.Bool("full", false, "measure with the full counts: hours")
	only := flag.String("row", "", "comma-separated `rows` to measure; all if empty")
	without := flag.String("without", "", "comma-separated `rows` to leave out")
	verbose := flag.Bool("v", false, "show what the tests print")
	strict := flag.Bool("strict", false, "exit with 1 if a figure is not reached")
	flag.Parse()
	level := "quick"
	if *full {
		level = "full"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	p := prover{level: level, verbose: *verbose, out: os.Stdout, stderr: screen.Of(os.Stderr, os.Getenv)}
	counts, err := p.run(ctx, *only, *without)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prove:", err)
	}
	if err != nil || counts[failed] > 0 || *strict && counts[notReached] > 0 {
		os.Exit(1)
	}
}

// verdict is what became of a row.
type verdict string

const (
	reached    verdict = "reached"
	notReached verdict = "NOT REACHED"
	failed     verdict = "FAILED" // or measured nothing
)

// outcome is what became of a row.
type outcome struct {
	figures []proof.Figure
	failed  bool
	took    time.Duration
}

// A prover measures rows at one level.
type prover struct {
	level   string
	verbose bool
	out     io.Writer      // for the table
	stderr  *screen.Screen // for what goes on meanwhile
}

// run measures the rows whose names are in only, with commas between them, all if
// it is empty, but not those in without.
func (p prover) run(ctx context.Context, only, without string) (map[verdict]int, error) {
	dir, err := os.MkdirTemp("", "prove")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	chosen, err := choose(rows(), only, without)
	if err != nil {
		return nil, err
	}
	counts := map[verdict]int{}
	fmt.Fprintf(p.out, "popgate's guarantees, measured %s (%s)\n\n", time.Now().Format("2006-01-02"), p.level)
	for i, r := range chosen {
		o := p.measure(ctx, r, fmt.Sprintf("%s (%d of %d)", r.id, i+1, len(chosen)), filepath.Join(dir, r.id))
		if ctx.Err() != nil {
			return counts, context.Cause(ctx)
		}
		counts[p.print(r, o)]++
	}
	fmt.Fprintf(p.out, "\n%d rows: %d reached, %d not reached, %d failed\n", len(chosen), counts[reached], counts[notReached], counts[failed])
	return counts, nil
}

// choose returns the rows named in only, all if it is empty, without those named in
// without. A name that no row has is an error.
func choose(all []row, only, without string) ([]row, error) {
	names := func(list string) []string {
		return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	}
	for _, name := range append(names(only), names(without)...) {
		if !slices.ContainsFunc(all, func(r row) bool { return r.id == name }) {
			return nil, fmt.Errorf("no row is called %s", name)
		}
	}
	return slices.DeleteFunc(all, func(r row) bool {
		return only != "" && !slices.Contains(names(only), r.id) || slices.Contains(names(without), r.id)
	}), nil
}

// measure runs what stands behind a row. title is what the line of progress begins
// with.
func (p prover) measure(ctx context.Context, r row, title, out string) outcome {
	var o outcome
	start := time.Now()
	line := p.stderr.Progress("%s: building the tests", title)
	defer line.Stop()
	cmd := exec.CommandContext(ctx, r.command[0], r.command[1:]...)
	cmd.Env = append(os.Environ(), proof.EnvLevel+"="+p.level, proof.EnvOut+"="+out)
	var log bytes.Buffer
	said := io.Writer(&log)
	if p.verbose {
		line.Stop()
		said = io.MultiWriter(&log, p.stderr)
	}
	heard := &testLog{out: said, test: func(name string) { line.Set("%s: %s", title, name) }}
	cmd.Stdout, cmd.Stderr = heard, heard
	err := cmd.Run()
	line.Stop()
	heard.flush()
	o.took = time.Since(start)
	o.failed = err != nil
	if err != nil && !p.verbose {
		fmt.Fprintf(p.stderr, "%s: %v\n%s\n", strings.Join(r.command, " "), err, tail(log.Bytes(), 60))
	}
	f, err := os.Open(out)
	if err != nil {
		return o
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var fig proof.Figure
		if json.Unmarshal(s.Bytes(), &fig) == nil && fig.Row == r.id {
			o.figures = append(o.figures, fig)
		}
	}
	return o
}

// print writes a row of the table and returns its verdict.
func (p prover) print(r row, o outcome) verdict {
	v := reached
	var texts []string
	for _, f := range o.figures {
		if !f.Reached {
			v = notReached
		}
		texts = append(texts, f.Text)
	}
	if o.failed || len(o.figures) == 0 {
		v = failed
	}
	columns := map[string]string{"quick": "not run", "full": "not run (go run ./cmd/prove -full -row " + r.id + ")"}
	columns[p.level] = fmt.Sprintf("%s: %s (%v)", v, strings.Join(texts, "; "), o.took.Round(time.Second))
	fmt.Fprintf(p.out, "%-4s %s\n     quick: %s\n     full:  %s\n", r.id, r.goal, columns["quick"], columns["full"])
	return v
}

// tail returns the last lines, but for those that say that a test has passed: of
// many tests they would leave no room for the one that has not.
func tail(b []byte, lines int) []byte {
	all := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	all = slices.DeleteFunc(all, func(line []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("--- PASS: ")) })
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}

// A testLog passes on what go test -v prints, but for the lines that say which test
// runs: those it hears.
type testLog struct {
	out  io.Writer
	test func(name string)
	rest []byte // of a line that has no end yet
}

func (l *testLog) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		if f := strings.Fields(string(line)); len(f) == 3 && f[0] == "===" {
			if f[1] == "RUN" || f[1] == "CONT" {
				l.test(f[2])
			}
			continue
		}
		if _, err := fmt.Fprintf(l.out, "%s\n", line); err != nil {
			return 0, err
		}
	}
}

// flush passes on what is left at the end.
func (l *testLog) flush() {
	if len(l.rest) > 0 {
		_, _ = l.out.Write(l.rest) // what cannot be shown has nobody to read it
	}
}
