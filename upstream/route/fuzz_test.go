package route_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/route"
)

// FuzzRoute: whatever a client sends as user, it reaches a store of the table, and
// what it brings there is a user and a mailbox that no server takes for more.
func FuzzRoute(f *testing.F) {
	for _, user := range []string{"alice", "alice@example.net", "alice+Work@example.net", "alice/Work", "alice@evil.example:143", "{imap.example.net}alice",
		"alice%evil.example", "alice+{user}", "alice+../../etc", "a@b@example.net", "alice*gate", "hall-printer", "+@", "@", "{local}", "$1", "${who}", "\\E.*", "alice@example.net/../x", "alice+*@example.org"} {
		f.Add(user, "pw", "old")
	}
	stores := map[string]*recorder{"one": {name: "one"}, "two": {name: "two"}, "three": {name: "three"}}
	parse := func(s string) route.Template {
		t, err := route.ParseTemplate(s)
		if err != nil {
			f.Fatal(err)
		}
		return t
	}
	table, err := route.NewTable(
		route.Route{Name: "one", Match: route.Match{Pattern: `(?P<who>[^@]+)-(?P<what>[^@]+)`}, User: parse("{what}.{who}"), Mailbox: parse("Scans/{folder}"), Folders: route.SlashFolders, Store: stores["one"]},
		route.Route{Name: "two", Match: route.Match{Domains: []string{"example.net"}}, Folders: route.PlusFolders, User: parse("{local}"), Authorize: parse("{user}"), Store: stores["two"]},
		route.Route{Name: "three", Folders: route.SlashFolders, Store: stores["three"]},
	)
	if err != nil {
		f.Fatal(err)
	}
	s := route.New(table, route.Trace{})
	f.Fuzz(func(t *testing.T, user, secret, listener string) {
		for _, r := range stores {
			r.got = nil
		}
		c := from(user)
		c.Secret, c.Listener = upstream.NewSecret(secret), listener
		a, err := s.Login(t.Context(), c)
		verdicts, explained, why := table.Explain(c)
		if (err == nil) != (why == nil) {
			t.Fatalf("%q: Login says %v, Explain %v", user, err, why)
		}
		if err != nil {
			if upstream.KindOf(err) != upstream.Refused {
				t.Errorf("%q: %v", user, err)
			}
			return
		}
		name := a.Key()
		if name != verdicts[len(verdicts)-1].Route {
			t.Errorf("%q went to %s, and Explain says %v", user, name, verdicts)
		}
		got := stores[name].last(t)
		if got.User != explained.User || got.Authorize != explained.Authorize || got.Mailbox != explained.Mailbox {
			t.Errorf("%q became %+v, and Explain says %+v", user, got, explained)
		}
		switch m := got.Mailbox; {
		case got.User == "" || got.Secret.Reveal() != secret || got.Listener != listener:
			t.Errorf("%q became %+v", user, got)
		case strings.ContainsAny(m, "*%{}\\") || !utf8.ValidString(m) || len(m) > route.MaxFolder+len("Scans/"):
			t.Errorf("%q asks for the mailbox %q", user, m)
		case m != "" && slices.Contains(strings.Split(m, "/"), ".."):
			t.Errorf("%q asks for the mailbox %q", user, m)
		}
	})
}
