package route_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop/memdroptest"
	"github.com/popgate/popgate/upstream/route"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.Run(t, func(t *testing.T) upstreamtest.Harness {
		return memdroptest.Harness(t, func(s upstream.Store) upstream.Store {
			return route.New(table(t,
				route.Route{Name: "nobody", Match: route.Match{Users: []string{"nobody"}}, Store: &recorder{}},
				route.Route{Name: "all", Prove: pass, User: template(t, "{local}"), Steps: []route.Step{pass}, Store: s},
			), route.Trace{})
		})
	})
}

// pass is a step that changes nothing.
func pass(_ context.Context, c upstream.Credentials) (upstream.Credentials, error) { return c, nil }

func TestRewriting(t *testing.T) {
	for _, tt := range []struct {
		name  string
		route route.Route
		sent  string
		want  upstream.Credentials // user, authorize, mailbox
	}{
		{"nothing", route.Route{}, "alice@example.net", upstream.Credentials{User: "alice@example.net"}},
		{"local", route.Route{User: template(t, "{local}")}, "alice@example.net", upstream.Credentials{User: "alice"}},
		{"domain_added", route.Route{User: template(t, "{user}@example.net")}, "alice", upstream.Credentials{User: "alice@example.net"}},
		{"domain_replaced", route.Route{User: template(t, "{local}@{domain}.test")}, "a@b@example.net", upstream.Credentials{User: "a@b@example.net.test"}},
		{"fixed", route.Route{User: template(t, "svc")}, "alice", upstream.Credentials{User: "svc"}},
		{"group", route.Route{Match: route.Match{Pattern: `(?P<who>[a-z]+)-(?P<what>[a-z]+)`}, User: template(t, "{what}.{who}")}, "hall-printer", upstream.Credentials{User: "printer.hall"}},
		{"a_group_does_not_replace_a_field", route.Route{Match: route.Match{Pattern: `(?P<user>a).*`}, User: template(t, "{user}")}, "alice", upstream.Credentials{User: "alice"}},
		{"authorize", route.Route{Authorize: template(t, "{local}@shared")}, "alice@x", upstream.Credentials{User: "alice@x", Authorize: "alice@shared"}},
		{"mailbox", route.Route{Mailbox: template(t, "Post/{local}")}, "alice@x", upstream.Credentials{User: "alice@x", Mailbox: "Post/alice"}},
		{"a_value_is_no_template", route.Route{User: template(t, "{user}-{domain}")}, "{domain}@x", upstream.Credentials{User: "{domain}@x-x"}},
		{"plus_is_of_the_user", route.Route{}, "alice+Work", upstream.Credentials{User: "alice+Work"}},
		{"plus", route.Route{Folders: route.PlusFolders}, "alice+Work", upstream.Credentials{User: "alice", Mailbox: "Work"}},
		{"plus_before_the_domain", route.Route{Folders: route.PlusFolders}, "alice+Work@example.net", upstream.Credentials{User: "alice@example.net", Mailbox: "Work"}},
		{"plus_behind_the_domain", route.Route{Folders: route.PlusFolders}, "alice@example.net+Work", upstream.Credentials{User: "alice@example.net", Mailbox: "Work"}},
		{"plus_with_folders_below", route.Route{Folders: route.PlusFolders}, "alice+Work/2026+1", upstream.Credentials{User: "alice", Mailbox: "Work/2026+1"}},
		{"slash", route.Route{Folders: route.SlashFolders}, "alice/Work/2026", upstream.Credentials{User: "alice", Mailbox: "Work/2026"}},
		{"slash_behind_the_domain", route.Route{Folders: route.SlashFolders}, "alice@example.net/Gr\u00fc\u00dfe", upstream.Credentials{User: "alice@example.net", Mailbox: "Gr\u00fc\u00dfe"}},
		{"nothing_behind_it", route.Route{Folders: route.PlusFolders}, "alice+", upstream.Credentials{User: "alice+"}},
		{"nothing_between_it_and_the_domain", route.Route{Folders: route.PlusFolders}, "alice+@x", upstream.Credentials{User: "alice+@x"}},
		{"nothing_before_it", route.Route{Folders: route.PlusFolders}, "+Work", upstream.Credentials{User: "+Work"}},
		{"a_folder_in_a_template", route.Route{Folders: route.PlusFolders, Mailbox: template(t, "Shared/{folder}")}, "alice+Work", upstream.Credentials{User: "alice", Mailbox: "Shared/Work"}},
		{"no_folder_for_a_template_with_one", route.Route{Folders: route.PlusFolders, Mailbox: template(t, "Shared/{folder}")}, "alice", upstream.Credentials{User: "alice"}},
		{"a_match_is_without_the_folder", route.Route{Folders: route.PlusFolders, Match: route.Match{Domains: []string{"example.net"}}}, "alice@example.net+Work", upstream.Credentials{User: "alice@example.net", Mailbox: "Work"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := &recorder{}
			tt.route.Name, tt.route.Store = "it", store
			if _, err := where(t, route.New(table(t, tt.route), route.Trace{}), from(tt.sent)); err != nil {
				t.Fatal(err)
			}
			got := store.last(t)
			if got.User != tt.want.User || got.Authorize != tt.want.Authorize || got.Mailbox != tt.want.Mailbox {
				t.Errorf("%q became user %q, authorize %q, mailbox %q; want %q, %q, %q", tt.sent,
					got.User, got.Authorize, got.Mailbox, tt.want.User, tt.want.Authorize, tt.want.Mailbox)
			}
			if got.Secret.Reveal() != "pw" || got.Client != from("").Client || got.Listener != "usual" {
				t.Errorf("the rest has changed: %+v", got)
			}
		})
	}
}

