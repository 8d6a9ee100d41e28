package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	rsaCertFile = "../internal/config/testdata/tls/rsa-cert.pem"
	rsaKeyFile  = "../internal/config/testdata/tls/rsa-key.pem"
)

// absolute is a file's name for a configuration in another folder.
func absolute(t *testing.T, file string) string {
	t.Helper()
	name, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// frontConfig is a configuration with these listeners, and a certificate.
func frontConfig(t *testing.T, listeners, upstream string) string {
	return writeConfig(t, fmt.Sprintf("listen:\n%s\ntls: {cert: %s, key: %s}\nupstream: {url: imap://%s}\nmetrics: 127.0.0.1:0\n",
		listeners, absolute(t, certFile), absolute(t, keyFile), upstream))
}

func dialRaw(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// proxied connects as a proxy does.
func proxied(t *testing.T, address, header string) net.Conn {
	t.Helper()
	c := dialRaw(t, address)
	if _, err := io.WriteString(c, header); err != nil {
		t.Fatal(err)
	}
	return c
}

// The proxy is on loopback throughout: that makes nobody behind it trusted.
func TestServeBehindAProxy(t *testing.T) {
	s := serve(t, "--config", frontConfig(t, `
  - {url: "pop3://127.0.0.1:0", proxy-protocol: {from: 127.0.0.1}}
  - {url: "pop3s://127.0.0.1:0", proxy-protocol: {from: 127.0.0.1}}
  - {url: "pop3://127.0.0.1:0", proxy-protocol: {from: 10.0.0.0/8}}`, imapServer(t, 1)))

	const v2 = "\r\n\r\n\x00\r\nQUIT\n"
	for _, tt := range []struct {
		name, header string
		peer         string // in the log
		clear        string // reply to USER without TLS
	}{
		{"v1", "PROXY TCP4 198.51.100.7 192.0.2.1 4660 110\r\n", "198.51.100.7", "-ERR"},
		{"v2", v2 + "\x21\x11\x00\x0c\xc6\x33\x64\x08\xc0\x00\x02\x01\x12\x34\x00\x6e", "198.51.100.8", "-ERR"},
		{"a_client_without_an_address", "PROXY UNKNOWN\r\n", "0.0.0.0", "-ERR"},
		{"a_client_on_loopback", "PROXY TCP4 127.0.0.9 127.0.0.1 4660 110\r\n", "127.0.0.9", "+OK"},
		{"a_health_check", v2 + "\x20\x00\x00\x00", "127.0.0.1", "+OK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := greeted(t, proxied(t, s.pop3[0], tt.header))
			c.do("USER alice", tt.clear)
			c.stls()
			c.do("USER alice", "+OK")
			c.do("PASS wrong", "-ERR [AUTH]")
			c.login()
			c.do("QUIT", "+OK")
			c.ended()

			secure := tls.Client(proxied(t, s.pop3[1], tt.header), clientTLSConfig(t))
			c = greeted(t, secure)
			c.login()
			c.do("QUIT", "+OK")
			c.ended()
			if want := `"peer":"` + tt.peer + `"`; !strings.Contains(s.log.String(), want) {
				t.Errorf("the log lacks %s", want)
			}
		})
	}

	if got, _ := io.ReadAll(proxied(t, s.pop3[0], "USER alice\r\nPASS x\r\n")); len(got) > 0 {
		t.Errorf("without a header: %q", got)
	}
	if got, _ := io.ReadAll(proxied(t, s.pop3[2], "PROXY TCP4 10.1.2.3 192.0.2.1 4660 110\r\n")); len(got) > 0 {
		t.Errorf("a forged header from an address that is not listed: %q", got)
	}
	s.wantMetrics(t, `popgate_rejected_total{reason="header"} 1`, `popgate_rejected_total{reason="network"} 1`)
}

// oldTLS is a client that knows no TLS but these versions, and trusts anybody:
// it is the version that is tested.
func oldTLS(min, max uint16, suites ...uint16) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: min, MaxVersion: max, CipherSuites: suites}
}

