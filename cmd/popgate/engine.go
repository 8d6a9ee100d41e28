package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
)

// An engine is the POP3 engines, one for each listener, alike but for TLS and for
// how its clients prove themselves. They can be replaced while they serve.
type engine struct {
	store   upstream.Store
	secrets pop3.SharedSecrets // for listeners that use them
	secure  []*tls.Config      // of each listener; nil without a certificate
	trace   pop3.Trace
	log     *slog.Logger

	now []atomic.Pointer[pop3.Server] // for connections that come from now on
}

func newEngine(cfg config.Config, store upstream.Store, secrets pop3.SharedSecrets, secure []*tls.Config, m *metrics.Metrics, log *slog.Logger) (*engine, error) {
	e := &engine{store: store, secrets: secrets, secure: secure, trace: pop3Trace(m), log: log, now: make([]atomic.Pointer[pop3.Server], len(cfg.Listen))}
	servers, err := e.servers(cfg)
	if err != nil {
		return nil, err
	}
	e.use(servers)
	return e, nil
}

// servers makes an engine for each listener of cfg, which are those of e.
func (e *engine) servers(cfg config.Config) ([]*pop3.Server, error) {
	var servers []*pop3.Server
	for i, l := range cfg.Listen {
		options := pop3.Options{
			Store:          e.store,
			TLS:            e.secure[i],
			Bearer:         l.Bearer,
			AllowClearText: cfg.ClearText,
			Expire:         string(cfg.Expire),
			LoginDelay:     cfg.Limits.LoginDelay,
			LoginTries:     cfg.Limits.LoginTries,
			BadCommands:    cfg.Limits.BadCommands,
			LoginTime:      cfg.Limits.LoginTime,
			IdleTime:       cfg.Limits.IdleTime,
			HandshakeTime:  cfg.Limits.HandshakeTime,
			Logger:         e.log,
			Trace:          e.trace,
			// Each route decides for itself.
			AuthorizationIdentity: true,
		}
		if l.SharedSecrets {
			options.Shared = e.secrets
		}
		if cfg.Transcript.Given() {
			options.Watch = cfg.Transcript.Wants
		}
		if cfg.Expire == "" {
			options.Expire = pop3.ExpireOmitted
		}
		server, err := pop3.NewServer(options)
		if err != nil {
			return nil, err
		}
		servers = append(servers, server)
	}
	return servers, nil
}

// use lets connections that come from now on have these.
func (e *engine) use(servers []*pop3.Server) {
	for i, s := range servers {
		e.now[i].Store(s)
	}
}

// busy is the greeting of a client that a limit turns away (RFC 1939
// section 3, RFC 3206 section 4).
const busy = "-ERR [SYS/TEMP] too many connections, try again later\r\n"

// listener lets clients of l, which has this number, talk to the engine.
func (e *engine) listener(i int, name string, l config.Listen) proxy.Listener {
	via := pop3.Via{Listener: name, TLS: l.TLS}
	p := proxy.Listener{
		Name:    name,
		Addr:    l.Address(),
		Proxies: l.Proxies,
		Clients: l.Legacy.From,
		Handler: func(ctx context.Context, c net.Conn) { e.now[i].Load().Serve(ctx, c, via) },
		Busy:    []byte(busy),
	}
	if l.TLS {
		p.TLS = e.secure[i]
	}
	return p
}
