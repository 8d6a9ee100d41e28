package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// What a PROXY header may take. A proxy sends it at once, and before anything
// else; the time has room for two segments that are lost and sent again.
const (
	headerTime   = 5 * time.Second
	headerLineV1 = 107 // octets of a line of version 1; the library holds version 2 to 4096 behind its 16
	headerBuffer = 256 // octets that are read at once, and may be the client's in part
)

// A proxiedConn is a connection that a proxy has made for a client.
type proxiedConn struct {
	net.Conn
	client net.Addr
	rest   []byte // came with the header, and belongs to the client
}

// RemoteAddr is the client's address, as the proxy told it. LocalAddr stays that
// of the socket: what is said of the far end says nothing about the way from the
// proxy to here.
func (c *proxiedConn) RemoteAddr() net.Addr { return c.client }

func (c *proxiedConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 || len(p) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
	}
	return n, nil
}

// CloseWrite ends what is sent, where the connection below can do that.
func (c *proxiedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("closing one half: %w", net.ErrClosed)
}

// readHeader takes the PROXY header off c, and leaves everything behind it to be
// read. It ends in headerTime, or when ctx does. An error means that there is no
// right header and that c must be closed.
func readHeader(ctx context.Context, c net.Conn) (*proxiedConn, error) {
	c.SetReadDeadline(time.Now().Add(headerTime))
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	r := bufio.NewReaderSize(c, headerBuffer)
	err := awaitLine(r)
	var header *proxyproto.Header
	if err == nil {
		header, err = proxyproto.Read(r)
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	client, err := clientOf(header, c.RemoteAddr())
	if err != nil {
		return nil, err
	}
	rest, _ := r.Peek(r.Buffered()) // no more than is there: no error
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &proxiedConn{Conn: c, client: client, rest: append([]byte(nil), rest...)}, nil
}

// awaitLine waits for the end of the line, if it begins as version 1 does: the
// library wants that line in one piece, and the network does not promise one. It
// takes nothing off r.
func awaitLine(r *bufio.Reader) error {
	for n := 1; n <= headerLineV1; n++ {
		p, err := r.Peek(n)
		if err != nil {
			return err
		}
		if n <= len(proxyproto.SIGV1) && p[n-1] != proxyproto.SIGV1[n-1] || p[n-1] == '\n' {
			return nil
		}
	}
	return nil
}

// clientOf returns the address that header gives. A connection that the proxy
// has made for itself (LOCAL, a health check) has the proxy's own; a client
// whose address the proxy cannot tell has none, and that is never guessed: it is
// the unspecified address, which nothing trusts and the limits know as one.
func clientOf(header *proxyproto.Header, proxy net.Addr) (net.Addr, error) {
	switch {
	case header.Version == 2 && header.Command.IsLocal():
		return proxy, nil
	case header.Command.IsLocal(), header.TransportProtocol == proxyproto.UnixStream:
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), 0)), nil
	}
	if client, ok := header.SourceAddr.(*net.TCPAddr); ok {
		return client, nil
	}
	return nil, fmt.Errorf("a PROXY header for %T", header.SourceAddr)
}

// among reports whether addr lies in one of the networks.
func among(addr net.Addr, networks []netip.Prefix) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}
