package accounts_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/accounts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Hashes of "pw" that cost little.
const (
	cheapArgon  = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$+mWg7mpD2vPhffa1AWlDXg"
	cheapBcrypt = "$2y$04$LWKKHarEEjljXlaU0M.lsezTE/DeXqyTlz5VsCn.7DoK69uEayu2e"
)

// write makes a file of accounts.
func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "accounts")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func open(t *testing.T, text string) *accounts.Accounts {
	t.Helper()
	a, err := accounts.Open(accounts.Options{File: write(t, text)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// everything has an account of each kind.
const everything = `# accounts of a test
alice:` + cheapArgon + `

bob@example.net:` + cheapBcrypt + `:upstream-user=robert:upstream-password=a%3Ab%25:mailbox=Entwürfe
fax::shared-secret=tanstaaf
fax2::shared-secret=tanstaaf:upstream-password=up
both:` + cheapArgon + `:shared-secret=tanstaaf
carol::external:upstream-user=caroline:upstream-password=up
dave::external
`

func TestProve(t *testing.T) {
	a := open(t, everything)
	with := func(user, secret string, p upstream.Proof) upstream.Credentials {
		return upstream.Credentials{User: user, Secret: upstream.NewSecret(secret), Proof: p, Listener: "kept"}
	}
	const password, shared, external, bearer = upstream.Password, upstream.Shared, upstream.External, upstream.Bearer
	for _, tt := range []struct {
		name  string
		given upstream.Credentials
		want  upstream.Credentials // zero: refused
	}{
		{"a_right_password_goes_on_as_it_is", with("alice", "pw", password), with("alice", "pw", password)},
		{"the_case_of_a_name_is_no_matter", with("ALICE", "pw", password), with("ALICE", "pw", password)},
		{"a_wrong_password", with("alice", "pW", password), upstream.Credentials{}},
		{"no_password", with("alice", "", password), upstream.Credentials{}},
		{"no_such_account", with("mallory", "pw", password), upstream.Credentials{}},
		{"no_name", with("", "pw", password), upstream.Credentials{}},
		{"a_comment_is_no_account", with("# accounts of a test", "", password), upstream.Credentials{}},
		{"what_the_account_has_is_put_in_place", with("bob@example.net", "pw", password),
			upstream.Credentials{User: "robert", Secret: upstream.NewSecret("a:b%"), Mailbox: "Entwürfe", Listener: "kept"}},
		{"the_upstream_password_proves_nothing", with("bob@example.net", "a:b%", password), upstream.Credentials{}},
		{"a_hash_is_no_password", with("alice", cheapArgon, password), upstream.Credentials{}},
		{"a_shared_secret_goes_on_as_the_password", with("fax", "tanstaaf", shared), with("fax", "tanstaaf", password)},
		{"a_shared_secret_is_the_password_where_there_is_no_hash", with("fax", "tanstaaf", password), with("fax", "tanstaaf", password)},
		{"a_wrong_password_where_there_is_no_hash", with("fax", "pw", password), upstream.Credentials{}},
		{"where_there_is_a_hash_it_is_not", with("both", "tanstaaf", password), upstream.Credentials{}},
		{"the_hash_is_where_there_is_a_shared_secret", with("both", "pw", password), with("both", "pw", password)},
		{"a_shared_secret_is_replaced_upstream", with("fax2", "tanstaaf", shared), with("fax2", "up", password)},
		{"a_client_that_proved_nothing", with("fax", "", shared), upstream.Credentials{}},
		{"nothing_is_no_shared_secret_of_an_account_without", with("alice", "", shared), upstream.Credentials{}},
		{"the_password_is_no_shared_secret", with("alice", "pw", shared), upstream.Credentials{}},
		{"nobody_proved_nothing", with("mallory", "", shared), upstream.Credentials{}},
		{"a_certificate", with("carol", "", external), upstream.Credentials{User: "caroline", Secret: upstream.NewSecret("up"), Listener: "kept"}},
		{"a_certificate_goes_on_where_there_is_no_password", with("dave", "", external), with("dave", "", external)},
		{"a_certificate_for_an_account_that_takes_none", with("alice", "", external), upstream.Credentials{}},
		{"a_certificate_of_nobody", with("mallory", "", external), upstream.Credentials{}},
		{"who_takes_a_certificate_takes_no_empty_password", with("carol", "", password), upstream.Credentials{}},
		{"a_token_proves_nothing_here", with("alice", "pw", bearer), upstream.Credentials{}},
		{"nobody_else_s_maildrop", upstream.Credentials{User: "bob@example.net", Secret: upstream.NewSecret("pw"), Authorize: "alice"}, upstream.Credentials{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := a.Prove(t.Context(), tt.given)
			if tt.want.User == "" {
				if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != upstream.Refused {
					t.Errorf("Prove() = %v, %v; want an error of kind refused", got.User, err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("Prove() = %+v (%q), %v; want %+v (%q)", got, got.Secret.Reveal(), err, tt.want, tt.want.Secret.Reveal())
			}
		})
	}
}

// An unknown user must cost what a known one does, and not always the same where
// the known ones do not: then the time tells nothing.
func TestEveryPasswordCostsOneHashOfAnAccount(t *testing.T) {
	a := open(t, everything)
	var costs []string
	a.OnHash(func(cost string) { costs = append(costs, cost) })
	try := func(user, password string) string {
		t.Helper()
		costs = nil
		a.Prove(t.Context(), upstream.Credentials{User: user, Secret: upstream.NewSecret(password)})
		if len(costs) != 1 {
			t.Fatalf("the password of %q cost %q, want one hash", user, costs)
		}
		return costs[0]
	}
	const argon, bcrypt = "argon2id m=8 t=1 p=1", "bcrypt 04"
	for user, want := range map[string]string{"alice": argon, "bob@example.net": bcrypt, "both": argon} {
		for _, password := range []string{"pw", "wrong"} {
			if got := try(user, password); got != want {
				t.Errorf("the password of %q cost %q, want its own hash", user, got)
			}
		}
	}
	seen := map[string]int{}
	for i := range 60 {
		user := "nobody" + strings.Repeat("x", i)
		cost := try(user, "pw")
		if again := try(strings.ToUpper(user), "other"); again != cost {
			t.Fatalf("%q cost %q, then %q", user, cost, again)
		}
		seen[cost]++
	}
	if len(seen) != 2 || seen[argon] < seen[bcrypt] { // 2 of 3 hashes
		t.Errorf("unknown users cost %v, want what the accounts do", seen)
	}
	for _, user := range []string{"fax", "carol"} { // without a hash
		try(user, "pw")
	}
	empty := open(t, "# nobody yet\n")
	empty.OnHash(func(cost string) { costs = append(costs, cost) })
	costs = nil
	empty.Prove(t.Context(), upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")})
	if len(costs) != 1 {
		t.Errorf("a password cost %q without accounts, want one hash", costs)
	}
}

func TestFewPasswordsAreHashedAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := accounts.Open(accounts.Options{File: write(t, everything), Hashes: 1})
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		hashing := 0
		a.OnHash(func(string) { hashing++; <-release })
		c := upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")}
		first := make(chan error)
		go func() { _, err := a.Prove(t.Context(), c); first <- err }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := a.Prove(ctx, c); upstream.KindOf(err) != upstream.Unavailable || hashing != 1 {
			t.Errorf("Prove() beside another = %v with %d hashes under way; want an error of kind unavailable", err, hashing)
		}
		close(release)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if _, err := a.Prove(t.Context(), c); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestSharedSecret(t *testing.T) {
	a := open(t, everything)
	for user, want := range map[string]string{"fax": "tanstaaf", "FAX": "tanstaaf", "both": "tanstaaf", "alice": "", "mallory": "", "": ""} {
		if s, ok := a.SharedSecret(user); s.Reveal() != want || ok != (want != "") {
			t.Errorf("SharedSecret(%q) = %q, %v; want %q", user, s.Reveal(), ok, want)
		}
	}
}

func TestExposed(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string
		mode os.FileMode
		want bool
	}{
		{"secrets_for_all", everything, 0o644, true},
		{"secrets_for_a_group", everything, 0o640, false},
		{"secrets_for_the_owner", everything, 0o600, false},
		{"hashes_for_all", "alice:" + cheapArgon + "\n", 0o644, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, tt.text)
			if err := os.Chmod(file, tt.mode); err != nil {
				t.Fatal(err)
			}
			a, err := accounts.Open(accounts.Options{File: file})
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Exposed(); got != tt.want {
				t.Errorf("Exposed() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := write(t, "alice:"+cheapArgon+"\n")
		var mu sync.Mutex
		var told []string
		tell := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, what)
		}
		a, err := accounts.Open(accounts.Options{File: file, Poll: time.Second, Trace: accounts.Trace{
			Reloaded:     func(int) { tell("reloaded") },
			ReloadFailed: func(error) { tell("failed") },
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.Watch(ctx) }()
		replace := func(text string) {
			t.Helper()
			next := file + ".new"
			if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, file)); err != nil {
				t.Fatal(err)
			}
		}
		after := func(looks int, want string) {
			t.Helper()
			time.Sleep(time.Duration(looks) * time.Second)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(told, " "); got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		after(5, "")
		replace("alice:" + cheapArgon + "\nbob:" + cheapBcrypt + "\n")
		after(1, "") // it may still be written
		after(1, "reloaded")
		if n := a.Len(); n != 2 {
			t.Errorf("%d accounts, want 2", n)
		}
		replace("alice:" + cheapArgon + "\nbob\n")
		after(10, "reloaded failed") // told once
		if n := a.Len(); n != 2 {
			t.Errorf("%d accounts beside a wrong file, want the last 2", n)
		}
		os.Remove(file)
		after(5, "reloaded failed failed")
		replace("carol:" + cheapBcrypt + "\n")
		after(5, "reloaded failed failed reloaded")
		if n := a.Len(); n != 1 {
			t.Errorf("%d accounts, want 1", n)
		}
		cancel()
		<-done
	})
}
