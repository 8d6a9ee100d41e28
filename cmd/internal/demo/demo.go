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
	Address string    // host:port for the mail server, a loopback address; port 0 is a free one
	JMAP    bool      // it speaks JMAP, and not IMAP
	Once    bool      // return when the session has ended
	Out     io.Writer // where the dialogue goes

	// Start runs a gateway in front of the mail server at upstream, which
	// speaks clear text. It returns when POP3 clients can connect at address.
	// Stop ends it and waits until it has ended.
	Start func(ctx context.Context, upstream netip.AddrPort) (address string, stop func() error, err error)
}

// Run plays the demonstration. It returns when the context ends, or with Once
// after the session; with an error if anything was not as it must be.
func Run(ctx context.Context, o Options) (err error) {
	mail := samples()
	protocol, serve := "IMAP", serveIMAP
	if o.JMAP {
		protocol, serve = "JMAP", serveJMAP
	}
	ln, err := net.Listen("tcp", o.Address)
	if err != nil {
		return err
	}
	upstream, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil || !upstream.Addr().IsLoopback() {
		return errors.Join(fmt.Errorf("the %s server of the demonstration is for loopback addresses, not %s", protocol, ln.Addr()), ln.Close())
	}
	end, err := serve(ln, mail)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	defer func() { err = errors.Join(err, end()) }()

	address, stop, err := o.Start(ctx, upstream)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	fmt.Fprintf(o.Out, "The %s server, with %d messages, listens on %s, popgate before it on %s.\n", protocol, len(mail), upstream, address)
	fmt.Fprint(o.Out, "A POP3 client (C) now talks to popgate (S).\n\n")
	left, err := play(ctx, address, mail, o.Out)
	if err != nil {
		return fmt.Errorf("the session went wrong: %w", err)
	}
	if o.Once {
		return nil
	}
	if err := invite(o.Out, address, at(o.JMAP, upstream), left); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// at says where the mail server is.
func at(jmap bool, upstream netip.AddrPort) string {
	if jmap {
		return "JMAP is at http://" + upstream.String() + "/.well-known/jmap"
	}
	return "IMAP is at " + upstream.String()
}

// invite prints what to try next.
func invite(out io.Writer, address, upstream string, mail []sample) error {
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

The same mailbox over %[6]s. It holds:

`, user, password, address, host, port, upstream)
	for i, s := range mail {
		fmt.Fprintf(out, "  %2d  %7d octets  %s\n", i+1, len(s.raw), s.what)
	}
	return nil
}
