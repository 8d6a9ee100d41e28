package imap

import (
	"encoding/binary"
	"net/netip"
)

// proxyHeader is the header of the PROXY protocol, version 2, for a connection
// from client to server. Without a client it says LOCAL: the connection is the
// gateway's own. Addresses of both families are written as IPv6.
func proxyHeader(client, server netip.AddrPort) []byte {
	const (
		signature = "\r\n\r\n\x00\r\nQUIT\n"
		local     = 0x20 // version 2
		proxied   = 0x21
		tcp4      = 0x11
		tcp6      = 0x21
	)
	h := []byte(signature)
	if !client.IsValid() {
		return append(h, local, 0, 0, 0)
	}
	from, to := client.Addr().Unmap(), server.Addr().Unmap()
	if !to.IsValid() {
		to = netip.IPv6Unspecified()
		if from.Is4() {
			to = netip.IPv4Unspecified()
		}
	}
	const ports = 4
	if from.Is4() && to.Is4() {
		h = append(h, proxied, tcp4, 0, 2*4+ports)
		h = append(append(h, from.AsSlice()...), to.AsSlice()...)
	} else {
		from, to := from.As16(), to.As16()
		h = append(h, proxied, tcp6, 0, 2*16+ports)
		h = append(append(h, from[:]...), to[:]...)
	}
	h = binary.BigEndian.AppendUint16(h, client.Port())
	return binary.BigEndian.AppendUint16(h, server.Port())
}
