package jmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"
)

// maxHeaders bounds the header of an HTTP answer, in octets.
const maxHeaders = 64 << 10

// newHTTP makes the HTTP client for one origin, which all accounts share. It speaks HTTP/1.1, asks
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

// reuseTime is how long an answer may take to begin on a connection that was idle
// before. Such a connection may be dead and not say so; a new one tells.
const reuseTime = 10 * time.Second

var errStale = errors.New("a connection that was kept does not answer")

// roundTrip sends req and waits for the header of its answer.
func (s *Store) roundTrip(ctx context.Context, req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx) // ends with its parent: the body is still to be read
	timer := time.AfterFunc(reuseTime, func() { cancel(errStale) })
	timer.Stop()
	defer timer.Stop()
	resp, err := s.origins[origin(req.URL)].Do(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) {
			if c.Reused {
				timer.Reset(reuseTime)
			} else {
				timer.Stop()
			}
		},
	})))
	if err != nil {
		cancel(err)
	}
	return resp, err
}

// mayRepeat reports whether a request that changes nothing and ended in err is
// worth another try. That is on a new connection: where one was dead, those that
// are kept are most likely too.
func (s *Store) mayRepeat(ctx context.Context, err error) bool {
	if !errors.Is(err, errLost) || ctx.Err() != nil {
		return false
	}
	s.closeIdle()
	return true
}

func (s *Store) closeIdle() {
	for _, c := range s.origins {
		c.CloseIdleConnections()
	}
}

// conn is a connection that tells of its end, and acknowledges at once what comes.
type conn struct {
	net.Conn
	trace Trace
	once  sync.Once
}

func (c *conn) Read(p []byte) (int, error) {
	acknowledge(c.Conn)
	return c.Conn.Read(p)
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
