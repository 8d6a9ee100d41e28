package jmap_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

// TestLoginAnswersHaveKinds: RFC 9110 section 15, RFC 8620 section 3.6.1.
func TestLoginAnswersHaveKinds(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    jmaptest.Fault
		want upstream.Kind
	}{
		{"unauthorized", jmaptest.Fault{Status: 401}, upstream.Refused},
		{"forbidden", jmaptest.Fault{Status: 403}, upstream.Refused},
		{"too_many_requests", jmaptest.Fault{Status: 429}, upstream.Unavailable},
		{"too_many_requests_for_an_hour", jmaptest.Fault{Status: 429, Header: http.Header{"Retry-After": {"3600"}}}, upstream.Unavailable},
		{"server_error", jmaptest.Fault{Status: 500}, upstream.Unavailable},
		{"bad_gateway", jmaptest.Fault{Status: 502}, upstream.Unavailable},
		{"unavailable", jmaptest.Fault{Status: 503}, upstream.Unavailable},
		{"not_found", jmaptest.Fault{Status: 404}, upstream.Internal},
		{"no_content", jmaptest.Fault{Status: 204}, upstream.Internal},
		{"a_web_page", jmaptest.Fault{Status: 200, Body: "<html>please log in</html>"}, upstream.Unavailable},
		{"an_empty_object", jmaptest.Fault{Status: 200, Body: "{}"}, upstream.Internal},
		{"too_large", jmaptest.Fault{Status: 200, Body: strings.Repeat(" ", 2<<20) + "{}"}, upstream.Unavailable},
		{"deep", jmaptest.Fault{Status: 200, Body: `{"a":` + strings.Repeat("[", 500_000)}, upstream.Unavailable},
		{"compressed", jmaptest.Fault{Header: http.Header{"Content-Encoding": {"gzip"}}}, upstream.Unavailable},
		{"cut_before_the_answer", jmaptest.Fault{End: jmaptest.FIN, After: -1}, upstream.Unavailable},
		{"cut_in_the_answer", jmaptest.Fault{End: jmaptest.RST, After: 20}, upstream.Unavailable},
		{"no_such_length", jmaptest.Fault{Length: "many"}, upstream.Unavailable},
		{"a_header_without_end", jmaptest.Fault{Header: http.Header{"X": {strings.Repeat("x", 1<<20)}}}, upstream.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{TCP: true, NoJump: true})
			s.Hook(func(jmaptest.Request) *jmaptest.Fault { return &tt.f })
			_, err := newStore(t, s, nil).Login(t.Context(), alice)
			wantKind(t, "Login", err, tt.want)
			if err != nil && strings.Contains(err.Error(), jmaptest.Password) {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestALostAnswerToLoginIsAskedForOnceMore(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	s.Hook(jmaptest.Once(jmaptest.Op("session"), jmaptest.Fault{End: jmaptest.FIN, After: -1}))
	open(t, newStore(t, s, nil))
}

func TestAStalledLoginEnds(t *testing.T) {
	for _, after := range []int64{-2, -1, 30} {
		synctest.Test(t, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{NoJump: true})
			s.Hook(func(jmaptest.Request) *jmaptest.Fault { return &jmaptest.Fault{End: jmaptest.Stall, After: after} })
			start := time.Now()
			_, err := newStore(t, s, nil).Login(t.Context(), alice)
			wantKind(t, "Login", err, upstream.Unavailable)
			if d := time.Since(start); d != 2*time.Minute { // it is tried twice
				t.Errorf("stalled at %d it took %v: %v", after, d, err)
			}
		})
	}
}

// TestAKeptConnectionThatIsDeadIsReplaced, and what it was to bring comes on a new
// one: nothing told that it died.
func TestAKeptConnectionThatIsDeadIsReplaced(t *testing.T) {
	for _, op := range []string{"session", "api", "download"} {
		synctest.Test(t, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{NoJump: true})
			s.Deliver([]byte(small))
			store := newStore(t, s, nil)
			open(t, store) // leaves a connection
			s.Hook(jmaptest.Once(jmaptest.Op(op), jmaptest.Fault{End: jmaptest.Stall, After: -2}))
			start := time.Now()
			_, m := open(t, store)
			if got, err := retrieve(t, m, 0, upstream.Extent{}); err != nil || got != small {
				t.Errorf("%s: %q, %v", op, got, err)
			}
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("%s: it took %v", op, d)
			}
		})
	}
}

