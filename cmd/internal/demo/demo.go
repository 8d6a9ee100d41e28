package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// Options is what the demonstration needs.
type Options struct {
	IMAP string    // host:port for the IMAP server, a loopback address; port 0 is a free one
	Once bool      // return when the session has ended
	Out  io.Writer // where the dialogue goes

	// Start runs a gateway in front of the IMAP server at upstream, which
	// speaks clear text. It returns when POP3 clients can connect at address.
	// Stop ends it and waits until it has ended.
	Start func(ctx context.Context, upstream netip.AddrPort) (address string, stop func() error, err error)
}

// Run plays the demonstration. It returns when the context ends, or with Once
// after the session; with an error if anything was not as it must be.
func Run(ctx context.Context, o Options) (err error) {
	mail := samples()
	server, err := newIMAPServer(mail)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", o.IMAP)
	if err != nil {
		return err
	}
	upstream, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil || !upstream.Addr().IsLoopback() {
		return errors.Join(fmt.Errorf("the IMAP server of the demonstration is for loopback addresses, not %s", ln.Addr()), ln.Close())
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(patient{ln}) // ends with ln; a client notices what goes wrong before
	}()
	defer func() {
		// Close of the server alone would miss a listener that Serve does not
		// know yet.
		err = errors.Join(err, ignoreClosed(ln.Close()), ignoreClosed(server.Close()))
		<-served
	}()

	address, stop, err := o.Start(ctx, upstream)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	fmt.Fprintf(o.Out, "An IMAP server with %d messages listens on %s, popgate before it on %s.\n", len(mail), upstream, address)
	fmt.Fprint(o.Out, "A POP3 client (C) now talks to popgate (S).\n\n")
	left, err := play(ctx, address, mail, o.Out)
	if err != nil {
		return fmt.Errorf("the session went wrong: %w", err)
	}
	if o.Once {
		return nil
	}
	if err := invite(o.Out, address, upstream, left); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// invite prints what to try next.
func invite(out io.Writer, address string, upstream netip.AddrPort, mail []sample) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `
That was the session. popgate keeps serving until Ctrl-C; try it yourself:

  curl -u %[1]s:%[2]s pop3://%[3]s/             # the list
  curl -u %[1]s:%[2]s pop3://%[3]s/1            # one message
  curl -u %[1]s:%[2]s pop3://%[3]s/ -X UIDL     # the unique-ids
  curl -u %[1]s:%[2]s pop3://%[3]s/3 -X DELE -l   # delete one

In a mail program:

  account type  POP3
  server        %[4]s
  port          %[5]s
  encryption    none (both ends are on this machine)
  user          %[1]s
  password      %[2]s

The same mailbox over IMAP is at %[6]s. It holds:

`, user, password, address, host, port, upstream)
	for i, s := range mail {
		fmt.Fprintf(out, "  %2d  %7d octets  %s\n", i+1, len(s.raw), s.what)
	}
	return nil
}
