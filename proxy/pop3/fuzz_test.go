package pop3_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream"
)

// FuzzFaultySession plays each input in each state of the protocol while the
// mail service fails in some way, and listens at a port with TLS or without. No
// panic, a session that ends, and nothing removed but by a QUIT that was there.
func FuzzFaultySession(f *testing.F) {
	for i := range 4 * byte(len(sessionFaults)) {
		fault := i%16 + i/16*64 // each fault in each of the four places below
		f.Add([]byte("RETR 1\r\nDELE 1\r\nDELE 2\r\nTOP 3 1\r\nSTAT\r\nRETR 9\r\nRSET\r\nDELE 1\r\nQUIT\r\n"), fault, byte(90))
		f.Add([]byte("STLS\r\nAUTH PLAIN AGFsaWNlAHdyb25n\r\nAUTH LOGIN\r\nYWxpY2U=\r\ncHc=\r\nUSER alice\r\nPASS wrong\r\n"), fault, byte(3))
		f.Add([]byte("AUTH PLAIN AGEJYgBw\r\nAUTH PLAIN AABwdw==\r\nAUTH PLAIN eABhAGI=\r\nAUTH PLAIN AGFsaWNlAA==\r\nAUTH X\r\n"), fault, byte(70))
		f.Add([]byte("CAPA\r\nAUTH\r\nLIST\r\nUIDL\r\nLIST 1\r\nUIDL 3\r\nLAST\r\nNOOP\r\nDELE 3\r\nLIST 3\r\nDELE 3\r\nUIDL 9\r\nQUIT\r\n"), fault, byte(30))
		f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), fault, byte(100))
		f.Add([]byte("AUTH LOGIN\r\n*\r\nAUTH PLAIN\r\n!\r\nPASS x\r\nUSER\r\nPASS\r\nAUTH PLAIN AA\r\n"), fault, byte(255))
		f.Add([]byte(strings.Repeat("BAD\r\n", 11)), fault, byte(200))
		f.Add([]byte("STLS\r\n\x16\x03\x01\x00\x05hello"), fault, byte(0))
		f.Add(bytes.Repeat([]byte("x"), 600), fault, byte(255))
		f.Add([]byte("APOP alice 0123456789abcdef0123456789abcdef\r\nAPOP alice x\r\nAPOP nobody 0123456789abcdef0123456789abcdef\r\nCAPA\r\n"), fault, byte(61))
		f.Add([]byte("AUTH CRAM-MD5\r\nYWxpY2UgMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\r\nAUTH CRAM-MD5\r\neA==\r\nAUTH EXTERNAL =\r\n"), fault, byte(91))
		f.Add([]byte("AUTH SCRAM-SHA-256 biwsbj1hbGljZSxyPWFiY2RlZmdo\r\nYz1iaXdzLHI9YWJjZGVmZ2gscD1BQUFB\r\nAUTH SCRAM-SHA-256\r\nbiwsbj1i\r\n*\r\n"), fault, byte(101))
		f.Add([]byte("AUTH XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciB0b2sBAQ==\r\n\r\nAUTH OAUTHBEARER\r\nbixhPWFsaWNlLAFob3N0PWgBcG9ydD0xAWF1dGg9QmVhcmVyIHRvawEB\r\nAQ==\r\n"), fault, byte(81))
		f.Add([]byte("AUTH XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciBwdwEB\r\nRETR 1\r\nTOP 2 0\r\nDELE x\r\nNOSUCH\r\nQUIT\r\n"), fault, byte(71))
		f.Add([]byte("AUTH OAUTHBEARER bixhPWFsaWNlLAFhdXRoPUJlYXJlciBwdwEB\r\nUIDL\r\nQUIT\r\n"), fault, byte(51))
		f.Add([]byte("AUTH PLAIN Ym9iAGFsaWNlAHB3\r\nAUTH XOAUTH2 !\r\nAUTH OAUTHBEARER eA==\r\n\r\n"), fault, byte(111))
	}
	certificate, _ := certificate(f)
	f.Fuzz(func(t *testing.T, in []byte, fault, step byte) {
		for _, before := range []string{"", "USER alice\r\n", "USER alice\r\nPASS pw\r\n", "USER alice\r\nPASS pw\r\nDELE 2\r\n"} {
			l := newLab("alice", "pw", threeMessages()...)
			l.store.SetFaults(faults(t, sessionFaults[int(fault)%len(sessionFaults)]))
			s := l.server(t, func(o *pop3.Options) {
				o.Logger = slog.New(slog.DiscardHandler)
				if fault >= 64 {
					o.TLS = certificate
				}
				if step%2 == 1 { // all that a listener may be let do
					o.Shared, o.Bearer, o.AuthorizationIdentity = secrets{"alice": "tanstaaf"}, true, true
					o.Watch = func(user string, _ netip.Addr) bool { return user == "alice" }
				}
			})
			conn := &stream{in: []byte(before + string(in)), step: int(step) + 1}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if fault >= 128 { // the server goes down, or the client is lost, in the middle
				writes := 0
				conn.onWrite = func([]byte) error {
					if writes++; writes < int(fault)%16 {
						return nil
					}
					if fault < 192 {
						cancel()
						return nil
					}
					return errors.New("lost")
				}
			}
			if step >= 224 {
				s.Serve(ctx, farStream{conn}, pop3.Via{})
			} else {
				s.Serve(ctx, conn, pop3.Via{})
			}
			l.check(t)
			quit := strings.Contains(strings.ToUpper(before+string(in)), "QUIT")
			if left := len(ids(l.store, "alice")); left != 3 && (!quit || l.ends[0] != pop3.EndQuit) {
				t.Fatalf("%q: %d messages are left, ended by %q", before+string(in), left, l.ends[0])
			}
		}
	})
}