// TestCredentialsStayWithinOneOrigin: whatever the server names, no other place is
// even connected to. Its name and the cause are in the error.
func TestCredentialsStayWithinOneOrigin(t *testing.T) {
	redirect := func(to string) jmaptest.Fault {
		return jmaptest.Fault{Status: 302, Header: http.Header{"Location": {to}}}
	}
	session := func(key, value string) func(map[string]any) {
		return func(v map[string]any) { v[key] = value }
	}
	for _, tt := range []struct {
		name    string
		fault   *jmaptest.Fault
		session func(map[string]any)
	}{
		{"redirect_to_another_host", ptr(redirect("https://evil.example/jmap")), nil},
		{"redirect_to_another_port", ptr(redirect("http://127.0.0.1:9090/jmap")), nil},
		{"redirect_to_another_scheme", ptr(redirect("https://127.0.0.1:8080/jmap")), nil},
		{"redirect_without_a_scheme", ptr(redirect("//evil.example/jmap")), nil},
		{"redirect_to_a_file", ptr(redirect("file:///etc/passwd")), nil},
		{"redirect_for_ever", ptr(redirect("/.well-known/jmap")), nil},
		{"api_on_another_host", nil, session("apiUrl", "https://evil.example/jmap/")},
		{"api_with_a_user", nil, session("apiUrl", "http://evil@127.0.0.1:8080/jmap/")},
		{"api_without_a_scheme", nil, session("apiUrl", "//evil.example/")},
		{"api_nowhere", nil, session("apiUrl", "")},
		{"download_on_another_host", nil, session("downloadUrl", "https://evil.example/{accountId}/{blobId}")},
		{"download_with_the_blob_for_a_host", nil, session("downloadUrl", "http://{blobId}/{accountId}")},
		{"download_without_a_blob", nil, session("downloadUrl", "/jmap/download/{accountId}")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{Session: tt.session, NoJump: true})
			if tt.fault != nil {
				s.Hook(func(jmaptest.Request) *jmaptest.Fault { return tt.fault })
			}
			_, err := newStore(t, s, nil).Login(t.Context(), alice)
			wantKind(t, "Login", err, upstream.Internal)
			for _, at := range s.Dialed() {
				if at != "127.0.0.1:8080" {
					t.Errorf("connected to %s", at)
				}
			}
		})
	}
}

// TestLaterRedirectsAreNotFollowed, not even within the origin: a body that was
// redirected is the body of something else.
func TestLaterRedirectsAreNotFollowed(t *testing.T) {
	for _, op := range []string{"api", "download"} {
		t.Run(op, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			s.Deliver([]byte("Subject: x\r\n\r\n"))
			a, err := newStore(t, s, nil).Login(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			s.Hook(func(r jmaptest.Request) *jmaptest.Fault {
				if r.Op != op {
					return nil
				}
				return &jmaptest.Fault{Status: 307, Header: http.Header{"Location": {"/jmap"}}}
			})
			m, err := a.Open(t.Context())
			if err == nil {
				_, err = retrieve(t, m, 0, upstream.Extent{})
			}
			wantKind(t, "Open and Retrieve", err, upstream.Internal)
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestRetryAfterIsWaitedForWithinTheDeadline(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after string
		times int
		ok    bool
		took  time.Duration
	}{
		{"seconds", "3", 1, true, 3 * time.Second},
		{"twice", "3", 2, true, 6 * time.Second},
		{"too_often", "3", 3, false, 6 * time.Second},
		{"too_long", "11", 1, false, 0},
		{"not_told", "", 1, false, 0},
		{"not_a_time", "soon", 1, false, 0},
		{"negative", "-3", 1, false, 0},
		{"a_date_that_is_past", "Sat, 01 Jan 2000 00:00:00 GMT", 1, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := jmaptest.New(t, jmaptest.Options{})
				s.Hook(jmaptest.Times(tt.times, jmaptest.Op("session"),
					jmaptest.Fault{Status: 429, Header: http.Header{"Retry-After": {tt.after}}}))
				start := time.Now()
				a, err := newStore(t, s, nil).Login(t.Context(), alice)
				if (err == nil) != tt.ok {
					t.Errorf("Login: %v", err)
				}
				if err == nil {
					a.Close()
				} else {
					wantKind(t, "Login", err, upstream.Unavailable)
				}
				if d := time.Since(start); d != tt.took {
					t.Errorf("it took %v, want %v", d, tt.took)
				}
			})
		})
	}
	t.Run("not_past_the_deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			s.Hook(jmaptest.Once(jmaptest.Op("session"), jmaptest.Fault{Status: 503, Header: http.Header{"Retry-After": {"5"}}}))
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			start := time.Now()
			_, err := newStore(t, s, nil).Login(ctx, alice)
			wantKind(t, "Login", err, upstream.Unavailable)
			if d := time.Since(start); d != 0 {
				t.Errorf("it took %v", d)
			}
		})
	})
}