func TestFoldersThatAreNone(t *testing.T) {
	s := route.New(table(t, route.Route{Name: "it", Folders: route.PlusFolders, Store: &recorder{}}), route.Trace{})
	for _, folder := range []string{"*", "W%", "..", "../bob", "a/../../b", "a//b", "a/", "/etc/passwd", "~bob/mail", "#news.x", "{imap.example.net:143}INBOX",
		"a{5}", "a\\b", ".hidden", "./a", "bad\xff", "a\x7fb", strings.Repeat("x", route.MaxFolder+1)} {
		if _, err := where(t, s, from("alice+"+folder)); err == nil {
			t.Errorf("the folder %.40q was let through", folder)
		} else {
			wantKind(t, folder, err, upstream.Refused, "")
		}
	}
}

func TestTemplatesThatAreNone(t *testing.T) {
	for _, text := range []string{"{", "}", "{}", "a{user", "user}", "{{user}}", "{us{er}"} {
		if _, err := route.ParseTemplate(text); err == nil {
			t.Errorf("ParseTemplate(%q) succeeded", text)
		}
	}
}

func TestAnEmptyUserIsRefused(t *testing.T) {
	s := route.New(table(t, route.Route{Name: "it", User: template(t, "{domain}"), Store: &recorder{}}), route.Trace{})
	_, err := where(t, s, from("alice"))
	wantKind(t, "no domain", err, upstream.Refused, "empty user")
}

func TestAnAuthorizationIdentityNeedsARouteThatAllowsIt(t *testing.T) {
	store := &recorder{}
	s := route.New(table(t,
		route.Route{Name: "open", Match: route.Match{Users: []string{"chief"}}, ClientAuthorize: true, Store: store},
		route.Route{Name: "closed", Store: store},
	), route.Trace{})
	login := func(user, authorize string) error {
		c := from(user)
		c.Authorize = authorize
		_, err := where(t, s, c)
		return err
	}
	if err := login("chief", "alice"); err != nil || store.last(t).Authorize != "alice" {
		t.Errorf("where it is allowed: %v, %+v", err, store.got)
	}
	wantKind(t, "where it is not", login("bob", "alice"), upstream.Refused, "authorization identity")
	if err := login("bob", "bob"); err != nil || store.last(t).Authorize != "" {
		t.Errorf("the user's own name: %v, %+v", err, store.got)
	}
}

func TestStepsComeInOrder(t *testing.T) {
	store := &recorder{}
	var order []string
	step := func(name string, change func(*upstream.Credentials)) route.Step {
		return func(_ context.Context, c upstream.Credentials) (upstream.Credentials, error) {
			order = append(order, name+" "+c.User)
			change(&c)
			return c, nil
		}
	}
	s := route.New(table(t, route.Route{Name: "it", Folders: route.PlusFolders, User: template(t, "{local}-upstream"), Store: store,
		Prove: step("prove", func(c *upstream.Credentials) { c.User, c.Mailbox = "of the account", "of the account" }),
		Steps: []route.Step{
			step("first", func(c *upstream.Credentials) { c.Authorize = c.User }),
			step("second", func(c *upstream.Credentials) { c.User = "token" }),
		},
	}), route.Trace{})
	if _, err := where(t, s, from("alice@x")); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(order, ", "), "prove alice@x, first alice-upstream, second alice-upstream"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
	if c := store.last(t); c.User != "token" || c.Authorize != "alice-upstream" || c.Mailbox != "of the account" {
		t.Errorf("the store got %+v", c)
	}
}

