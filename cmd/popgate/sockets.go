package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// sockets are the listening sockets of the process: those that it was handed, by
// systemd's protocol, and those that it binds itself. Not safe for concurrent use.
type sockets struct {
	handed []net.Listener // that nobody has asked for yet
	inUse  []net.Listener
}

// handedSockets takes the sockets that the process was started with
// (sd_listen_fds(3)), and the variables that tell of them out of the environment.
func handedSockets() (*sockets, error) {
	files := activation.Files(true)
	s := &sockets{}
	for _, f := range files {
		l, err := net.FileListener(f)
		_ = f.Close() // l has a descriptor of its own
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s was handed over and is no listening socket: %w", f.Name(), err), s.close())
		}
		s.handed = append(s.handed, l)
	}
	return s, nil
}

// listen returns the socket that was handed over for an address, host:port, or
// else binds it.
func (s *sockets) listen(ctx context.Context, address string) (net.Listener, error) {
	for i, l := range s.handed {
		if sameAddress(l.Addr(), address) {
			s.handed = append(s.handed[:i], s.handed[i+1:]...)
			s.inUse = append(s.inUse, l)
			return l, nil
		}
	}
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", address) // package proxy sets it for each connection
	if err == nil {
		s.inUse = append(s.inUse, l)
	}
	return l, err
}

// sameAddress reports whether a socket is bound to an address of the
// configuration: to every address of the machine, in whatever spelling, if that
// names none.
func sameAddress(bound net.Addr, address string) bool {
	tcp, ok := bound.(*net.TCPAddr)
	if !ok {
		return false
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != fmt.Sprint(tcp.Port) {
		return false
	}
	if host == "localhost" {
		return tcp.IP.IsLoopback()
	}
	want, err := netip.ParseAddr(host)
	if host != "" && err != nil {
		return false
	}
	return tcp.AddrPort().Addr().Unmap() == want.Unmap() || tcp.IP.IsUnspecified() && (host == "" || want.IsUnspecified())
}

// allAsked returns an error if sockets were handed over that no listener of the
// configuration has: their clients would wait for ever.
func (s *sockets) allAsked() error {
	var left []string
	for _, l := range s.handed {
		left = append(left, l.Addr().String())
	}
	if left == nil {
		return nil
	}
	return fmt.Errorf("handed over, and no address of listen or metrics: %s; change the socket unit or the configuration", strings.Join(left, ", "))
}

// close closes what nobody has asked for.
func (s *sockets) close() error {
	var err error
	for _, l := range s.handed {
		err = errors.Join(err, l.Close())
	}
	s.handed = nil
	return err
}
