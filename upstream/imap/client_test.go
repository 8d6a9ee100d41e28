package imap_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// The server learns where the POP3 client is, before the login and once, where
// that is switched on and the server offers ID. What it answers does not matter.
func TestTheClientsAddressGoesToTheServerByID(t *testing.T) {
	const v4 = `ID ("name" "popgate" "x-originating-ip" "198.51.100.7" "x-originating-port" "4711" "x-connected-ip" "192.0.2.1" "x-connected-port" "995")`
	for _, tt := range []struct {
		name           string
		profile        imaptest.Profile
		off            bool
		client, server string
		answer         imaptest.Action
		want           []string
	}{
		{name: "ipv4", profile: imaptest.Full(), client: "198.51.100.7:4711", server: "192.0.2.1:995", want: []string{v4}},
		{name: "ipv4_in_ipv6", profile: imaptest.Full(), client: "[::ffff:198.51.100.7]:4711", server: "[::ffff:192.0.2.1]:995", want: []string{v4}},
		{name: "ipv6_without_zone", profile: imaptest.Full(), client: "[fe80::1%eth0]:1", server: "[2001:db8::1]:110",
			want: []string{`ID ("name" "popgate" "x-originating-ip" "fe80::1" "x-originating-port" "1" "x-connected-ip" "2001:db8::1" "x-connected-port" "110")`}},
		{name: "no_server_address", profile: imaptest.Full(), client: "198.51.100.7:4711",
			want: []string{`ID ("name" "popgate" "x-originating-ip" "198.51.100.7" "x-originating-port" "4711")`}},
		{name: "refused", profile: imaptest.Full(), client: "198.51.100.7:4711", server: "192.0.2.1:995", answer: imaptest.NO("mind your business"), want: []string{v4}},
		{name: "bad", profile: imaptest.Full(), client: "198.51.100.7:4711", server: "192.0.2.1:995", answer: imaptest.BAD("what"), want: []string{v4}},
		{name: "nil", profile: imaptest.Full(), client: "198.51.100.7:4711", server: "192.0.2.1:995", answer: imaptest.Raw("* ID NIL\r\n{tag} OK\r\n"), want: []string{v4}},
		{name: "not_offered", profile: imaptest.Minimal(), client: "198.51.100.7:4711"},
		{name: "switched_off", profile: imaptest.Full(), off: true, client: "198.51.100.7:4711"},
		{name: "no_client", profile: imaptest.Full()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			if tt.answer != nil {
				srv.Before("ID", 0, tt.answer)
			}
			c := alice
			if tt.client != "" {
				c.Client = netip.MustParseAddrPort(tt.client)
			}
			if tt.server != "" {
				c.Server = netip.MustParseAddrPort(tt.server)
			}
			if err := login(t, newStore(t, srv, imap.Options{SendClient: !tt.off}), c); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range srv.Journal().Commands("ID", "AUTHENTICATE", "LOGIN") {
				if c.Verb != "ID" {
					break // too late
				}
				got = append(got, c.Line)
			}
			if !slices.Equal(got, tt.want) || len(srv.Journal().Commands("ID")) != len(tt.want) {
				t.Errorf("before login: %q, want %q", got, tt.want)
			}
		})
	}
}

// headed is a connection whose first write is kept and not sent.
type headed struct {
	net.Conn
	header *[]byte
	done   bool
}

func (c *headed) Write(p []byte) (int, error) {
	if !c.done {
		c.done = true
		*c.header = bytes.Clone(p)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func TestTheProxyHeaderComesFirst(t *testing.T) {
	const signature = "0d0a0d0a000d0a515549540a"
	for _, tt := range []struct{ name, client, server, want string }{
		{"ipv4", "198.51.100.7:4711", "192.0.2.1:995", "2111000c" + "c6336407" + "c0000201" + "1267" + "03e3"},
		{"ipv4_in_ipv6", "[::ffff:198.51.100.7]:4711", "192.0.2.1:995", "2111000c" + "c6336407" + "c0000201" + "1267" + "03e3"},
		{"ipv6", "[2001:db8::7]:4711", "[2001:db8::1]:995", "21210024" + "20010db8000000000000000000000007" + "20010db8000000000000000000000001" + "1267" + "03e3"},
		{"both_families", "198.51.100.7:4711", "[2001:db8::1]:995", "21210024" + "00000000000000000000ffffc6336407" + "20010db8000000000000000000000001" + "1267" + "03e3"},
		{"no_server_address", "198.51.100.7:4711", "", "2111000c" + "c6336407" + "00000000" + "1267" + "0000"},
		{"no_client", "", "", "20000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ca := imaptest.NewCA(t)
			srv := imaptest.New(t, imaptest.Full(), imaptest.ImplicitTLS(ca))
			var header []byte
			store := newStore(t, srv, imap.Options{ProxyProtocol: true, Security: imap.ImplicitTLS, TLS: ca.ClientConfig(), Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := srv.Dial(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &headed{Conn: conn, header: &header}, nil
			}})
			c := upstream.Credentials{User: alice.User, Secret: alice.Secret}
			if tt.client != "" {
				c.Client = netip.MustParseAddrPort(tt.client)
			}
			if tt.server != "" {
				c.Server = netip.MustParseAddrPort(tt.server)
			}
			if err := login(t, store, c); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", header); got != signature+tt.want {
				t.Errorf("the connection begins with %s, want %s", got, signature+tt.want)
			}
		})
	}
}
