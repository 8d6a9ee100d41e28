package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
)

// reloadSignal asks for the configuration to be read now.
const reloadSignal = syscall.SIGHUP

// A reloader follows the files of a configuration, and puts what has changed into
// use: all of it or nothing, for sessions that begin from then on. While the files
// are of no use, the last configuration stays.
type reloader struct {
	load  func() (config.Config, error)
	apply func(config.Config) error
	ended func(error) // told how each attempt ended that is told
	log   *slog.Logger

	files        [2]string // the configuration and its routes-file; "" for none
	loaded, seen look
	failure      string // "" while the files are as loaded
}

// newReloader follows files that were at when they were read.
func newReloader(files [2]string, at look, load func() (config.Config, error), apply func(config.Config) error, ended func(error), log *slog.Logger) *reloader {
	return &reloader{load: load, apply: apply, ended: ended, log: log, files: files, loaded: at, seen: at}
}

// lookAt is taken before files are read: what changes meanwhile is read again.
func lookAt(files [2]string) (l look) {
	for i, file := range files {
		if file != "" {
			if info, err := os.Stat(file); err == nil {
				l[i] = info
			}
		}
	}
	return l
}

// poll looks once, and reads what has changed.
func (r *reloader) poll() {
	last := r.seen
	r.seen = lookAt(r.files)
	switch {
	case !r.seen.same(last): // it may be half written
	case !r.seen.same(r.loaded):
		r.reload()
	case r.failure != "": // the files are again what is in use
		r.failure = ""
		r.ended(nil)
	}
}

// reload reads the files and puts them into use.
func (r *reloader) reload() {
	at := lookAt(r.files)
	cfg, err := r.load()
	if err == nil {
		err = r.apply(cfg)
	}
	if err != nil {
		if err.Error() != r.failure { // told once; it is tried again all the same
			r.failure = err.Error()
			r.log.Error("the new configuration is of no use, the last one stays", "error", err)
			r.ended(err)
		}
		return
	}
	if r.files[1] != cfg.RoutesFile {
		r.files[1] = cfg.RoutesFile
		at[1] = lookAt(r.files)[1]
	}
	r.loaded, r.seen, r.failure = at, at, ""
	r.ended(nil)
	r.log.Info("a new configuration", "file", r.files[0], "routes", len(cfg.Routes), "warnings", len(cfg.Warnings(time.Now())))
}

// follow polls until ctx ends, and reloads at once when it is asked to.
func (r *reloader) follow(ctx context.Context, asked <-chan struct{}) {
	ticker := time.NewTicker(certificatePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.poll()
		case <-asked:
			r.failure = "" // it is told again
			r.reload()
		case <-ctx.Done():
			return
		}
	}
}

// source is where the configuration came from; the zero value for one that is not
// read again.
type source struct {
	file  string
	flags config.Flags
	at    look // when it was read
}

// reloader puts what changes at the source into use in g.
func (g *gateway) reloader() *reloader {
	load := func() (config.Config, error) { return config.Load(g.source.file, g.source.flags) }
	ended := func(err error) {
		facts := *g.facts.Load()
		facts.Wrong = wrongAt(err)
		g.facts.Store(&facts)
		if err != nil {
			g.metrics.ConfigReloadFailed()
			return
		}
		g.metrics.ConfigLoaded(time.Now())
	}
	return newReloader([2]string{g.source.file, g.cfg.RoutesFile}, g.source.at, load, g.apply, ended, g.log)
}

// fixedSettings are settings that a new configuration changes and cannot change.
type fixedSettings []string

func (s fixedSettings) Error() string {
	return strings.Join(s, ", ") + " cannot change while popgate runs; restart it, or let a new process take over (SIGUSR2)"
}

// apply puts a configuration into use for sessions that begin from now on.
func (g *gateway) apply(cfg config.Config) error {
	if fixed := g.cfg.Fixed(cfg); fixed != nil {
		return fixedSettings(fixed)
	}
	servers, err := g.engine.servers(cfg)
	if err != nil {
		return err
	}
	if err := g.routing.replace(cfg); err != nil {
		return err
	}
	g.engine.use(servers)
	g.facts.Store(g.factsOf(cfg))
	if g.level != nil {
		g.level.Set(cfg.Log.Level)
	}
	return nil
}
