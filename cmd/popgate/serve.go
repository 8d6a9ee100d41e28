package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
)

type serveCommand struct{ settings }

// Help is shown by --help.
func (serveCommand) Help() string {
	return `SIGTERM or Ctrl-C ends it in peace: no new sessions, and those that are open have the time of --drain to end by themselves. A second signal ends it at once; nothing is deleted by that.

SIGHUP reads the configuration file again, and so does a change of it or of the routes-file within about 10 s: all of it is put into use, for new sessions, or nothing. What holds as long as the process lives (such as listen) is an error that says so.

SIGUSR2 starts the program anew, as it is on disk then, on the same sockets; when the new process serves, the old one ends as by SIGTERM. No client is refused meanwhile. It needs lock.file in the configuration. Sockets that systemd hands over are used for the listeners with their addresses.

Examples:

    popgate serve --listen pop3://127.0.0.1:1110 --upstream imap://127.0.0.1:1143 --metrics 127.0.0.1:9110

    popgate serve --listen pop3s://0.0.0.0 --listen pop3://0.0.0.0 --tls-cert fullchain.pem --tls-key privkey.pem --upstream imaps://imap.example.net

    popgate serve --config /etc/popgate/popgate.yaml`
}

// Run loads the configuration and serves until the context ends and the
// sessions are drained.
func (c *serveCommand) Run(ctx context.Context, env environment) error {
	at := lookAt([2]string{c.Config})
	cfg, err := config.Load(c.Config, env.flags)
	if err != nil {
		return err
	}
	at[1] = lookAt([2]string{1: cfg.RoutesFile})[1] // its name is in the other
	orders := make(chan os.Signal, 1)               // none of them ends the process from here on
	signal.Notify(orders, reloadSignal, handOverSignal)
	defer signal.Stop(orders)
	log, level := newLevelLogger(env.stderr, cfg.Log)
	for _, w := range cfg.Warnings(time.Now()) {
		log.Warn(w)
	}
	serves := takingOver()
	handed, err := handedSockets()
	if err != nil {
		return err
	}
	build := readBuild()
	g, err := newGateway(ctx, cfg, build, handed, log)
	if err != nil {
		return errors.Join(err, handed.close())
	}
	g.started, g.source, g.level = startedAs(), source{c.Config, env.flags, at}, level
	if err := g.listen(ctx); err != nil {
		return err
	}
	log.Info("popgate serves", "version", build.Version, "revision", build.Revision, "go", build.GoVersion,
		"listen", strings.Join(g.urls(), " "), "upstream", joined(cfg.Upstreams), "routes", len(cfg.Routes),
		"delete", string(cfg.Delete), "seen", seenWord(cfg.Seen), "metrics", g.metricsAddress(),
		"connections", g.maxConns)
	g.supervisor.ready("serving on " + strings.Join(g.urls(), " "))
	serves()
	return g.serve(ctx, orders)
}
