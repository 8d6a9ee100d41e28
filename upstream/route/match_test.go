package route_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/route"
)

func TestTheFirstRouteThatMatchesTakesTheLogin(t *testing.T) {
	everybody := route.Match{}
	old := func(c upstream.Credentials) upstream.Credentials { c.Listener = "old"; return c }
	at := func(addr string, c upstream.Credentials) upstream.Credentials {
		c.Client = netip.AddrPortFrom(netip.MustParseAddr(addr), 1)
		return c
	}
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, tt := range []struct {
		name  string
		match route.Match
		c     upstream.Credentials
		takes bool
	}{
		{"all", everybody, from("alice"), true},
		{"a_user", route.Match{Users: []string{"bob", "alice"}}, from("alice"), true},
		{"another_user", route.Match{Users: []string{"bob"}}, from("alice"), false},
		{"a_user_in_other_letters", route.Match{Users: []string{"Alice@Example.NET"}}, from("aLICE@eXAMPLE.net"), true},
		{"a_letter_that_folds_only_in_unicode", route.Match{Users: []string{"kate"}}, from("\u212aate"), false},
		{"octets_that_are_no_text", route.Match{Users: []string{"\ufffd"}}, from("\xff"), false},
		{"a_user_is_the_whole_user", route.Match{Users: []string{"alice"}}, from("alice@example.net"), false},
		{"a_domain", route.Match{Domains: []string{"example.net"}}, from("alice@Example.NET"), true},
		{"a_domain_below_it", route.Match{Domains: []string{"example.net"}}, from("alice@sub.example.net"), false},
		{"a_domain_that_ends_alike", route.Match{Domains: []string{"example.net"}}, from("alice@notexample.net"), false},
		{"the_domain_is_behind_the_last_at", route.Match{Domains: []string{"example.net"}}, from("alice@example.net@example.org"), false},
		{"no_domain", route.Match{Domains: []string{"example.net"}}, from("example.net"), false},
		{"a_pattern", route.Match{Pattern: "[a-z]+-printer"}, from("hall-printer"), true},
		{"a_pattern_is_of_the_whole_user", route.Match{Pattern: "[a-z]+-printer"}, from("hall-printer2"), false},
		{"from_its_first_octet_on", route.Match{Pattern: "printer"}, from("a printer"), false},
		{"also_of_each_alternative", route.Match{Pattern: "alice|bob"}, from("alicebob"), false},
		{"a_line_end_is_no_end", route.Match{Pattern: "(?m)alice$"}, from("alice\nbob"), false},
		{"a_pattern_minds_case", route.Match{Pattern: "alice"}, from("Alice"), false},
		{"unless_it_says_not", route.Match{Pattern: "(?i)alice"}, from("Alice"), true},
		{"a_listener", route.Match{Listeners: []string{"old"}}, old(from("alice")), true},
		{"another_listener", route.Match{Listeners: []string{"old"}}, from("alice"), false},
		{"a_network", route.Match{From: nets}, at("10.1.2.3", from("alice")), true},
		{"a_network_of_IPv6", route.Match{From: nets}, at("2001:db8::7", from("alice")), true},
		{"an_IPv4_address_in_IPv6", route.Match{From: nets}, at("::ffff:10.1.2.3", from("alice")), true},
		{"another_network", route.Match{From: nets}, at("11.1.2.3", from("alice")), false},
		{"an_address_that_is_not_known", route.Match{From: nets}, upstream.Credentials{User: "alice"}, false},
		{"all_that_is_said_must_hold", route.Match{Users: []string{"alice"}, Listeners: []string{"old"}}, from("alice"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, second := &recorder{name: "first"}, &recorder{name: "second"}
			s := route.New(table(t, route.Route{Name: "first", Match: tt.match, Store: first}, route.Route{Name: "second", Store: second}), route.Trace{})
			want := "second"
			if tt.takes {
				want = "first"
			}
			if got, err := where(t, s, tt.c); got != want {
				t.Errorf("%q went to %q, %v; want %q", tt.c.User, got, err, want)
			}
		})
	}
}