// farStream is a stream from another machine.
type farStream struct{ *stream }

func (farStream) RemoteAddr() net.Addr { return remote4 }

// sessionFaults are words of scripts.
var sessionFaults = [][]string{
	{"up"}, {"down"}, {"down", "busy"}, {"login", "refused"}, {"login", "early"}, {"open", "too-big"}, {"open", "internal"}, {"retrieve", "gone"},
	{"retrieve", "changed"}, {"update"}, {"update", "internal"}, {"keep", "a1"}, {"body", "0"}, {"body", "7"}, {"body", "100"}, {"unannounced"},
}

// loginRecorder is a store that refuses everybody and keeps what it was told.
type loginRecorder struct{ got []string }

func (r *loginRecorder) Login(_ context.Context, c upstream.Credentials) (upstream.Account, error) {
	r.got = append(r.got, c.User+"\x00"+c.Secret.Reveal())
	return nil, &upstream.Error{Kind: upstream.Refused, Op: "login"}
}

// FuzzBearer: the token that XOAUTH2 and OAUTHBEARER hand to the store is one of
// visible characters that stands behind its scheme in the message, and the user one
// whom the message names.
func FuzzBearer(f *testing.F) {
	for _, m := range []string{"user=alice\x01auth=Bearer pw\x01\x01", "n,a=alice,\x01host=h\x01port=1\x01auth=bearer pw\x01\x01", "y,a=a=2Cb=3Dc,\x01auth=BEARER x.y-z\x01\x01",
		"user=a\x01auth=Bearer a\x01auth=Bearer b\x01\x01", "n,,\x01auth=Bearer pw\x01\x01", "user=\x01auth=Bearer \x01\x01", "n,a==2,\x01auth=Bearer x\x01\x01", "user=a\x01\x01", ""} {
		f.Add(m, true)
		f.Add(m, false)
	}
	f.Fuzz(func(t *testing.T, message string, older bool) {
		mechanism := "OAUTHBEARER"
		if older {
			mechanism = "XOAUTH2"
		}
		r := &loginRecorder{}
		s, err := pop3.NewServer(pop3.Options{Store: r, Bearer: true})
		if err != nil {
			t.Fatal(err)
		}
		conn := &stream{in: []byte("AUTH " + mechanism + "\r\n" + base64.StdEncoding.EncodeToString([]byte(message)) + "\r\n\r\nQUIT\r\n"), step: 100}
		s.Serve(t.Context(), conn, pop3.Via{})
		if len(r.got) > 1 {
			t.Fatalf("%q asked the store %d times", message, len(r.got))
		}
		for _, got := range r.got {
			user, token, _ := strings.Cut(got, "\x00")
			quoted := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
			named := older && strings.HasPrefix(message, "user="+user+"\x01") || !older && strings.Contains(message, ",a="+quoted+",\x01")
			if !named || user == "" || token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) ||
				!strings.Contains(strings.ToLower(message), "\x01auth=bearer "+strings.ToLower(token)+"\x01") {
				t.Fatalf("%q handed over user %q and token %q", message, user, token)
			}
		}
	})
}