func TestServeOldDevices(t *testing.T) {
	s := serve(t, "--config", frontConfig(t, fmt.Sprintf(`
  - {url: "pop3s://127.0.0.1:0", legacy: {from: 127.0.0.0/8, cert: %[1]s, key: %[2]s}}
  - {url: "pop3://127.0.0.1:0", legacy: {from: 127.0.0.0/8, cert: %[1]s, key: %[2]s}}
  - {url: "pop3s://127.0.0.1:0", legacy: {from: 192.168.7.0/24, cert: %[1]s, key: %[2]s}}
  - pop3s://127.0.0.1:0
  - pop3://127.0.0.1:0`, absolute(t, rsaCertFile), absolute(t, rsaKeyFile)), imapServer(t, 1)))

	for _, tt := range []struct {
		name   string
		config *tls.Config
		served bool
	}{
		{"TLS_1.0", oldTLS(tls.VersionTLS10, tls.VersionTLS10), true},
		{"TLS_1.0_key_exchange_by_RSA", oldTLS(tls.VersionTLS10, tls.VersionTLS10, tls.TLS_RSA_WITH_AES_128_CBC_SHA), true},
		{"TLS_1.0_3DES", oldTLS(tls.VersionTLS10, tls.VersionTLS10, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA), true},
		{"TLS_1.1", oldTLS(tls.VersionTLS11, tls.VersionTLS11), true},
		{"TLS_1.2_key_exchange_by_RSA", oldTLS(tls.VersionTLS12, tls.VersionTLS12, tls.TLS_RSA_WITH_AES_256_CBC_SHA), true},
		{"TLS_1.3", oldTLS(tls.VersionTLS10, tls.VersionTLS13), true},
		{"RC4", oldTLS(tls.VersionTLS10, tls.VersionTLS12, tls.TLS_RSA_WITH_RC4_128_SHA), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := tls.Client(dialRaw(t, s.pop3[0]), tt.config)
			if err := conn.Handshake(); (err == nil) != tt.served {
				t.Fatalf("pop3s: %v, want served: %v", err, tt.served)
			}
			if tt.served {
				c := greeted(t, conn)
				c.login()
				c.do("QUIT", "+OK")
			}
			c := connect(t, s.pop3[1])
			c.do("STLS", "+OK")
			conn = tls.Client(c.conn, tt.config)
			if err := conn.Handshake(); (err == nil) != tt.served {
				t.Fatalf("STLS: %v, want served: %v", err, tt.served)
			}
		})
	}
	t.Run("from_a_network_that_is_not_listed", func(t *testing.T) {
		if err := tls.Client(dialRaw(t, s.pop3[2]), oldTLS(tls.VersionTLS10, tls.VersionTLS13)).Handshake(); err == nil {
			t.Error("the handshake succeeded")
		}
		s.wantMetrics(t, `popgate_rejected_total{reason="network"} 1`)
	})
	t.Run("everything_else_stays_as_it_is", func(t *testing.T) {
		c := connect(t, s.pop3[4])
		c.do("STLS", "+OK")
		for name, raw := range map[string]net.Conn{"pop3s": dialRaw(t, s.pop3[3]), "STLS": c.conn} {
			if err := tls.Client(raw, oldTLS(tls.VersionTLS10, tls.VersionTLS11)).Handshake(); err == nil {
				t.Errorf("%s: TLS 1.1 is spoken", name)
			}
		}
		if err := tls.Client(dialRaw(t, s.pop3[3]), oldTLS(tls.VersionTLS12, tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_CBC_SHA)).Handshake(); err == nil {
			t.Error("pop3s: keys are exchanged by RSA")
		}
	})
	t.Run("each_has_its_own_certificate", func(t *testing.T) {
		old := tls.Client(dialRaw(t, s.pop3[0]), oldTLS(tls.VersionTLS10, tls.VersionTLS13))
		usual := tls.Client(dialRaw(t, s.pop3[3]), oldTLS(tls.VersionTLS12, tls.VersionTLS13))
		for _, c := range []*tls.Conn{old, usual} {
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
		}
		if bytes.Equal(old.ConnectionState().PeerCertificates[0].Raw, usual.ConnectionState().PeerCertificates[0].Raw) {
			t.Error("one certificate for both")
		}
	})
}

// A listener for old devices changes nothing upstream: no password goes to a
// server under old TLS.
func TestServeOldDevicesButNoOldUpstream(t *testing.T) {
	pair, err := tls.LoadX509KeyPair(rsaCertFile, rsaKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			ended <- err
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		ended <- tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
	}()
	defer ln.Close()
	s := serve(t, "--config", writeConfig(t, fmt.Sprintf(
		"listen: {url: \"pop3s://127.0.0.1:0\", legacy: {from: 127.0.0.0/8, cert: %[1]s, key: %[2]s}}\nupstream: {url: \"imaps://%[3]s\", ca: %[1]s}\n",
		absolute(t, rsaCertFile), absolute(t, rsaKeyFile), ln.Addr())))
	c := greeted(t, tls.Client(dialRaw(t, s.pop3[0]), oldTLS(tls.VersionTLS10, tls.VersionTLS10)))
	c.do("USER alice", "+OK")
	c.do("PASS "+canary, "-ERR [SYS/TEMP]")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "unsupported versions") {
		t.Errorf("the upstream under TLS 1.1: %v, want a refusal of the version", err)
	}
}

func TestCheckTellsWhoMayCome(t *testing.T) {
	file := frontConfig(t, fmt.Sprintf(`
  - {url: "pop3s://192.0.2.1", proxy-protocol: {from: [10.0.0.0/8, 192.0.2.9]}}
  - {url: "pop3://192.0.2.1", legacy: {from: 192.168.7.0/24, cert: %s, key: %s}}`, absolute(t, rsaCertFile), absolute(t, rsaKeyFile)), "127.0.0.1")
	code, stdout, stderr := invoke(t, "check", "--config", file)
	for _, want := range []string{"TLS from the first octet, PROXY protocol from 10.0.0.0/8 192.0.2.9/32\n", "clear text and STLS, TLS 1.0 and up for 192.168.7.0/24\n"} {
		if code != 0 || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("popgate check: %d, %s%s\nwant %q", code, stdout, stderr, want)
		}
	}
}