func TestAFailedProofOrStepEndsTheLogin(t *testing.T) {
	fail := func(kind upstream.Kind) route.Step {
		return func(_ context.Context, c upstream.Credentials) (upstream.Credentials, error) {
			return c, &upstream.Error{Kind: kind, Op: "step", Sent: true, Err: errBroken}
		}
	}
	store := &recorder{}
	for _, r := range []route.Route{
		{Name: "prove", Prove: fail(upstream.Refused), Steps: []route.Step{pass}, Store: store},
		{Name: "prove", Prove: fail(upstream.Unavailable), Steps: []route.Step{pass}, Store: store},
		{Name: "step", Prove: pass, Steps: []route.Step{pass, fail(upstream.Internal), pass}, Store: store},
	} {
		_, err := where(t, route.New(table(t, r), route.Trace{}), from("alice"))
		wantKind(t, r.Name, err, upstream.KindOf(err), "route "+r.Name)
		if e, ok := err.(*upstream.Error); !ok || !e.Sent {
			t.Errorf("%v: Sent is lost", err)
		}
	}
	if len(store.got) > 0 {
		t.Errorf("the store was asked: %+v", store.got)
	}
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestMasterLogsInForTheUser(t *testing.T) {
	store := &recorder{}
	file := secretFile(t, "of the master\r\n")
	s := route.New(table(t, route.Route{Name: "it", Prove: pass, User: template(t, "{local}"), Steps: []route.Step{route.Master("gate", file)}, Store: store}), route.Trace{})
	if _, err := where(t, s, from("alice@x")); err != nil {
		t.Fatal(err)
	}
	if c := store.last(t); c.User != "gate" || c.Authorize != "alice" || c.Secret.Reveal() != "of the master" || c.Proof != upstream.Password {
		t.Errorf("the store got user %q, authorize %q, secret %q", c.User, c.Authorize, c.Secret.Reveal())
	}
	// The file may change at any time.
	if err := os.WriteFile(file, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := where(t, s, from("bob")); err != nil || store.last(t).Secret.Reveal() != "another" {
		t.Errorf("after a change: %v", err)
	}
	_, err := where(t, s, from("gate@x"))
	wantKind(t, "the master itself", err, upstream.Refused, "no maildrop")
}

func TestSecretsThatAreNone(t *testing.T) {
	for name, file := range map[string]string{
		"not_there": filepath.Join(t.TempDir(), "none"), "a_folder": t.TempDir(), "empty": secretFile(t, "\n"),
		"two_lines": secretFile(t, "a\nb\n"), "too_large": secretFile(t, strings.Repeat("x", route.MaxSecret+1)),
	} {
		if _, err := route.ReadSecret(file); err == nil {
			t.Errorf("%s: was read", name)
		}
		_, err := route.PasswordFile(file)(t.Context(), from("alice"))
		wantKind(t, name, err, upstream.Internal, "")
	}
}

// However a client writes its user, guesses at it are counted as one.
func TestAccountIsOneForAllWaysToWriteAUser(t *testing.T) {
	s := route.New(table(t,
		route.Route{Name: "proved", Match: route.Match{Domains: []string{"here"}}, Folders: route.PlusFolders, Prove: pass, User: template(t, "svc"), Store: &recorder{}},
		route.Route{Name: "local", Match: route.Match{Pattern: ".+@.+"}, Folders: route.PlusFolders, User: template(t, "{local}"), Store: &recorder{}},
	), route.Trace{})
	for sent, want := range map[string]string{
		"alice@x": "alice", "alice@y": "alice", "alice+a@x": "alice", "alice@x+b": "alice",
		"alice@here": "alice@here", "alice+a@here": "alice@here", "nobody": "nobody",
	} {
		if got := s.Account(from(sent)); got != want {
			t.Errorf("Account(%q) = %q, want %q", sent, got, want)
		}
	}
}

// A client that was right is not told that it was wrong, and guesses nothing.
func TestRefusedCredentialsOfTheRouteAreNotTheClients(t *testing.T) {
	own := func(_ context.Context, c upstream.Credentials) (upstream.Credentials, error) {
		c.Secret = upstream.NewSecret("the route's")
		return c, nil
	}
	for _, tt := range []struct {
		name  string
		route route.Route
		want  upstream.Kind
	}{
		{"the_clients", route.Route{}, upstream.Refused},
		{"the_clients_behind_a_proof", route.Route{Prove: pass, Steps: []route.Step{pass}}, upstream.Refused},
		{"of_a_step", route.Route{Prove: pass, Steps: []route.Step{own}}, upstream.Internal},
		{"of_the_account", route.Route{Prove: own}, upstream.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.route.Name, tt.route.Store = "it", &recorder{err: &upstream.Error{Kind: upstream.Refused, Op: "login"}}
			_, err := where(t, route.New(table(t, tt.route), route.Trace{}), from("alice"))
			if got := upstream.KindOf(err); got != tt.want {
				t.Errorf("%v: kind %v, want %v", err, got, tt.want)
			}
		})
	}
}
