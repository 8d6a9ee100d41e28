package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Forward is one address of HAProxy and where its connections go.
type Forward struct {
	To     string // host:port
	Header string // send-proxy or send-proxy-v2
	TLS    bool   // it speaks TLS from the first octet there
	Addr   string // host:port, filled in
}

// HAProxySource is the address from which HAProxy connects: a loopback address
// that nobody else has.
const HAProxySource = "127.0.0.50"

// HAProxy starts HAProxy with these forwards. It looks after each server five
// times a second, with a PROXY header for itself, and expects the greeting of
// POP3 from those without TLS.
func (l *Lab) HAProxy(ctx context.Context, name string, forwards []Forward) (*Server, error) {
	dir, err := l.fresh(os.Getuid(), os.Getgid(), name)
	if err != nil {
		return nil, err
	}
	s := &Server{Name: name, LogFile: filepath.Join(dir, "log")}
	if s.Version, err = PackageVersion(ctx, "haproxy"); err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("global\n  maxconn 100\n  log stderr local0 info\ndefaults\n  mode tcp\n  log global\n" +
		"  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  timeout check 5s\n")
	for i := range forwards {
		f := &forwards[i]
		if f.Addr, err = FreePort(); err != nil {
			return nil, err
		}
		expect := "  option tcp-check\n  tcp-check expect string +OK\n"
		if f.TLS {
			expect = ""
		}
		fmt.Fprintf(&b, "listen forward%d\n  bind %s\n  source %s\n%s"+
			"  server popgate %s %s check check-send-proxy inter 200ms fall 1 rise 1\n", i, f.Addr, HAProxySource, expect, f.To, f.Header)
	}
	config := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(config, []byte(b.String()), 0o644); err != nil {
		return nil, err
	}
	p, err := l.spawn(name, s.LogFile, nil, "haproxy", "-db", "-f", config)
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	for _, f := range forwards {
		if err := WaitOpen(ctx, f.Addr); err != nil {
			text, _ := os.ReadFile(s.LogFile)
			return nil, errors.Join(fmt.Errorf("%w\n%s", err, text), s.Stop())
		}
	}
	return s, nil
}