func TestBearer(t *testing.T) {
	for _, tt := range []struct {
		name, user, token string
		ok                bool
	}{
		{"right", "alice", jmaptest.Token, true},
		{"right_in_other_letters", "Alice", jmaptest.Token, true},
		{"wrong_token", "alice", "token-of-bob", false},
		{"of_another_user", "bob", jmaptest.Token, false},
		{"no_token", "alice", "", false},
		{"with_a_line_end", "alice", jmaptest.Token + "\r\nX: y", false},
		{"with_a_space", "alice", jmaptest.Token + " x", false},
		{"the_password", "alice", jmaptest.Password, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := jmaptest.New(t, jmaptest.Options{})
			store := newStore(t, s, func(o *jmap.Options) { o.Auth = jmap.Bearer })
			a, err := store.Login(t.Context(), upstream.Credentials{User: tt.user, Secret: upstream.NewSecret(tt.token)})
			switch {
			case tt.ok && err != nil:
				t.Errorf("Login: %v", err)
			case !tt.ok:
				wantKind(t, "Login", err, upstream.Refused)
			}
			if err == nil {
				a.Close()
			}
		})
	}
}

// TestWhatHTTPCannotCarryIsNotSent: RFC 7617 section 2.
func TestWhatHTTPCannotCarryIsNotSent(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	store := newStore(t, s, nil)
	for _, c := range [][2]string{{"ali:ce", "x"}, {"alice", "se\x00cret"}, {"alice\r\n", "x"}, {"alice", "\x7f"}} {
		_, err := store.Login(t.Context(), upstream.Credentials{User: c[0], Secret: upstream.NewSecret(c[1])})
		wantKind(t, fmt.Sprintf("Login(%q, %q)", c[0], c[1]), err, upstream.Refused)
	}
	if got := s.Requests(); len(got) != 0 {
		t.Errorf("sent %q", got)
	}
}

// TestTheSessionResourceIsFoundOnce: later logins save the redirect, until the
// place changes.
func TestTheSessionResourceIsFoundOnce(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	store := newStore(t, s, nil)
	count := func() int {
		before := len(s.Requests())
		a, err := store.Login(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		return len(s.Requests()) - before
	}
	if got := []int{count(), count()}; !slices.Equal(got, []int{2, 1}) {
		t.Errorf("requests for a login: %v, want 2 and then 1", got)
	}
	s.Hook(jmaptest.Once(jmaptest.Op("session"), jmaptest.Fault{Status: 404}))
	if got := []int{count(), count()}; !slices.Equal(got, []int{3, 1}) {
		t.Errorf("requests for a login after it moved: %v, want 3 and then 1", got)
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		url string
		ok  bool
	}{
		{"https://jmap.example.net", true}, {"https://jmap.example.net:8443/session", true},
		{"http://127.0.0.1:8080", true}, {"http://[::1]", true}, {"http://localhost", true},
		{"http://jmap.example.net", false}, {"http://10.0.0.1", false}, {"imap://jmap.example.net", false}, {"", false},
		{"https://", false}, {"https://alice:secret@jmap.example.net", false}, {"https://jmap.example.net/?a=b", false},
		{"https://jmap.example.net/#x", false}, {"https://jmap.example.net:x", false},
	} {
		_, err := jmap.New(jmap.Options{URL: tt.url})
		if (err == nil) != tt.ok {
			t.Errorf("New(%q): %v", tt.url, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("New(%q) tells the password: %v", tt.url, err)
		}
	}
	if _, err := jmap.New(jmap.Options{URL: "https://a", Delete: 3}); err == nil {
		t.Error("an unknown policy is taken")
	}
	if _, err := jmap.New(jmap.Options{URL: "https://a", Auth: 2}); err == nil {
		t.Error("an unknown authentication is taken")
	}
}