// FuzzDigest: no message of CRAM-MD5 or SCRAM-SHA-256 that was made without the secret
// hands one to the store, and none makes a fault.
func FuzzDigest(f *testing.F) {
	for _, m := range []string{"alice 00000000000000000000000000000000", "alice ", "alice", " ", "n,,n=alice,r=x\nc=biws,r=x,p=AAAA", "y,a=bob,n=alice,r=x\nc=,r=,p=",
		"n,,n=al=2Cice,r=\n", "p=tls-exporter,,n=alice,r=x\nx", "n,,m=x,n=alice,r=x\n"} {
		f.Add(m, true)
		f.Add(m, false)
	}
	f.Fuzz(func(t *testing.T, messages string, cram bool) {
		in := "AUTH SCRAM-SHA-256\r\n"
		if cram {
			in = "AUTH CRAM-MD5\r\n"
		}
		for m := range strings.SplitSeq(messages, "\n") {
			in += base64.StdEncoding.EncodeToString([]byte(m)) + "\r\n"
		}
		r := &loginRecorder{}
		s, err := pop3.NewServer(pop3.Options{Store: r, Shared: secrets{"alice": "tanstaaf", "": ""}})
		if err != nil {
			t.Fatal(err)
		}
		s.Serve(t.Context(), &stream{in: []byte(in + "QUIT\r\n"), step: 100}, pop3.Via{})
		for _, got := range r.got {
			if user, secret, _ := strings.Cut(got, "\x00"); secret != "" || user == "" {
				t.Fatalf("%q handed over %q", messages, got)
			}
		}
	})
}

// FuzzAuth: what AUTH PLAIN and AUTH LOGIN hand to the store is what the client
// encoded, whole and in its place, or they hand over nothing.
func FuzzAuth(f *testing.F) {
	for _, s := range [][3]string{{"", "alice", "pw"}, {"alice", "alice", "pw"}, {"bob", "alice", "pw"}, {"", "a\x00b", "c"}, {"", "a", "b\x00"}, {"", "", "x"},
		{"", "x", ""}, {"", "a\r\nb", "c"}, {"", "a", "b\nc"}, {"", "\x7f", "y"}, {"", "é", "\xff"}, {"", "a", strings.Repeat("p", 13_000)}} {
		for how := range byte(4) {
			f.Add(s[0], s[1], s[2], how)
		}
	}
	f.Fuzz(func(t *testing.T, identity, user, secret string, how byte) {
		b64 := base64.StdEncoding.EncodeToString
		plain := b64([]byte(identity + "\x00" + user + "\x00" + secret))
		want := user + "\x00" + secret
		legal := user != "" && secret != "" && !strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f }) && !strings.ContainsAny(secret, "\x00\r\n")
		var in string
		switch how % 4 {
		case 0:
			in = "AUTH PLAIN " + plain
			legal = legal && (identity == "" || identity == user)
		case 1:
			in = "AUTH plain\r\n" + plain
			legal = legal && (identity == "" || identity == user)
		case 2:
			in = "AUTH LOGIN\r\n" + b64([]byte(user)) + "\r\n" + b64([]byte(secret))
		case 3:
			in = "AUTH LOGIN " + b64([]byte(user)) + "\r\n" + b64([]byte(secret))
			if user == "" {
				t.Skip() // no initial response at all
			}
		}
		for line := range strings.SplitSeq(in, "\r\n") {
			legal = legal && len(line) <= 16<<10-2
		}
		r := &loginRecorder{}
		s, err := pop3.NewServer(pop3.Options{Store: r})
		if err != nil {
			t.Fatal(err)
		}
		conn := &stream{in: []byte(in + "\r\nQUIT\r\n"), step: 1 + int(how)}
		s.Serve(t.Context(), conn, pop3.Via{})
		if legal && fmt.Sprintf("%q", r.got) != fmt.Sprintf("%q", []string{want}) || !legal && len(r.got) > 0 {
			t.Fatalf("%q handed over %q, want %q (legal: %v)\n%q", in, r.got, want, legal, conn.out.String())
		}
	})
}
