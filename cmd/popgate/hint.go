package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/popgate/popgate/upstream"
)

// hint says what to do about an error; "" where the error says it itself.
func hint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this address, perhaps a popgate that runs already: \"ss -ltnp\" names it; end it, or choose another port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address: 0.0.0.0 is all of IPv4, [::] all of both"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: does the server run, and are host and port right?"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "there is no way to this address from here: look at the network, or at a firewall"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "listen" && errors.Is(e, os.ErrPermission) {
		return "ports below 1024 need a right: take the service of the package, give CAP_NET_BIND_SERVICE, or choose a port from 1024"
	}
	if errors.Is(err, os.ErrPermission) {
		return "this user may not: run it as the one that owns the file, or as root"
	}
	if text := hintOfName(err); text != "" {
		return text
	}
	if text := hintOfTLS(err); text != "" {
		return text
	}
	// A connection that took too long was closed under whoever waited.
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return "nothing answers in time: look at the firewall and the port; a server that speaks TLS from the first octet needs imaps://"
	}
	return ""
}

func hintOfName(err error) string {
	e, ok := errors.AsType[*net.DNSError](err)
	switch {
	case !ok:
		return ""
	case e.IsNotFound:
		return "is the name spelled right? \"getent hosts " + e.Name + "\" asks the same"
	}
	return "the name server does not answer: see /etc/resolv.conf"
}

func hintOfTLS(err error) string {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "what answers speaks no TLS: with imap:// TLS begins by STARTTLS; imaps:// is mostly on port 993"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "if the server has an authority of its own, name its certificate in upstream.ca (--upstream-ca)"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "use a name of the certificate in upstream.url, or give the name in upstream.server-name"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return "the mail server needs a new certificate; if it has one, look at the clock of this machine"
	}
	return ""
}

// hintOfLogin says what to do about a login that failed.
func hintOfLogin(err error) string {
	switch upstream.KindOf(err) {
	case upstream.Refused:
		return "try user and password at the mail server by IMAP; Gmail and Microsoft 365 take no password of this sort, see \"popgate oauth\""
	case upstream.TooBig:
		return "raise limits.mailbox-messages or limits.mailbox-octets, or show a part of the mailbox by a route with window"
	}
	return hint(err)
}
