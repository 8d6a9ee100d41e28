package route_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/route"
)

// A question is what the service was asked.
type question struct {
	path   string
	header http.Header
}

// A service is an auth_http service that answers with these headers.
type service struct {
	url   string
	mu    sync.Mutex
	asked []question
}

func newService(t *testing.T, answer http.HandlerFunc) *service {
	t.Helper()
	s := &service{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, question{r.URL.String(), r.Header})
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// questions are those that were asked.
func (s *service) questions() []question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func headers(pairs ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			w.Header().Set(pairs[i], pairs[i+1])
		}
	}
}

// choose knows one upstream.
func choose(store upstream.Store) func(route.Choice) (upstream.Store, error) {
	return func(c route.Choice) (upstream.Store, error) {
		if c != (route.Choice{Server: "192.0.2.1", Port: "110"}) {
			return nil, fmt.Errorf("no such upstream: %+v", c)
		}
		return store, nil
	}
}

func newAuth(t *testing.T, o route.AuthHTTPOptions) *route.AuthHTTP {
	t.Helper()
	a, err := route.NewAuthHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

var okay = []string{"Auth-Status", "OK", "Auth-Server", "192.0.2.1", "Auth-Port", "110"}

func TestAuthHTTPAsksAsNginxDoes(t *testing.T) {
	s := newService(t, headers(okay...))
	store := &recorder{}
	a := newAuth(t, route.AuthHTTPOptions{URL: s.url + "/auth?x=y", KeyHeader: "X-Auth-Key", KeyFile: secretFile(t, "s3cret\n"), Choose: choose(store)})
	c := from("us er%@example.net\u00fc")
	c.Secret, c.TLS, c.Mailbox = upstream.NewSecret("bad pass%41 \x7f"), true, "Gr\u00fc\u00dfe 1"
	if _, err := a.Login(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	asked := s.questions()
	if len(asked) != 1 || asked[0].path != "/auth?x=y" {
		t.Fatalf("asked %+v", asked)
	}
	h := asked[0].header
	for name, want := range map[string]string{
		"Auth-Method": "plain", "Auth-User": "us%20er%25@example.net\u00fc", "Auth-Pass": "bad%20pass%2541%20%7F", "Auth-Protocol": "pop3",
		"Auth-Login-Attempt": "1", "Client-Ip": "192.0.2.7", "Auth-Ssl": "on", "X-Auth-Key": "s3cret",
		"Popgate-Listener": "usual", "Popgate-Mailbox": "Gr\u00fc\u00dfe%201",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := store.last(t); got.User != c.User || got.Secret != c.Secret || got.Mailbox != c.Mailbox {
		t.Errorf("the store got %+v", got)
	}
}

func TestAuthHTTPReplies(t *testing.T) {
	also := func(pairs ...string) http.HandlerFunc {
		return headers(append(okay[:len(okay):len(okay)], pairs...)...)
	}
	status := func(code int, then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { then(w, r); w.WriteHeader(code) }
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		kind   string // "ok" or a kind
	}{
		{"OK", also(), "ok"},
		{"OK_whatever_the_status", status(403, also()), "ok"},
		{"a_text", headers("Auth-Status", "Invalid login or password", "Auth-Wait", "0"), "refused"},
		{"a_text_that_begins_like_OK", also("Auth-Status", "OK but no"), "refused"},
		{"ok_in_small_letters", also("Auth-Status", "ok"), "refused"},
		{"a_code_in_the_text", headers("Auth-Status", "[SYS/TEMP] try later"), "unavailable"},
		{"a_code_beside_it", headers("Auth-Status", "try later", "Auth-Error-Code", "[SYS/TEMP]"), "unavailable"},
		{"a_code_of_SMTP", headers("Auth-Status", "try later", "Auth-Error-Code", "451 4.3.0"), "unavailable"},
		{"the_other_code_of_SMTP", headers("Auth-Status", "no", "Auth-Error-Code", "535 5.7.8"), "refused"},
		{"a_code_for_good", headers("Auth-Status", "[SYS/PERM] no quota"), "internal"},
		{"a_code_of_the_lock", headers("Auth-Status", "[IN-USE] wait"), "busy"},
		{"a_code_of_the_delay", headers("Auth-Status", "[LOGIN-DELAY] wait"), "early"},
		{"a_code_of_the_password", headers("Auth-Status", "[AUTH] no"), "refused"},
		{"an_unknown_code", headers("Auth-Status", "[X] no"), "refused"},
		{"no_status", headers("Auth-Server", "192.0.2.1", "Auth-Port", "110"), "internal"},
		{"no_status_by_a_fault", status(500, headers()), "unavailable"},
		{"no_status_by_a_flood", status(429, headers()), "unavailable"},
		{"no_such_page", status(404, headers()), "internal"},
		{"a_redirect", status(302, headers("Location", "/elsewhere")), "internal"},
		{"another_server", also("Auth-Server", "192.0.2.2"), "internal"},
		{"another_port", also("Auth-Port", "25"), "internal"},
		{"an_upstream_that_is_not_there", also("Popgate-Upstream", "other"), "internal"},
		{"a_policy_that_is_not_there", also("Popgate-Delete", "purge"), "internal"},
		{"a_mailbox_that_is_none", also("Popgate-Mailbox", "a%0Ab"), "internal"},
		{"a_mailbox_that_is_no_text", also("Popgate-Mailbox", "%ff"), "internal"},
		{"too_much", also("X", strings.Repeat("x", 1<<20)), "unavailable"},
		{"the_connection_ends", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, tt.answer)
			var traced string
			a := newAuth(t, route.AuthHTTPOptions{URL: s.url, Choose: choose(&recorder{}), Trace: route.AuthHTTPTrace{Asked: func(result string, _ time.Duration) { traced = result }}})
			_, err := a.Login(t.Context(), from("alice"))
			got := "ok"
			if err != nil {
				if _, ok := err.(*upstream.Error); !ok {
					t.Errorf("a %T", err)
				}
				got = upstream.KindOf(err).String()
			}
			if got != tt.kind || traced != tt.kind {
				t.Errorf("%s, %v, traced as %q; want %s", got, err, traced, tt.kind)
			}
			for _, q := range s.questions() {
				if q.path != "/" {
					t.Errorf("%s was asked", q.path)
				}
			}
		})
	}
}

func TestAuthHTTPReplacesWhatItSays(t *testing.T) {
	s := newService(t, headers(append(okay[:len(okay):len(okay)], "Auth-User", "real", "Auth-Pass", "p%20w", "Popgate-Mailbox", "Gr%C3%BC%C3%9Fe")...))
	store := &recorder{}
	if _, err := newAuth(t, route.AuthHTTPOptions{URL: s.url, Choose: choose(store)}).Login(t.Context(), from("alice")); err != nil {
		t.Fatal(err)
	}
	if c := store.last(t); c.User != "real" || c.Secret.Reveal() != "p%20w" || c.Mailbox != "Gr\u00fc\u00dfe" {
		t.Errorf("the store got %q, %q, %q", c.User, c.Secret.Reveal(), c.Mailbox)
	}
}

func TestAuthHTTPProvesPasswordsAlone(t *testing.T) {
	s := newService(t, headers(okay...))
	for _, proof := range []upstream.Proof{upstream.Bearer, upstream.Shared} {
		c := from("alice")
		c.Proof = proof
		_, err := newAuth(t, route.AuthHTTPOptions{URL: s.url, Choose: choose(&recorder{})}).Login(t.Context(), c)
		wantKind(t, "not a password", err, upstream.Refused, "passwords alone")
	}
	if len(s.questions()) > 0 {
		t.Error("the service was asked")
	}
}

func TestAuthHTTPThatIsNotThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	_, err = newAuth(t, route.AuthHTTPOptions{URL: "http://" + ln.Addr().String(), Choose: choose(&recorder{})}).Login(t.Context(), from("alice"))
	wantKind(t, "down", err, upstream.Unavailable, "refused")
}

