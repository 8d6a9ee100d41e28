package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/imapguard"
)

// dial connects to the first address of the server that answers with a
// greeting, secured as the options demand. Of the credentials it takes the
// addresses alone.
func (s *Store) dial(ctx context.Context, creds upstream.Credentials) (*dialogue, error) {
	addrs, err := s.addresses(ctx)
	if err != nil {
		return nil, fail(upstream.Unavailable, opConnect, err)
	}
	var errs []error
	for _, addr := range addrs {
		d, err := s.dialOne(ctx, addr, creds)
		if err == nil {
			return d, nil
		}
		errs = append(errs, fmt.Errorf("%v: %w", addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	kind := upstream.Unavailable
	for _, err := range errs {
		if e, ok := errors.AsType[*upstream.Error](err); ok {
			kind = e.Kind
		}
	}
	return nil, fail(kind, opConnect, errors.Join(errs...))
}

func (s *Store) addresses(ctx context.Context) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(s.o.Host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.DialTime)
	defer cancel()
	addrs, err := s.o.Lookup(ctx, s.o.Host)
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("%s has no address", s.o.Host)
	}
	return addrs, err
}

// tellOf lets an operator who asked for it read along.
func tellOf(g *imapguard.Conn, creds upstream.Credentials) {
	if creds.Transcript == nil {
		g.Tell(nil)
		return
	}
	g.Tell(creds.Transcript.Note)
}

func (s *Store) dialOne(ctx context.Context, addr netip.Addr, creds upstream.Credentials) (d *dialogue, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.DialTime, fmt.Errorf("no connection within %v", s.o.DialTime))
	defer cancel()
	base, err := s.o.Dial(ctx, "tcp", net.JoinHostPort(addr.String(), strconv.Itoa(int(s.o.Port))))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { base.Close() })
	defer func() {
		if !stop() && err != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		if err != nil {
			base.Close()
		}
	}()
	if s.o.ProxyProtocol {
		by, _ := ctx.Deadline()
		base.SetWriteDeadline(by)
		if _, err := base.Write(proxyHeader(creds.Client, creds.Server)); err != nil {
			return nil, err
		}
		base.SetWriteDeadline(time.Time{}) // the guard has its own
	}
	conn := base
	if s.o.Security == ImplicitTLS {
		conn = tls.Client(base, s.o.TLS)
		if err := imapguard.Handshake(ctx, conn.(*tls.Conn)); err != nil {
			return nil, err
		}
	}
	d = newDialogue(imapguard.New(base, conn, s.o.Guard), &s.o)
	tellOf(d.guard, creds)
	if err := d.greeting(); err != nil {
		return nil, err
	}
	if s.o.Security == StartTLS || s.o.Security == Auto && !addr.Unmap().IsLoopback() {
		if err := d.startTLS(ctx, s.o.TLS); err != nil {
			return nil, err
		}
	}
	return d, nil
}
