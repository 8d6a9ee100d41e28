// Command prove measures popgate's guarantees and prints them beside the figures
// to reach.
//
//	go run ./cmd/prove            # quick: minutes, with reduced counts
//	go run ./cmd/prove -full      # full: hours
//	go run ./cmd/prove -row M1,M2 # some rows
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
)

func main() {
	full := flag.Bool("full", false, "measure with the full counts: hours")
	only := flag.String("row", "", "comma-separated `rows` to measure; all if empty")
	verbose := flag.Bool("v", false, "show what the tests print")
	strict := flag.Bool("strict", false, "exit with 1 if a figure is not reached")
	flag.Parse()
	level := "quick"
	if *full {
		level = "full"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	counts, err := run(ctx, level, *only, *verbose, os.Stdout)
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

func run(ctx context.Context, level, only string, verbose bool, w io.Writer) (map[verdict]int, error) {
	dir, err := os.MkdirTemp("", "prove")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	chosen := rows()
	if only != "" {
		want := strings.Split(only, ",")
		chosen = slices.DeleteFunc(chosen, func(r row) bool { return !slices.Contains(want, r.id) })
		if len(chosen) == 0 {
			return nil, fmt.Errorf("no row of %s", only)
		}
	}
	counts := map[verdict]int{}
	fmt.Fprintf(w, "popgate's guarantees, measured %s (%s)\n\n", time.Now().Format("2006-01-02"), level)
	for _, r := range chosen {
		fmt.Fprintf(os.Stderr, "%s ...\n", r.id)
		o := measure(ctx, r, level, filepath.Join(dir, r.id), verbose)
		if ctx.Err() != nil {
			return counts, context.Cause(ctx)
		}
		counts[print(w, r, level, o)]++
	}
	fmt.Fprintf(w, "\n%d rows: %d reached, %d not reached, %d failed\n", len(chosen), counts[reached], counts[notReached], counts[failed])
	return counts, nil
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

// print writes a row of the table and returns its verdict.
func print(w io.Writer, r row, level string, o outcome) verdict {
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
	columns[level] = fmt.Sprintf("%s: %s (%v)", v, strings.Join(texts, "; "), o.took.Round(time.Second))
	fmt.Fprintf(w, "%-4s %s\n     quick: %s\n     full:  %s\n", r.id, r.goal, columns["quick"], columns["full"])
	return v
}

func tail(b []byte, lines int) []byte {
	all := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}