func TestAuthHTTPThatIsSilent(t *testing.T) {
	let := make(chan struct{})
	s := newService(t, func(http.ResponseWriter, *http.Request) { <-let })
	t.Cleanup(func() { close(let) })
	a := newAuth(t, route.AuthHTTPOptions{URL: s.url, Timeout: 20 * time.Millisecond, Conns: 1, Choose: choose(&recorder{})})
	for range 2 { // the second finds no free connection or a new one
		_, err := a.Login(t.Context(), from("alice"))
		wantKind(t, "silent", err, upstream.Unavailable, "no answer within")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Login(gone, from("alice"))
	wantKind(t, "the client is gone", err, upstream.Unavailable, "canceled")
}

// No secret is in an error, though the service says it back.
func TestAuthHTTPErrorsHoldNoSecret(t *testing.T) {
	const canary = "pw canary%"
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		pass, _ := url.PathUnescape(r.Header.Get("Auth-Pass"))
		w.Header().Set("Auth-Status", "no: "+pass+"\tof the user "+strings.Repeat("x", 1000))
	})
	c := from("alice")
	c.Secret = upstream.NewSecret(canary)
	_, err := newAuth(t, route.AuthHTTPOptions{URL: s.url, Choose: choose(&recorder{})}).Login(t.Context(), c)
	wantKind(t, "said back", err, upstream.Refused, "the service says: no: [secret]?of the user")
	if strings.Contains(err.Error(), "canary") || len(err.Error()) > 300 {
		t.Errorf("the error is %q", err)
	}
}

