package jmap

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// maxHeaders bounds the header of an HTTP answer, in octets.
const maxHeaders = 64 << 10

// newHTTP makes the HTTP client that all accounts share. It speaks HTTP/1.1, asks
// for no compression, keeps no cookies, follows no redirect and knows no proxy:
// what is done with a connection is what stands here.
func newHTTP(o Options, origin *url.URL) *http.Client {
	plain := origin.Scheme == "http"
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return dial(ctx, o, plain, network, address)
			},
			TLSClientConfig:        o.TLS,
			TLSHandshakeTimeout:    o.DialTime,
			Protocols:              protocols,
			DisableCompression:     true,
			MaxIdleConns:           o.MaxIdle,
			MaxIdleConnsPerHost:    o.MaxIdle,
			IdleConnTimeout:        o.IdleTime,
			MaxResponseHeaderBytes: maxHeaders,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func dial(ctx context.Context, o Options, plain bool, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.DialTime, fmt.Errorf("no connection within %v", o.DialTime))
	defer cancel()
	c, err := o.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok && plain && !a.IP.IsLoopback() {
		c.Close()
		return nil, fmt.Errorf("%v is no loopback address, and the connection is in clear text", a)
	}
	o.Trace.connection(+1)
	return &conn{Conn: c, trace: o.Trace}, nil
}

// conn is a connection that tells of its end.
type conn struct {
	net.Conn
	trace Trace
	once  sync.Once
}

func (c *conn) Close() error {
	c.once.Do(func() { c.trace.connection(-1) })
	return c.Conn.Close()
}

// origin is the scheme, the host and the port of a URL, in one spelling.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme) + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// discard reads an answer that nobody wants, if it is short, so that the connection
// can be used again.
func discard(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxProblem)
	resp.Body.Close()
}

// wait lets d pass, or ctx end.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
