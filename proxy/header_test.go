package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/proxy"
)

// The listed proxy, its network, and a client that it speaks for.
const (
	theProxy  = "10.1.2.3"
	theClient = "198.51.100.7"
)

func networks(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range list {
		out = append(out, netip.MustParsePrefix(n))
	}
	return out
}

// v2 makes a header of version 2; length is announced, and the addresses follow.
func v2(command, family byte, length int, addresses ...byte) string {
	head := "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family, byte(length >> 8), byte(length)})
	return head + string(addresses)
}

func inet(source string) []byte {
	a := netip.MustParseAddr(source).AsSlice()
	return append(append(append([]byte{}, a...), make([]byte, len(a))...), 0x12, 0x34, 0, 110)
}

const (
	local   = 0x20
	proxied = 0x21
	tcp4    = 0x11
	tcp6    = 0x21
)

// tell answers with the address that it takes for the client's, and then with
// every octet that the client sends.
func tell(ctx context.Context, c net.Conn) {
	io.WriteString(c, c.RemoteAddr().String()+"\n")
	echo(ctx, c)
}

// behind serves tell behind the listed proxy.
func behind(t *testing.T, ev *events, o proxy.Options, more func(*proxy.Listener)) *fakeListener {
	l := newFakeListener()
	listener := proxy.Listener{Name: "x", Listen: l.listen, Proxies: networks("10.0.0.0/8", "2001:db8:1::/48"), Handler: tell, Busy: []byte("busy\n")}
	if more != nil {
		more(&listener)
	}
	o.Trace = ev.trace()
	start(t, o, listener)
	return l
}

// send writes from a goroutine of its own: the far end may not take it all.
func send(c net.Conn, pieces ...string) {
	go func() {
		for _, p := range pieces {
			if _, err := io.WriteString(c, p); err != nil {
				return
			}
		}
	}()
}

func TestTheHeaderTellsTheClient(t *testing.T) {
	const line = "PROXY TCP4 198.51.100.7 192.0.2.1 4660 110\r\n"
	for _, tt := range []struct {
		name, from string
		pieces     []string
		want       string // what the handler takes for the client
	}{
		{"v1", theProxy, []string{line}, theClient + ":4660"},
		{"v1_IPv6", theProxy, []string{"PROXY TCP6 2001:db8::7 2001:db8::1 4660 110\r\n"}, "[2001:db8::7]:4660"},
		{"v1_octet_by_octet", theProxy, strings.Split(line, ""), theClient + ":4660"},
		{"v1_with_what_follows", theProxy, []string{line + "more"}, theClient + ":4660"},
		{"v2", theProxy, []string{v2(proxied, tcp4, 12, inet(theClient)...)}, theClient + ":4660"},
		{"v2_IPv6", theProxy, []string{v2(proxied, tcp6, 36, inet("2001:db8::7")...)}, "[2001:db8::7]:4660"},
		{"v2_octet_by_octet", theProxy, strings.Split(v2(proxied, tcp4, 12, inet(theClient)...), ""), theClient + ":4660"},
		{"v2_with_more_than_addresses", theProxy, []string{v2(proxied, tcp4, 15, append(inet(theClient), 4, 0, 0)...) + "more"}, theClient + ":4660"},
		{"v2_of_the_greatest_length", theProxy, []string{v2(proxied, tcp4, 4096, append(inet(theClient), make([]byte, 4084)...)...)}, theClient + ":4660"},
		{"a_proxy_of_IPv6", "2001:db8:1::5", []string{line}, theClient + ":4660"},
		{"a_proxy_of_IPv4_in_IPv6", "::ffff:10.1.2.3", []string{line}, theClient + ":4660"},
		{"a_health_check_has_the_address_of_the_proxy", theProxy, []string{v2(local, 0, 0)}, theProxy + ":4711"},
		{"a_health_check_is_not_whom_it_names", theProxy, []string{v2(local, tcp4, 12, inet("127.0.0.1")...)}, theProxy + ":4711"},
		{"a_client_that_the_proxy_cannot_name_v1", theProxy, []string{"PROXY UNKNOWN\r\n"}, "0.0.0.0:0"},
		{"UNKNOWN_is_not_whom_it_names", theProxy, []string{"PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 1\r\n"}, "0.0.0.0:0"},
		{"a_client_that_the_proxy_cannot_name_v2", theProxy, []string{v2(proxied, 0x31, 216, make([]byte, 216)...)}, "0.0.0.0:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ev events
			c := behind(t, &ev, proxy.Options{}, nil).dial(tt.from)
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			send(c, append(tt.pieces, "there\n")...)
			follows := "there\n"
			if strings.HasSuffix(tt.pieces[0], "more") {
				follows = "more" + follows
			}
			wantRead(t, c, tt.want+"\nhi\n"+follows)
		})
	}
}

