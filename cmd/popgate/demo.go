package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/cmd/internal/demo"
	"github.com/popgate/popgate/cmd/internal/screen"
)

type demoCommand struct {
	Once   bool   `help:"End after the session, with exit code 0 if all of it went well and 1 if not."`
	Listen string `placeholder:"URL" default:"pop3://127.0.0.1:0" help:"Where the gateway listens, pop3:// on a loopback address. Port 0 is a free one. Default: ${default}."`
	IMAP   string `placeholder:"HOST:PORT" default:"127.0.0.1:0" help:"Where the mail server in memory listens, a loopback address. Port 0 is a free one. Default: ${default}."`
	JMAP   bool   `help:"The mail server speaks JMAP, and not IMAP."`
}

// Help is shown by --help.
func (demoCommand) Help() string {
	return `Starts an IMAP server in memory, or with --jmap a JMAP server, with a dozen sample messages and the gateway in front of it, holds a POP3 session and prints what both sides say. Then it tells how to try it with curl or a mail program, and serves until Ctrl-C. Nothing of it is written to disk, and nothing leaves this machine.

Examples:

    popgate demo

    popgate demo --once

    popgate demo --jmap

    popgate demo --listen pop3://127.0.0.1:1110`
}

// demoConnections is plenty for one person who tries things out.
const demoConnections = 100

// Run plays the demonstration.
func (c *demoCommand) Run(ctx context.Context, env environment) error {
	scheme := "imap://"
	if c.JMAP {
		scheme = "jmap+http://"
	}
	if _, port, err := net.SplitHostPort(c.IMAP); err != nil {
		return usage("--imap", "%q is not accepted; use HOST:PORT, such as 127.0.0.1:1143", c.IMAP)
	} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return usage("--imap", "%q is not accepted: a port is a number from 0 to 65535", c.IMAP)
	}
	line := env.progress.Progress("making a mail server and its messages")
	defer line.Stop()
	log := newLogger(env.stderr, config.Log{Format: config.LogAuto, Level: slog.LevelWarn})
	return demo.Run(ctx, demo.Options{
		Address: c.IMAP,
		JMAP:    c.JMAP,
		Once:    c.Once,
		Out:     dialogue{env.stdout},
		Start: func(ctx context.Context, upstream netip.AddrPort) (string, func() error, error) {
			defer line.Stop()
			cfg, err := config.Load("", config.Flags{"listen": {c.Listen}, "upstream": {scheme + upstream.String()}, "drain": {"1s"}})
			if err != nil {
				return "", nil, err
			}
			if !cfg.Listen[0].Loopback() || cfg.Listen[0].TLS {
				return "", nil, config.Problems{{Where: "--listen", Text: fmt.Sprintf(
					"the demonstration listens with pop3:// on a loopback address, not on %s", cfg.Listen[0])}}
			}
			cfg.Limits.Connections = demoConnections
			return startGateway(ctx, cfg, log)
		},
	})
}

// A dialogue is painted line by line, each of which is one Write: what the client
// says stands out, and so does a refusal.
type dialogue struct{ *screen.Screen }

func (d dialogue) Write(p []byte) (int, error) {
	color := screen.Color("")
	switch {
	case bytes.HasPrefix(p, []byte("C: ")):
		color = screen.Bold
	case bytes.HasPrefix(p, []byte("S: -ERR")):
		color = screen.Bad
	case bytes.HasPrefix(p, []byte("S: +OK")):
		color = screen.Good
	}
	text, end := bytes.CutSuffix(p, []byte("\n"))
	if color == "" || !end {
		return d.Screen.Write(p)
	}
	if _, err := fmt.Fprintln(d.Screen, d.Paint(color, string(text))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// startGateway runs a gateway beside the caller.
func startGateway(ctx context.Context, cfg config.Config, log *slog.Logger) (address string, stop func() error, err error) {
	g, err := newGateway(ctx, cfg, readBuild(), &sockets{}, log)
	if err != nil {
		return "", nil, err
	}
	if err := g.listen(ctx); err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- g.serve(ctx, nil) }()
	return g.server.Addrs()[0].String(), func() error { cancel(); return <-served }, nil
}
