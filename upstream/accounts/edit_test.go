package accounts_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/accounts"
)

func ptr[T any](v T) *T { return &v }

func secret(s string) *upstream.Secret { return ptr(upstream.NewSecret(s)) }

func content(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEdit(t *testing.T) {
	const before = "# first\nalice:" + cheapArgon + ":mailbox=Fax\r\n\n  \nBob::shared-secret=x"
	for _, tt := range []struct {
		name   string
		user   string
		change accounts.Change
		want   string // of the whole file; HASH is any
	}{
		{"a_new_account_comes_last", "carol", accounts.Change{Password: secret("pw")}, before + "\ncarol:HASH\n"},
		{"a_password_leaves_the_attributes", "alice", accounts.Change{Password: secret("pw")},
			"# first\nalice:HASH:mailbox=Fax\n\n  \nBob::shared-secret=x\n"},
		{"a_shared_secret_leaves_the_hash", "alice", accounts.Change{SharedSecret: secret("a:b%")},
			"# first\nalice:" + cheapArgon + ":shared-secret=a%3Ab%25:mailbox=Fax\n\n  \nBob::shared-secret=x\n"},
		{"an_account_is_found_in_any_case", "bOB", accounts.Change{External: ptr(true), UpstreamUser: ptr("rob"), UpstreamPassword: secret("up")},
			strings.Replace(before, "Bob::shared-secret=x", "Bob::shared-secret=x:external:upstream-user=rob:upstream-password=up\n", 1)},
		{"an_empty_value_takes_away", "alice", accounts.Change{Mailbox: ptr("")},
			"# first\nalice:" + cheapArgon + "\n\n  \nBob::shared-secret=x\n"},
		{"delete", "alice", accounts.Change{Delete: true}, "# first\n\n  \nBob::shared-secret=x\n"},
		{"a_name_that_looks_like_a_comment", "#x", accounts.Change{External: ptr(true)}, before + "\n%23x::external\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, before)
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := accounts.Edit(file, tt.user, tt.change); err != nil {
				t.Fatal(err)
			}
			hash := regexp.MustCompile(`\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}`)
			if got := hash.ReplaceAllString(content(t, file), "HASH"); got != tt.want {
				t.Errorf("the file is\n%q\nwant\n%q", got, tt.want)
			}
			if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
				t.Errorf("the mode is %v, %v; want 0600", info.Mode(), err)
			}
			if _, err := accounts.Open(accounts.Options{File: file}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEditedPasswordProves(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new")
	if err := accounts.Edit(file, "alice", accounts.Change{Password: secret("two words: 100%")}); err != nil {
		t.Fatal(err)
	}
	a, err := accounts.Open(accounts.Options{File: file})
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"two words: 100%": true, "two words": false} {
		if _, err := a.Prove(t.Context(), upstream.Credentials{User: "alice", Secret: upstream.NewSecret(password)}); (err == nil) != want {
			t.Errorf("Prove(%q) = %v", password, err)
		}
	}
}

func TestEditChangesNothingWhereItFails(t *testing.T) {
	for _, tt := range []struct {
		name, before, user string
		change             accounts.Change
	}{
		{"a_file_with_problems", "alice::external\nbob\n", "alice", accounts.Change{Delete: true}},
		{"nobody_could_log_in", "alice::external\n", "alice", accounts.Change{External: ptr(false)}},
		{"no_name", "alice::external\n", "", accounts.Change{External: ptr(true)}},
		{"a_control_character", "alice::external\n", "a\nb", accounts.Change{External: ptr(true)}},
		{"a_line_end_in_a_secret", "alice::external\n", "alice", accounts.Change{SharedSecret: secret("x\nroot::external")}},
		{"not_there", "alice::external\n", "bob", accounts.Change{Delete: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, tt.before)
			err := accounts.Edit(file, tt.user, tt.change)
			if err == nil || content(t, file) != tt.before {
				t.Errorf("Edit() = %v, and the file is %q; want an error and no change", err, content(t, file))
			}
			if tt.name == "not_there" && !errors.Is(err, accounts.ErrNoAccount) {
				t.Errorf("Edit() = %v, want ErrNoAccount", err)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
				t.Errorf("%q is left", left)
			}
		})
	}
}

// Of edits at once some fail; none of those that do not is lost.
func TestEditsExcludeEachOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accounts")
	var wg sync.WaitGroup
	done := make([]bool, 40)
	for i := range done {
		wg.Go(func() {
			done[i] = accounts.Edit(file, strings.Repeat("x", i+1), accounts.Change{External: ptr(true)}) == nil
		})
	}
	wg.Wait()
	text := content(t, file)
	some := false
	for i, ok := range done {
		some = some || ok
		if line := "\n" + strings.Repeat("x", i+1) + "::external\n"; ok != strings.Contains("\n"+text, line) {
			t.Errorf("edit %d: done is %v, and the file is %q", i, ok, text)
		}
	}
	if !some {
		t.Error("no edit was made")
	}
}

func TestEditKeepsALink(t *testing.T) {
	file := write(t, "alice::external\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Skip(err)
	}
	if err := accounts.Edit(link, "bob", accounts.Change{External: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	if got := content(t, file); got != "alice::external\nbob::external\n" {
		t.Errorf("the file behind the link is %q", got)
	}
}