func TestNoHeaderNoConnection(t *testing.T) {
	const line = "PROXY TCP4 198.51.100.7 192.0.2.1 4660 110\r\n"
	for _, tt := range []struct{ name, from, sent, event string }{
		{"none", theProxy, "CAPA\r\n", "rejected header"},
		{"TLS_without_one", theProxy, "\x16\x03\x01\x00\x05hello", "rejected header"},
		{"v1_another_word", theProxy, "PROXYS TCP4 198.51.100.7 192.0.2.1 1 1\r\n", "rejected header"},
		{"v1_too_long", theProxy, "PROXY UNKNOWN " + strings.Repeat("x", 93) + "\r\n", "rejected header"},
		{"v1_bare_LF", theProxy, "PROXY TCP4 198.51.100.7 192.0.2.1 1 1\n", "rejected header"},
		{"v1_no_address", theProxy, "PROXY TCP4 198.51.100.7 192.0.2.1\r\n", "rejected header"},
		{"v1_a_name_for_an_address", theProxy, "PROXY TCP4 localhost 192.0.2.1 1 1\r\n", "rejected header"},
		{"v1_another_family", theProxy, "PROXY TCP4 2001:db8::7 2001:db8::1 1 1\r\n", "rejected header"},
		{"v1_port_out_of_range", theProxy, "PROXY TCP4 198.51.100.7 192.0.2.1 65536 1\r\n", "rejected header"},
		{"v2_version_3", theProxy, v2(0x31, tcp4, 12, inet(theClient)...), "rejected header"},
		{"v2_no_such_command", theProxy, v2(0x22, tcp4, 12, inet(theClient)...), "rejected header"},
		{"v2_no_such_family", theProxy, v2(proxied, 0x41, 12, inet(theClient)...), "rejected header"},
		{"v2_PROXY_without_a_family", theProxy, v2(proxied, 0, 0), "rejected header"},
		{"v2_datagrams", theProxy, v2(proxied, 0x12, 12, inet(theClient)...), "rejected header"},
		{"v2_too_short_for_addresses", theProxy, v2(proxied, tcp4, 11, inet(theClient)...), "rejected header"},
		{"v2_longer_than_allowed", theProxy, v2(proxied, tcp4, 4097, inet(theClient)...), "rejected header"},
		{"v2_LOCAL_longer_than_allowed", theProxy, v2(local, 0, 0xffff), "rejected header"},
		{"a_stranger_without_one", theClient, "", "rejected network"},
		{"a_stranger_with_v1", theClient, line, "rejected network"},
		{"a_stranger_with_v2", theClient, v2(proxied, tcp4, 12, inet(theClient)...), "rejected network"},
		{"a_stranger_with_LOCAL", theClient, v2(local, 0, 0), "rejected network"},
		{"loopback_is_a_stranger_too", "127.0.0.1", line, "rejected network"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ev events
				c := behind(t, &ev, proxy.Options{}, nil).dial(tt.from)
				send(c, tt.sent)
				began := time.Now()
				wantAll(t, c, "") // no octet to anybody
				if took := time.Since(began); took != 0 {
					t.Errorf("closed after %v, want at once", took)
				}
				synctest.Wait()
				if ev.get(tt.event) != 1 || ev.get("open") != 0 {
					t.Errorf("traced: %v, want %s", ev.counts, tt.event)
				}
			})
		})
	}
}

func TestAHeaderHasADeadline(t *testing.T) {
	header := v2(proxied, tcp4, 12, inet(theClient)...)
	for _, tt := range []struct {
		name string
		send func(c net.Conn)
	}{
		{"silence", func(net.Conn) {}},
		{"half_of_v1", func(c net.Conn) { send(c, "PROXY TCP4 198.51") }},
		{"half_of_v2", func(c net.Conn) { send(c, header[:20]) }},
		{"an_octet_a_second", func(c net.Conn) {
			go func() {
				for _, b := range []byte(header) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ev events
				c := behind(t, &ev, proxy.Options{}, nil).dial(theProxy)
				began := time.Now()
				tt.send(c)
				wantAll(t, c, "")
				if took := time.Since(began); took != 5*time.Second {
					t.Errorf("closed after %v, want 5s", took)
				}
				synctest.Wait()
				if ev.get("rejected header") != 1 || ev.get("open") != 0 {
					t.Errorf("traced: %v", ev.counts)
				}
				time.Sleep(time.Minute) // for what still writes
			})
		})
	}
}

// What the far end of a proxy is bound to says nothing of the way to here.
func TestTheLocalAddressIsThatOfTheSocket(t *testing.T) {
	var ev events
	locals := make(chan net.Addr, 1)
	c := behind(t, &ev, proxy.Options{}, func(l *proxy.Listener) {
		l.Handler = func(_ context.Context, c net.Conn) { locals <- c.LocalAddr() }
	}).dial(theProxy)
	defer c.Close()
	send(c, "PROXY TCP4 127.0.0.1 127.0.0.1 4660 110\r\n")
	if got, want := (<-locals).String(), c.LocalAddr().String(); got != want {
		t.Errorf("LocalAddr() = %v, want %v", got, want)
	}
}