// The reply comes over a network, and the clock of the wait is a fake one.
func TestAuthWaitHoldsTheAnswerBack(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   time.Duration
	}{{"2", 2 * time.Second}, {"3600", 5 * time.Second}, {"0", 0}, {"-1", 0}, {"x", 0}, {"99999999999999999999", 0}} {
		t.Run(tt.header, func(t *testing.T) {
			s := newService(t, headers("Auth-Status", "no", "Auth-Wait", tt.header))
			reply, err := http.Get(s.url)
			if err != nil {
				t.Fatal(err)
			}
			reply.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			synctest.Test(t, func(t *testing.T) {
				a := newAuth(t, route.AuthHTTPOptions{URL: s.url, MaxWait: 5 * time.Second, Choose: choose(&recorder{})})
				start := time.Now()
				route.Wait(a, t.Context(), reply.Header)
				if took := time.Since(start); took != tt.want {
					t.Errorf("held back %v, want %v", took, tt.want)
				}
				gone, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start = time.Now()
				route.Wait(a, gone, reply.Header)
				if took := time.Since(start); took > time.Second {
					t.Errorf("held back %v from a client that is gone", took)
				}
			})
		})
	}
}

func TestAuthHTTPAddresses(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:9000", "ftp://127.0.0.1/", "http://192.0.2.1/auth", "http://auth.example.net/", "http://user:pw@127.0.0.1/", "http:///auth", "http://127.0.0.1/#x"} {
		if _, err := route.NewAuthHTTP(route.AuthHTTPOptions{URL: bad, Choose: choose(nil)}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	for _, good := range []string{"http://127.0.0.1:9000/auth", "http://[::1]/", "http://localhost/auth", "https://auth.example.net/a?b=c"} {
		if _, err := route.NewAuthHTTP(route.AuthHTTPOptions{URL: good, Choose: choose(nil)}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if err := route.LoopbackOnly("tcp", "192.0.2.1:80", nil); err == nil {
		t.Error("http:// was let out of this machine by the name of an address elsewhere")
	}
	if err := route.LoopbackOnly("tcp", "[::1]:80", nil); err != nil {
		t.Error(err)
	}
}

// FuzzAuthHTTP: whatever the client sends, the one URL is asked, and what arrives
// is what was sent.
func FuzzAuthHTTP(f *testing.F) {
	f.Add("alice", "pw", "Work")
	f.Add("../../x?y#z", "a b%41\x7f\xff", "\u00fc")
	f.Add("http://evil.example/", "\x01", "*")
	questions := make(chan question, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		questions <- question{r.Host + r.URL.String(), r.Header}
		headers(okay...)(w, r)
	})
	server := httptest.NewServer(handler)
	f.Cleanup(server.Close)
	store := &recorder{}
	a, err := route.NewAuthHTTP(route.AuthHTTPOptions{URL: server.URL + "/auth", Choose: choose(store)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { a.Close() })
	f.Fuzz(func(t *testing.T, user, secret, mailbox string) {
		c := upstream.Credentials{User: user, Secret: upstream.NewSecret(secret), Mailbox: mailbox, Client: netip.MustParseAddrPort("[::ffff:192.0.2.7]:1")}
		if _, err := a.Login(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		asked := <-questions
		if want := strings.TrimPrefix(server.URL, "http://") + "/auth"; asked.path != want {
			t.Errorf("%q: %q was asked", user, asked.path)
		}
		for header, want := range map[string]string{"Auth-User": user, "Auth-Pass": secret, "Popgate-Mailbox": mailbox, "Client-Ip": "192.0.2.7"} {
			if got, err := url.PathUnescape(asked.header.Get(header)); got != want || err != nil {
				t.Errorf("%s is %q, %v; want %q", header, got, err, want)
			}
		}
	})
}
