package realtest

import (
	"bufio"
	"context"
	cryptotls "crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

const authKey = "a key of the service"

// An authService speaks nginx's auth_http. It knows Dovecot's users, and some that
// are special.
type authService struct {
	url  string
	pop3 string // host:port that it sends nginx to

	mu   sync.Mutex
	last http.Header // of the last question
}

func newAuthService(t *testing.T, pop3 string) *authService {
	t.Helper()
	s := &authService{pop3: pop3}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL + "/auth"
	return s
}

// The special users: one who is somebody else, one for whom it is too early, and
// one whose question is answered without the protocol.
const (
	otherUser  = "alias with blanks@example.test"
	earlyUser  = "early@example.test"
	brokenUser = "broken@example.test"
)

func (s *authService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.last = r.Header.Clone()
	s.mu.Unlock()
	name, _ := url.PathUnescape(r.Header.Get("Auth-User"))
	given, _ := url.PathUnescape(r.Header.Get("Auth-Pass"))
	host, port, _ := net.SplitHostPort(s.pop3)
	h := w.Header()
	okay := func() {
		h.Set("Auth-Status", "OK")
		h.Set("Auth-Server", host)
		h.Set("Auth-Port", port)
	}
	switch {
	case r.Header.Get("X-Auth-Key") != authKey, name == brokenUser:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case name == earlyUser:
		h.Set("Auth-Status", "[SYS/TEMP] try later")
		h.Set("Auth-Wait", "1")
		return
	case name == otherUser:
		user, pass := lab.User(1)
		okay()
		h.Set("Auth-User", user)
		h.Set("Auth-Pass", pass)
		return
	}
	for n := range lab.Users {
		if user, pass := lab.User(n + 1); user == name && pass == given {
			okay()
			return
		}
	}
	h.Set("Auth-Status", "Invalid login or password")
	h.Set("Auth-Wait", "1")
}

// question is what the service was asked last, without what HTTP brings along and
// without what popgate tells in addition.
func (s *authService) question() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for name := range s.last {
		if strings.HasPrefix(name, "Auth-") || name == "Client-Ip" || name == "X-Auth-Key" {
			out[name] = s.last.Get(name)
		}
	}
	return out
}

// One auth_http service answers nginx, which is Dovecot's POP3 in the end, and
// popgate, which is Dovecot's IMAP: it is asked the same, and its answers mean the
// same.
func TestAuthHTTP(t *testing.T) {
	b := newBench(t, "nginx beside the gateway, with one auth_http service")
	if b.front != "" {
		t.Skip("these are rules of the gateway, which is not the front end here")
	}
	report.guard(t, "dovecot", "", "")
	s := b.start(t, "dovecot")
	if s.POP3 == "" {
		t.Skip("Dovecot has no POP3 service of its own here, to which nginx could go")
	}
	service := newAuthService(t, s.POP3)
	proxy, err := b.Nginx(context.Background(), "nginx", service.url, fmt.Sprintf("%q", authKey)) // ends with the cleanup
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Stop(); err != nil {
			t.Errorf("nginx: %v", err)
		}
	})
	report.version("nginx", proxy.Version)
	f := &front{pop3: freePort(t)}
	config, key := filepath.Join(b.Dir(), "asked.yaml"), filepath.Join(b.Dir(), "asked.key")
	text := fmt.Sprintf("listen: [\"pop3://%s\"]\ntls: {cert: %q, key: %q}\nupstreams: [{name: dovecot, url: \"imap://%s\"}]\nthrottle: {delay: 0s}\n"+
		"routes: [{name: asked, auth-http: {url: %q, key-header: X-Auth-Key, key-file: %q}}]\n", f.pop3, b.Certificate(), b.Key(), s.IMAP, service.url, key)
	for file, text := range map[string]string{config: text, key: authKey + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.serve(t, f, "asked", "--config", config)

	user, pass := lab.User(2)
	last, odd := lab.User(lab.Users)
	// nginx says the words of the service, and popgate its own with a code.
	for _, tt := range []struct{ name, user, pass, nginx, popgate string }{
		{"a_right_password", user, pass, "+OK", "+OK"},
		{"a_password_of_odd_octets", last, odd, "+OK", "+OK"},
		{"a_user_who_is_somebody_else", otherUser, "any", "+OK", "+OK"},
		{"a_wrong_password_with_blanks_and_percent_signs", user, "bad pass%41 ", "-ERR Invalid login or password", "-ERR [AUTH]"},
		{"a_wrong_password_of_8_bits", user, "gr\u00fc\u00dfe\xff", "-ERR Invalid login or password", "-ERR [AUTH]"},
		{"a_user_who_is_to_come_later", earlyUser, pass, "-ERR [SYS/TEMP] try later", "-ERR [SYS/TEMP]"},
		{"a_service_that_is_broken", brokenUser, pass, "-ERR", "-ERR [SYS/TEMP]"},
	} {
		for _, secure := range []bool{false, true} {
			mode := plain
			if secure {
				mode = stls
			}
			report.leaf(t, "dovecot", "nginx", mode, tt.name+"_"+mode, func(t *testing.T) {
				ask := func(addr, want string) map[string]string {
					p := dialPOP(t, addr)
					if secure {
						p.stls(t, b.CA())
					}
					p.ok(t, "USER %s", tt.user)
					if got := p.ask(t, "PASS %s", tt.pass); !strings.HasPrefix(got, want) {
						t.Errorf("%s says %q, want %s", addr, got, want)
					}
					if want == "+OK" {
						p.ok(t, "STAT")
						p.ok(t, "QUIT")
					}
					return service.question()
				}
				byNginx, byPopgate := ask(proxy.POP3, tt.nginx), ask(f.pop3, tt.popgate)
				if secure { // popgate tells no version and no cipher
					delete(byNginx, "Auth-Ssl-Protocol")
					delete(byNginx, "Auth-Ssl-Cipher")
				}
				if !maps.Equal(byNginx, byPopgate) {
					t.Errorf("nginx asks %q, popgate %q", byNginx, byPopgate)
				}
				if t.Failed() {
					t.Logf("gateway:\n%s", f.tail())
				}
			})
		}
	}
	report.progress("dovecot", "nginx")
}

// stls turns TLS on, and trusts the lab's authority alone.
func (p *pop) stls(t *testing.T, ca string) {
	t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	p.ok(t, "STLS")
	secure := cryptotls.Client(p.conn, &cryptotls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	_ = secure.SetDeadline(time.Now().Add(popTimeout))
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.conn, p.r = secure, bufio.NewReader(secure)
}
