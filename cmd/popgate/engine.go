package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/proxy"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
)

// An engine makes the POP3 engines: one for each listener, alike but for TLS and for how
// its clients prove themselves.
type engine struct {
	options pop3.Options
	secrets pop3.SharedSecrets // for listeners that use them
}

func newEngine(cfg config.Config, store upstream.Store, secrets pop3.SharedSecrets, m *metrics.Metrics, log *slog.Logger) *engine {
	options := pop3.Options{
		Store:          store,
		AllowClearText: cfg.ClearText,
		Expire:         string(cfg.Expire),
		LoginDelay:     cfg.Limits.LoginDelay,
		LoginTries:     cfg.Limits.LoginTries,
		BadCommands:    cfg.Limits.BadCommands,
		LoginTime:      cfg.Limits.LoginTime,
		IdleTime:       cfg.Limits.IdleTime,
		HandshakeTime:  cfg.Limits.HandshakeTime,
		Logger:         log,
		Trace:          pop3Trace(m),
		// Each route decides for itself.
		AuthorizationIdentity: true,
	}
	if cfg.Transcript.Given() {
		options.Watch = cfg.Transcript.Wants
	}
	if cfg.Expire == "" {
		options.Expire = pop3.ExpireOmitted
	}
	return &engine{options, secrets}
}

// busy is the greeting of a client that a limit turns away (RFC 1939
// section 3, RFC 3206 section 4).
const busy = "-ERR [SYS/TEMP] too many connections, try again later\r\n"

// listener lets clients of l talk to an engine; serverTLS is nil without a
// certificate.
func (e *engine) listener(name string, l config.Listen, serverTLS *tls.Config) (proxy.Listener, error) {
	options := e.options
	options.TLS = serverTLS
	options.Bearer = l.Bearer
	if l.SharedSecrets {
		options.Shared = e.secrets
	}
	server, err := pop3.NewServer(options)
	if err != nil {
		return proxy.Listener{}, err
	}
	via := pop3.Via{Listener: name, TLS: l.TLS}
	p := proxy.Listener{
		Name:    name,
		Addr:    l.Address(),
		Proxies: l.Proxies,
		Clients: l.Legacy.From,
		Handler: func(ctx context.Context, c net.Conn) { server.Serve(ctx, c, via) },
		Busy:    []byte(busy),
	}
	if l.TLS {
		p.TLS = serverTLS
	}
	return p, nil
}
