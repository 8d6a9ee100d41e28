package jmaptest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

// dial is an HTTP client of the server that follows no redirect.
func dial(t *testing.T, s *jmaptest.Server) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: s.Dial, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Hour, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func ask(t *testing.T, c *http.Client, method, url, body, user, password string, header ...string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// call makes one method call and returns its name and arguments.
func call(t *testing.T, c *http.Client, s *jmaptest.Server, method, args string) (string, map[string]any) {
	t.Helper()
	_, text, err := ask(t, c, "POST", s.URL+"/jmap/", fmt.Sprintf(
		`{"using":["urn:ietf:params:jmap:core","urn:ietf:params:jmap:mail"],"methodCalls":[[%q,%s,"c"]]}`, method, args), jmaptest.User, jmaptest.Password)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Responses [][3]any `json:"methodResponses"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Responses) != 1 || answer.Responses[0][2] != "c" {
		t.Fatalf("%s: %q, %v", method, text, err)
	}
	return answer.Responses[0][0].(string), answer.Responses[0][1].(map[string]any)
}

func TestSessionAndCredentials(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		s := jmaptest.New(t, jmaptest.Options{TCP: tcp})
		c := dial(t, s)
		for _, tt := range []struct {
			path, user, password string
			status               int
		}{
			{"/.well-known/jmap", "", "", 401}, {"/jmap", jmaptest.User, "wrong", 401}, {"/jmap", "bob", jmaptest.Password, 401},
			{"/.well-known/jmap", jmaptest.User, jmaptest.Password, 301}, {"/jmap", jmaptest.User, jmaptest.Password, 200},
			{"/other", jmaptest.User, jmaptest.Password, 404}, {"/jmap/", jmaptest.User, jmaptest.Password, 404},
		} {
			resp, text, err := ask(t, c, "GET", s.URL+tt.path, "", tt.user, tt.password)
			if err != nil || resp.StatusCode != tt.status {
				t.Errorf("%s as %q: %v, %v", tt.path, tt.user, resp, err)
			}
			if tt.status == 200 && !strings.Contains(text, `"apiUrl":"/jmap/"`) {
				t.Errorf("the session resource: %s", text)
			}
		}
		if resp, _, err := ask(t, c, "GET", s.URL+"/jmap", "", "", "", "Authorization: Bearer "+jmaptest.Token); err != nil || resp.StatusCode != 200 {
			t.Errorf("by token: %v, %v", resp, err)
		}
	}
}

// TestSetKeepsToTheStandard: RFC 8620 section 5.3, RFC 8621 section 4.6.
func TestSetKeepsToTheStandard(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{MaxSet: 2})
	c := dial(t, s)
	id, other := s.Deliver([]byte("a")), s.Deliver([]byte("b"))
	_, got := call(t, c, s, "Email/get", fmt.Sprintf(`{"accountId":%q,"ids":[%q,"Mnone"],"properties":["size"]}`, jmaptest.Account, id))
	if text := fmt.Sprint(got["list"], got["notFound"]); text != fmt.Sprintf("[map[id:%s size:1]] [Mnone]", id) {
		t.Errorf("Email/get: %s", text)
	}
	state := got["state"].(string)
	set := func(args string) string {
		name, got := call(t, c, s, "Email/set", fmt.Sprintf(`{"accountId":%q,%s}`, jmaptest.Account, args))
		if name == "error" {
			return got["type"].(string)
		}
		return fmt.Sprint(got["updated"], got["destroyed"], got["notUpdated"], got["notDestroyed"])
	}
	for _, tt := range []struct{ args, want string }{
		{fmt.Sprintf(`"ifInState":%q,"update":{%q:{"keywords/$seen":true}}`, state, id), "map[" + id + ":<nil>] [] map[] map[]"},
		{fmt.Sprintf(`"ifInState":%q,"destroy":[%q]`, state, id), "stateMismatch"},
		{fmt.Sprintf(`"update":{%q:{"mailboxIds/inbox-1":null}}`, id), "map[] [] map[" + id + ":map[type:invalidProperties]] map[]"},
		{fmt.Sprintf(`"update":{%q:{"mailboxIds/none":true}}`, id), "map[] [] map[" + id + ":map[type:invalidProperties]] map[]"},
		{fmt.Sprintf(`"update":{%q:{"subject":null}}`, id), "map[] [] map[" + id + ":map[type:invalidPatch]] map[]"},
		{`"destroy":["Mnone"]`, "map[] [] map[] map[Mnone:map[type:notFound]]"},
		{`"destroy":["1","2","3"]`, "requestTooLarge"},
		{fmt.Sprintf(`"destroy":[%q]`, other), "map[] [" + other + "] map[] map[]"},
	} {
		if got := set(tt.args); got != tt.want {
			t.Errorf("Email/set {%s}: %s, want %s", tt.args, got, tt.want)
		}
	}
	if all := s.Emails(""); len(all) != 1 || !all[0].Keywords["$seen"] || !all[0].Mailboxes[jmaptest.Inbox] {
		t.Errorf("left: %+v", all)
	}
	var changes []string
	for _, e := range s.Journal() {
		if e.What != "request" {
			changes = append(changes, e.What+" "+e.Detail)
		}
	}
	if text := strings.Join(changes, "; "); text != fmt.Sprintf(`update %s {"keywords/$seen":true}; destroy %s`, id, other) {
		t.Errorf("journal: %s", text)
	}
	if name, got := call(t, c, s, "Email/get", `{"accountId":"nobody","ids":[]}`); name != "error" || got["type"] != "accountNotFound" {
		t.Errorf("another account: %s %v", name, got)
	}
}

// TestQueryPages: RFC 8620 section 5.5, by position and by anchor.
func TestQueryPages(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{QueryMax: 3})
	c := dial(t, s)
	var ids []string
	for range 5 {
		ids = append(ids, s.Deliver([]byte("x")))
	}
	for _, tt := range []struct {
		args string
		want []string
		at   float64
	}{
		{`"limit":2`, ids[:2], 0}, {``, ids[:3], 0}, {`"position":4`, ids[4:], 4}, {`"position":9`, nil, 5},
		{fmt.Sprintf(`"anchor":%q,"anchorOffset":1,"limit":2`, ids[1]), ids[2:4], 2},
		{fmt.Sprintf(`"anchor":%q,"anchorOffset":-5,"limit":1`, ids[1]), ids[:1], 0},
	} {
		_, got := call(t, c, s, "Email/query", strings.TrimSuffix(fmt.Sprintf(`{"accountId":%q,"filter":{"inMailbox":"inbox-1"},%s`, jmaptest.Account, tt.args), ",")+"}")
		if fmt.Sprint(got["ids"]) != fmt.Sprint(tt.want) || got["position"] != tt.at || got["total"] != 5.0 {
			t.Errorf("Email/query {%s}: %v", tt.args, got)
		}
	}
	if name, got := call(t, c, s, "Email/query", fmt.Sprintf(`{"accountId":%q,"anchor":"Mnone"}`, jmaptest.Account)); name != "error" || got["type"] != "anchorNotFound" {
		t.Errorf("an anchor that is not there: %s %v", name, got)
	}
}

// TestFaultsAreExact: as many octets as were asked for, and then the end.
func TestFaultsAreExact(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		s := jmaptest.New(t, jmaptest.Options{TCP: tcp})
		c := dial(t, s)
		s.Deliver([]byte("0123456789"))
		url := s.URL + "/jmap/download/" + jmaptest.Account + "/" + s.Emails("")[0].Blob + "/x"
		for _, tt := range []struct {
			f    jmaptest.Fault
			want string
			err  bool
		}{
			{jmaptest.Fault{End: jmaptest.FIN, After: 4}, "0123", true},
			{jmaptest.Fault{End: jmaptest.FIN, After: 0}, "", true},
			{jmaptest.Fault{End: jmaptest.FIN, After: 10}, "0123456789", false},
			{jmaptest.Fault{End: jmaptest.FIN, After: -1}, "", true},
			{jmaptest.Fault{Length: "4"}, "0123", false},
			{jmaptest.Fault{Length: "11"}, "0123456789", true},
			{jmaptest.Fault{Status: 418, Body: "tea"}, "tea", false},
			{jmaptest.Fault{Change: func(b []byte) []byte { return b[5:] }}, "56789", false},
		} {
			s.Hook(jmaptest.Times(2, jmaptest.Op("download"), tt.f)) // net/http may ask again by itself
			_, text, err := ask(t, c, "GET", url, "", jmaptest.User, jmaptest.Password)
			if text != tt.want || (err != nil) != tt.err {
				t.Errorf("%+v: %q, %v", tt.f, text, err)
			}
			for range 2 {
				ask(t, c, "GET", url, "", jmaptest.User, jmaptest.Password) // uses up the hook
			}
		}
	}
}

// TestAStallLastsUntilSomebodyCloses, and the test can end.
func TestAStallLastsUntilSomebodyCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := jmaptest.New(t, jmaptest.Options{})
		s.Hook(func(jmaptest.Request) *jmaptest.Fault { return &jmaptest.Fault{End: jmaptest.Stall, After: -2} })
		start := time.Now()
		_, _, err := ask(t, dial(t, s), "GET", s.URL+"/jmap", "", jmaptest.User, jmaptest.Password)
		if d := time.Since(start); err == nil || d != time.Hour {
			t.Errorf("%v after %v, want the patience of the client", err, d)
		}
	})
}

func TestDown(t *testing.T) {
	s := jmaptest.New(t, jmaptest.Options{})
	c := dial(t, s)
	s.Down()
	if _, _, err := ask(t, c, "GET", s.URL+"/jmap", "", jmaptest.User, jmaptest.Password); err == nil {
		t.Error("it answers")
	}
	s.Up()
	if resp, _, err := ask(t, c, "GET", s.URL+"/jmap", "", jmaptest.User, jmaptest.Password); err != nil || resp.StatusCode != 200 {
		t.Errorf("up again: %v, %v", resp, err)
	}
}