func TestNoRouteIsRefused(t *testing.T) {
	var routes, results []string
	s := route.New(table(t, route.Route{Name: "a", Match: route.Match{Users: []string{"alice"}}, Store: &recorder{}}), route.Trace{
		Login: func(name, result string) { routes, results = append(routes, name), append(results, result) },
	})
	_, err := where(t, s, from("bob"))
	wantKind(t, "no route", err, upstream.Refused, "no route takes this login")
	if _, err := where(t, s, from("alice")); err != nil {
		t.Error(err)
	}
	if !slices.Equal(routes, []string{route.NoRoute, "a"}) || !slices.Equal(results, []string{"refused", "ok"}) {
		t.Errorf("the trace has %q, %q", routes, results)
	}
}

func TestBadRoutes(t *testing.T) {
	store := &recorder{}
	for _, tt := range []struct {
		name   string
		routes []route.Route
	}{
		{"no_name", []route.Route{{Store: store}}},
		{"the_name_of_none", []route.Route{{Name: route.NoRoute, Store: store}}},
		{"a_name_twice", []route.Route{{Name: "a", Store: store}, {Name: "a", Store: store}}},
		{"no_store", []route.Route{{Name: "a"}}},
		{"a_pattern_that_is_none", []route.Route{{Name: "a", Match: route.Match{Pattern: "("}, Store: store}}},
		{"a_pattern_that_ends_the_frame", []route.Route{{Name: "a", Match: route.Match{Pattern: "a)|(b"}, Store: store}}},
		{"a_template_of_an_unknown_field", []route.Route{{Name: "a", User: template(t, "{host}"), Store: store}}},
		{"a_client_that_names_another_beside_a_proof_of_ours", []route.Route{{Name: "a", ClientAuthorize: true, Prove: pass, Store: store}}},
		{"steps_without_a_proof", []route.Route{{Name: "a", Steps: []route.Step{pass}, Store: store}}},
		{"a_client_that_names_another_beside_a_step", []route.Route{{Name: "a", ClientAuthorize: true, Steps: []route.Step{pass}, Store: store}}},
		{"a_client_that_names_another_beside_a_template", []route.Route{{Name: "a", ClientAuthorize: true, Authorize: template(t, "x"), Store: store}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := route.NewTable(tt.routes...); err == nil {
				t.Error("the table was made")
			}
		})
	}
}

func TestATableIsReplacedForNewLogins(t *testing.T) {
	one, two := &recorder{name: "one"}, &recorder{name: "two"}
	s := route.New(table(t, route.Route{Name: "a", Store: one}), route.Trace{})
	held, err := s.Login(t.Context(), from("alice"))
	if err != nil {
		t.Fatal(err)
	}
	s.Swap(table(t, route.Route{Name: "a", Store: two}))
	if got, err := where(t, s, from("alice")); got != "two" {
		t.Errorf("a new login went to %q, %v", got, err)
	}
	if held.Key() != "one" {
		t.Errorf("the session that was open is now at %q", held.Key())
	}
}

func TestExplain(t *testing.T) {
	table := table(t,
		route.Route{Name: "old", Match: route.Match{Listeners: []string{"old"}}, Store: &recorder{}},
		route.Route{Name: "bob", Match: route.Match{Users: []string{"bob"}}, Store: &recorder{}},
		route.Route{Name: "net", Match: route.Match{Domains: []string{"example.net"}}, Folders: route.PlusFolders,
			User: template(t, "{local}"), Authorize: template(t, "shared"), Store: &recorder{}},
		route.Route{Name: "rest", Store: &recorder{}},
	)
	verdicts, c, err := table.Explain(from("alice+Work@example.net"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []route.Verdict{{"old", "listener"}, {"bob", "user"}, {"net", ""}}; !slices.Equal(verdicts, want) {
		t.Errorf("verdicts %v, want %v", verdicts, want)
	}
	if c.User != "alice" || c.Authorize != "shared" || c.Mailbox != "Work" {
		t.Errorf("rewritten: %+v", c)
	}
}
