package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

type options struct {
	rounds  int
	quick   bool
	work    string
	only    string
	popgate string
	dir     string
	json    string
	write   string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each contender does each work; the table shows medians")
	flag.BoolVar(&o.quick, "quick", false, "small mailboxes, to see that it works: the figures mean nothing")
	flag.StringVar(&o.work, "work", ".", "only works whose name matches this regular expression")
	flag.StringVar(&o.only, "only", ".", "only contenders whose name matches: wire, native, imapc, popgate, popgate-reuse")
	flag.StringVar(&o.popgate, "popgate", "", "the popgate binary (required)")
	flag.StringVar(&o.dir, "dir", "", "a folder for everything, with cyrus-imapd unpacked in unpacked/cyrus (required)")
	flag.StringVar(&o.json, "json", "", "write every single figure to this file")
	flag.StringVar(&o.write, "write", "", "write RESULTS.md and bench.svg to this folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	only, err := regexp.Compile("^(" + o.only + ")$")
	if o.only == "." {
		only, err = regexp.Compile(".")
	}
	if err != nil {
		return err
	}
	chosen, err := regexp.Compile(o.work)
	if err != nil {
		return err
	}
	if o.popgate == "" || o.dir == "" {
		return fmt.Errorf("-popgate or -dir is missing; deploy/bench/run.sh makes them")
	}
	dir := o.dir
	l, err := lab.New(dir)
	if err != nil {
		return err
	}
	version, err := lab.PackageVersion(ctx, "dovecot-imapd")
	if err != nil {
		return err
	}
	machine := describe(version)
	fmt.Println(machine)

	b := &bench{scale: fullScale, store: filepath.Join(dir, "corpus")}
	if o.quick {
		b.scale = quickScale
	}
	if b.backend, err = startBackend(ctx, l); err != nil {
		return err
	}
	defer b.backend.stop()
	start := time.Now()
	if err := b.populate(); err != nil {
		return err
	}
	fmt.Printf("mailboxes made in %.1f s\n", since(start))

	all := []func() (*contender, error){
		func() (*contender, error) { return native(b.backend), nil },
		func() (*contender, error) { return imapc(ctx, l, b.backend) },
		func() (*contender, error) { return popgate(ctx, l, b.backend, o.popgate, "popgate", "") },
		func() (*contender, error) {
			return popgate(ctx, l, b.backend, o.popgate, "popgate-reuse", "  reuse: 60s\n")
		},
	}
	var contenders []*contender
	for i, name := range []string{"native", "imapc", "popgate", "popgate-reuse"} {
		if !only.MatchString(name) {
			continue
		}
		c, err := all[i]()
		if err != nil {
			return err
		}
		defer c.near.stop()
		defer c.far.stop()
		if err := b.warm(c); err != nil {
			return err
		}
		contenders = append(contenders, c)
	}

	f := figures{}
	var rows []string
	for _, w := range works() {
		if !chosen.MatchString(w.name) {
			continue
		}
		rows = append(rows, w.rows...)
		start := time.Now()
		for range o.rounds {
			if w.wire != nil && only.MatchString("wire") {
				if err := w.wire(b, b.backend.imap, f.tell("wire")); err != nil {
					return fmt.Errorf("%s, wire: %w", w.name, err)
				}
			}
			for _, c := range contenders {
				if c.name == "popgate-reuse" && !strings.HasPrefix(w.name, "poll") {
					continue // it changes nothing but the login
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err := w.run(ctx, b, c, f.tell(c.name)); err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, c.name, err)
				}
			}
		}
		fmt.Printf("%s: %.1f s\n", w.name, since(start))
	}
	table := f.table(rows)
	if chosen.MatchString("jmap") && only.MatchString("popgate") {
		start := time.Now()
		more, err := b.compareJMAP(ctx, l, o.popgate, o.rounds)
		if err != nil {
			return fmt.Errorf("jmap: %w", err)
		}
		fmt.Printf("jmap: %.1f s\n", since(start))
		table += "\n" + more
	}
	fmt.Printf("\n%s", table)
	if o.json != "" {
		text, err := json.MarshalIndent(f, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.write != "" {
		text := fmt.Sprintf("# Results of the benchmark\n\n%s; medians of %d rounds. `deploy/bench/run.sh -write deploy/bench` made this file.\n\n%s", machine, o.rounds, table)
		if err := os.WriteFile(filepath.Join(o.write, "RESULTS.md"), []byte(text), 0o644); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(o.write, "bench.svg"), []byte(f.picture(rows)), 0o644)
	}
	return nil
}

// describe names the machine and what is compared.
func describe(dovecot string) string {
	var u syscall.Utsname
	kernel := ""
	if syscall.Uname(&u) == nil {
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			kernel += string(rune(c))
		}
	}
	commit := "unknown"
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		commit = string(bytes.TrimSpace(out))
	}
	return fmt.Sprintf("%d processors, Linux %s, %s, Dovecot %s, popgate %s", runtime.NumCPU(), kernel, runtime.Version(), dovecot, commit)
}