// The deadline of the header does not go on behind it.
func TestADeadlineOfTheHeaderEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		c := behind(t, &ev, proxy.Options{}, nil).dial(theProxy)
		defer c.Close()
		send(c, v2(proxied, tcp4, 12, inet(theClient)...))
		wantRead(t, c, theClient+":4660\nhi\n")
		time.Sleep(time.Minute)
		send(c, "there\n")
		wantRead(t, c, "there\n")
	})
}

func TestTheHeaderComesBeforeTLS(t *testing.T) {
	cert, pool := certificate(t)
	var ev events
	l := behind(t, &ev, proxy.Options{}, func(l *proxy.Listener) { l.TLS = &tls.Config{Certificates: []tls.Certificate{cert}} })
	c := l.dial(theProxy)
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	var hello bytes.Buffer // the header and the first octets of the client together
	hello.WriteString(v2(proxied, tcp4, 12, inet(theClient)...))
	secure := tls.Client(&joined{Conn: c, before: &hello}, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
	wantRead(t, secure, theClient+":4660\nhi\n")
}

// joined sends what is in before together with what is written first.
type joined struct {
	net.Conn
	before *bytes.Buffer
}

func (c *joined) Write(p []byte) (int, error) {
	c.before.Write(p)
	_, err := c.Conn.Write(c.before.Bytes())
	c.before.Reset()
	return len(p), err
}

// The limits for addresses are the client's, and no matter of the proxy's.
func TestLimitsAreOfTheClientBehindTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		l := behind(t, &ev, proxy.Options{MaxPerAddress: 1}, nil)
		first, other, again := l.dial(theProxy), l.dial(theProxy), l.dial(theProxy)
		send(first, v2(proxied, tcp4, 12, inet(theClient)...))
		wantRead(t, first, theClient+":4660\nhi\n")
		send(other, v2(proxied, tcp4, 12, inet("198.51.100.8")...))
		wantRead(t, other, "198.51.100.8:4660\nhi\n")
		send(again, v2(proxied, tcp4, 12, inet(theClient)...))
		wantAll(t, again, "busy\n")
		if n := ev.get("rejected address"); n != 1 {
			t.Errorf("traced: %v", ev.counts)
		}
		first.Close() // and the place is free again
		synctest.Wait()
		again = l.dial(theProxy)
		send(again, v2(proxied, tcp4, 12, inet(theClient)...))
		wantRead(t, again, theClient+":4660\nhi\n")
		again.Close()
		other.Close()
		synctest.Wait()
		if n := ev.get("open"); n != 0 {
			t.Errorf("%d are open in the end", n)
		}
	})
}

// A connection counts from the moment it is accepted, header or not.
func TestConnectionsWithoutTheirHeaderYetCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		l := behind(t, &ev, proxy.Options{MaxConns: 2}, nil)
		one, two := l.dial(theProxy), l.dial(theProxy)
		defer one.Close()
		defer two.Close()
		wantAll(t, l.dial(theProxy), "busy\n")
		if n := ev.get("rejected connections"); n != 1 {
			t.Errorf("traced: %v", ev.counts)
		}
	})
}

func TestShutdownWaitsForHeadersNoLongerThanTheyMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeListener()
		s, err := proxy.New(proxy.Options{}, proxy.Listener{Name: "x", Listen: l.listen, Proxies: networks("10.0.0.0/8"), Handler: tell})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		go s.Serve(t.Context())
		c := l.dial(theProxy)
		synctest.Wait()
		began := time.Now()
		if err := s.Shutdown(t.Context()); err != nil || time.Since(began) != 5*time.Second {
			t.Errorf("Shutdown: %v after %v, want 5s", err, time.Since(began))
		}
		wantAll(t, c, "")
	})
}

func TestOnlyListedClients(t *testing.T) {
	for _, tt := range []struct {
		name, from, source string // no source: no proxy
		served             bool
	}{
		{"listed", "192.168.7.9", "", true},
		{"not_listed", "192.168.8.9", "", false},
		{"loopback_is_not_listed", "127.0.0.1", "", false},
		{"listed_behind_a_proxy", theProxy, "192.168.7.9", true},
		{"not_listed_behind_a_proxy", theProxy, theClient, false},
		{"the_proxy_is_listed_for_itself_alone", "192.168.7.9", "192.168.7.9", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ev events
				c := behind(t, &ev, proxy.Options{}, func(l *proxy.Listener) {
					l.Clients = networks("192.168.7.0/24")
					if tt.source == "" {
						l.Proxies = nil
					}
				}).dial(tt.from)
				defer c.Close()
				if tt.source != "" {
					send(c, v2(proxied, tcp4, 12, inet(tt.source)...))
				}
				if tt.served {
					wantRead(t, c, "192.168.7.9:")
					return
				}
				wantAll(t, c, "")
				synctest.Wait()
				if ev.get("rejected network") != 1 || ev.get("open") != 0 {
					t.Errorf("traced: %v", ev.counts)
				}
			})
		})
	}
}
