package realtest

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/popgate/popgate/deploy/lab"
)

// What only a real server can say of routes: that it takes a master user in both
// forms, and knows the mailbox that a client asks for.
func TestRoutes(t *testing.T) {
	b := newBench(t, "routes with master users and folders")
	if b.front != "" {
		t.Skip("these are rules of the gateway, which is not the front end here")
	}
	report.guard(t, "dovecot", "", "")
	s := b.start(t, "dovecot")
	user, pass := lab.User(3)
	c := openIMAP(t, s.IMAP, user, pass)
	c.deliver(t, newMessage(user, "first", 1, "", "one\r\n"), newMessage(user, "second", 2, "", "two\r\n"))
	c.must(t, "CREATE %q", "Gr&APwA3w-e/2026")
	c.must(t, "SELECT INBOX")
	c.must(t, "COPY 1 %q", "Gr&APwA3w-e/2026")
	c.must(t, "LOGOUT")

	f := &front{pop3: freePort(t)}
	config := filepath.Join(b.Dir(), "routes.yaml")
	for file, text := range map[string]string{
		config: fmt.Sprintf(`listen: ["pop3://%[1]s"]
upstreams:
  - {name: identity, url: "imap://%[2]s", hierarchy: /}
  - {name: separator, url: "imap://%[2]s", master-separator: "*"}
throttle: {delay: 0s}
accounts: {file: routes.accounts}
routes:
  - {name: identity, match: {users: device}, upstream: identity, accounts: true, user: %[3]q, master: {user: %[4]s, password-file: routes.secret}}
  - {name: separator, match: {users: fax}, upstream: separator, accounts: true, user: %[3]q, master: {user: %[4]s, password-file: routes.secret}}
  - {name: chief, match: {users: %[4]s}, upstream: identity, client-authorize: true}
  - {name: folders, match: {domains: folders.test}, upstream: identity, user: "{local}@example.test", folders: plus}
`, f.pop3, s.IMAP, user, lab.DovecotMaster),
		filepath.Join(b.Dir(), "routes.accounts"): "device::shared-secret=of%20the%20device\nfax::shared-secret=of%20the%20fax\n",
		filepath.Join(b.Dir(), "routes.secret"):   lab.DovecotMasterPassword + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.serve(t, f, "routes", "--config", config)

	local := strings.TrimSuffix(user, "@example.test")
	visit := func(login func(t *testing.T, p *pop), want string) func(t *testing.T) {
		return func(t *testing.T) {
			p := dialPOP(t, f.pop3)
			login(t, p)
			if got := p.ok(t, "STAT"); !strings.HasPrefix(got, want) {
				t.Errorf("STAT: %q, want %s", got, want)
			}
			p.ok(t, "QUIT")
		}
	}
	as := func(user, pass string) func(t *testing.T, p *pop) {
		return func(t *testing.T, p *pop) { p.ok(t, "USER %s", user); p.ok(t, "PASS %s", pass) }
	}
	plain := func(identity, user, pass string) string {
		return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte(identity+"\x00"+user+"\x00"+pass))
	}
	for _, tt := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"a_master_by_an_authorization_identity", visit(as("device", "of the device"), "+OK 2 ")},
		{"a_master_by_a_separator", visit(as("fax", "of the fax"), "+OK 2 ")},
		{"no_master_without_the_account", func(t *testing.T) {
			loginFails(t, f.pop3, "device", "of the fax", "AUTH")
			loginFails(t, f.pop3, "device", lab.DovecotMasterPassword, "AUTH")
		}},
		{"a_client_names_the_user_itself", visit(func(t *testing.T, p *pop) {
			p.ok(t, "%s", plain(user, lab.DovecotMaster, lab.DovecotMasterPassword))
		}, "+OK 2 ")},
		{"only_where_the_route_allows_it_and_the_server", func(t *testing.T) {
			other, otherPass := lab.User(4)
			dialPOP(t, f.pop3).refused(t, "AUTH", "%s", plain(user, strings.Replace(other, "example", "folders", 1), otherPass))
			dialPOP(t, f.pop3).refused(t, "AUTH", "%s", plain(user, lab.DovecotMaster, "wrong"))
		}},
		{"the_usual_mailbox", visit(as(local+"@folders.test", pass), "+OK 2 ")},
		{"a_folder_before_the_domain", visit(as(local+"+Gr\u00fc\u00dfe/2026@folders.test", pass), "+OK 1 ")},
		{"a_folder_behind_the_domain", visit(as(local+"@folders.test+Gr\u00fc\u00dfe/2026", pass), "+OK 1 ")},
		{"a_folder_that_is_not_there", func(t *testing.T) {
			p := dialPOP(t, f.pop3)
			p.ok(t, "USER %s+None@folders.test", local)
			p.refused(t, "SYS/PERM", "PASS %s", pass)
		}},
	} {
		report.leaf(t, "dovecot", "routes", "", tt.name, func(t *testing.T) {
			tt.run(t)
			if t.Failed() {
				t.Logf("gateway:\n%s", f.tail())
			}
		})
	}
	report.progress("dovecot", "routes")
}
