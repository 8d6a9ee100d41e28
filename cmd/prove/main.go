// Command prove measures popgate's guarantees and prints them beside the figures
// to reach.
//
//	go run ./cmd/prove            # quick: minutes, with reduced counts
//	go run ./cmd/prove -full      # full: hours
//	go run ./cmd/prove -row M1,M2 # some rows
//
// It exits with 1 if a figure was measured and is not reached, or a test failed.
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
)

func main() {
	full := flag.Bool("full", false, "measure with the full counts: hours")
	only := flag.String("row", "", "comma-separated `rows` to measure; all if empty")
	verbose := flag.Bool("v", false, "show what the tests print")
	flag.Parse()
	level := "quick"
	if *full {
		level = "full"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := run(ctx, level, *only, *verbose, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prove:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// outcome is what became of a row.
type outcome struct {
	figures []proof.Figure
	failed  bool
	took    time.Duration
}

func run(ctx context.Context, level, only string, verbose bool, w io.Writer) (bool, error) {
	dir, err := os.MkdirTemp("", "prove")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	chosen := rows()
	if only != "" {
		want := strings.Split(only, ",")
		chosen = slices.DeleteFunc(chosen, func(r row) bool { return !slices.Contains(want, r.id) })
		if len(chosen) == 0 {
			return false, fmt.Errorf("no row of %s", only)
		}
	}
	ok := true
	fmt.Fprintf(w, "popgate's guarantees, measured %s (%s)\n\n", time.Now().Format("2006-01-02"), level)
	for _, r := range chosen {
		fmt.Fprintf(os.Stderr, "%s ...\n", r.id)
		o := measure(ctx, r, level, filepath.Join(dir, r.id), verbose)
		ok = print(w, r, level, o) && ok
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	return ok, nil
}

// measure runs what stands behind a row.
func measure(ctx context.Context, r row, level, out string, verbose bool) outcome {
	var o outcome
	start := time.Now()
	cmd := exec.CommandContext(ctx, r.command[0], r.command[1:]...)
	cmd.Env = append(os.Environ(), proof.EnvLevel+"="+level, proof.EnvOut+"="+out)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if verbose {
		cmd.Stdout = io.MultiWriter(&log, os.Stderr)
		cmd.Stderr = cmd.Stdout
	}
	err := cmd.Run()
	o.took = time.Since(start)
	o.failed = err != nil
	if err != nil && !verbose {
		fmt.Fprintf(os.Stderr, "%s: %v\n%s\n", strings.Join(r.command, " "), err, tail(log.Bytes(), 60))
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

// print writes a row of the table and reports whether its figure is reached.
func print(w io.Writer, r row, level string, o outcome) bool {
	reached := !o.failed && len(o.figures) > 0
	var texts []string
	for _, f := range o.figures {
		reached = reached && f.Reached
		texts = append(texts, f.Text)
	}
	verdict := "reached"
	switch {
	case o.failed:
		verdict = "FAILED"
	case len(o.figures) == 0:
		verdict = "NOT MEASURED"
	case !reached:
		verdict = "NOT REACHED"
	}
	columns := map[string]string{"quick": "not run", "full": "not run (go run ./cmd/prove -full -row " + r.id + ")"}
	columns[level] = fmt.Sprintf("%s: %s (%v)", verdict, strings.Join(texts, "; "), o.took.Round(time.Second))
	fmt.Fprintf(w, "%-4s %s\n     quick: %s\n     full:  %s\n", r.id, r.goal, columns["quick"], columns["full"])
	return reached
}

func tail(b []byte, lines int) []byte {
	all := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}
