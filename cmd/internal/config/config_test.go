package config_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/cmd/internal/config"
)

var update = flag.Bool("update", false, "write the .want files of testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden compares got with the .want file beside a .yaml file.
func golden(t *testing.T, yaml, got string) {
	t.Helper()
	name := strings.TrimSuffix(yaml, ".yaml") + ".want"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("Load(%s):\ngot:\n%s\nwant:\n%s", yaml, got, want)
	}
}

func asJSON(t *testing.T, c config.Config) string {
	t.Helper()
	out, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

func corpus(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/%s: %v", dir, err)
	}
	return files
}

func TestBadFiles(t *testing.T) {
	for _, file := range corpus(t, "bad") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			c, err := config.Load(file, nil)
			if err == nil {
				t.Fatalf("Load(%s) = %+v, want an error", file, c)
			}
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Errorf("Load(%s): the error is a %T, want Problems", file, err)
			}
			golden(t, file, err.Error()+"\n")
		})
	}
}

func TestGoodFiles(t *testing.T) {
	for _, file := range corpus(t, "good") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			c, err := config.Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, asJSON(t, c))
		})
	}
}

// complete is a file that needs nothing more.
func complete(t *testing.T, more string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "popgate.yaml")
	text := "listen: [pop3://127.0.0.1:1110, pop3://127.0.0.1:2110]\nupstream: {url: imap://127.0.0.1:1143}\n" + more
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		name  string
		file  string
		flags config.Flags
		check func(config.Config) any
		want  any
	}{
		{"a_flag_overrides_the_file", "delete: hide", config.Flags{"delete": {"refuse"}},
			func(c config.Config) any { return c.Delete }, config.Refuse},
		{"the_file_stays_where_no_flag_is_given", "delete: hide", config.Flags{"seen": {"retr"}},
			func(c config.Config) any { return c.Delete }, config.Hide},
		{"listen_replaces_the_whole_list", "", config.Flags{"listen": {"pop3://[::1]:3110"}},
			func(c config.Config) any { return c.Listen }, []config.Listen{{Host: "::1", Port: 3110}}},
		{"listen_repeats", "", config.Flags{"listen": {"pop3://[::1]:1", "pop3://127.0.0.1:1"}},
			func(c config.Config) any { return len(c.Listen) }, 2},
		{"two_free_ports_are_not_the_same", "", config.Flags{"listen": {"pop3://127.0.0.1:0", "pop3://127.0.0.1:0"}},
			func(c config.Config) any { return len(c.Listen) }, 2},
		{"files_of_flags_are_relative_to_the_working_folder", "tls: {cert: none, key: none}",
			config.Flags{"tls-cert": {"testdata/tls/cert.pem"}, "tls-key": {"testdata/tls/key.pem"}},
			func(c config.Config) any { return c.TLS.Cert }, "testdata/tls/cert.pem"},
		{"drain", "drain: 1s", config.Flags{"drain": {"2s"}}, func(c config.Config) any { return c.Drain }, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Load(complete(t, tt.file), tt.flags)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.check(c); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestFlagsAloneMessages(t *testing.T) {
	const listen, upstream = "pop3://127.0.0.1:1110", "imap://127.0.0.1"
	for _, tt := range []struct {
		name  string
		flags config.Flags
		want  string
	}{
		{"nothing", nil, "--listen is missing; give one, such as --listen pop3://127.0.0.1:1110\n" +
			"--upstream is missing; give one, such as --upstream imaps://imap.example.net"},
		{"a_bad_value", config.Flags{"listen": {listen}, "upstream": {upstream}, "delete": {"purge"}},
			`--delete: "purge" is not accepted; use expunge, trash, hide or refuse`},
		{"a_rule_over_two_flags", config.Flags{"listen": {listen}, "upstream": {upstream}, "tls-key": {"k"}},
			"--tls-key: the certificate is missing; give tls.cert (--tls-cert) too"},
		{"a_file_that_is_not_there", config.Flags{"listen": {listen}, "upstream": {upstream}, "upstream-ca": {"none.pem"}},
			"--upstream-ca: none.pem cannot be read: no such file or directory; is the name right?"},
		{"an_unknown_flag", config.Flags{"listen": {listen}, "upstream": {upstream}, "colour": {"red"}}, "--colour: no such flag"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load("", tt.flags)
			if err == nil || err.Error() != tt.want {
				t.Errorf("Load(%v):\ngot:  %v\nwant: %s", tt.flags, err, tt.want)
			}
		})
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(big, make([]byte, config.MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, file, want string }{
		{"not_there", "testdata/none.yaml", "testdata/none.yaml: cannot be read: no such file or directory; is the name right?"},
		{"a_folder", "testdata", "testdata: cannot be read: is a directory"},
		{"too_large", big, big + ": larger than 1048576 octets, which no file of this kind needs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(tt.file, nil)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// The reference says what the defaults are, and leaves no key out.
func TestReferenceIsTheDefault(t *testing.T) {
	got, err := config.Load("reference.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Listen = []config.Listen{{Host: "127.0.0.1", Port: 1110}, {Host: "::1", Port: 1110}}
	want.Upstreams = []config.Upstream{{Name: config.TheUpstream, Host: "imap.example.net", Port: 993, TLS: true, Mailbox: "INBOX"}}
	want.Routes = []config.Route{{Name: "all", Upstream: config.TheUpstream, Folders: config.NoFolders, Delete: config.Expunge}}
	if got, want := asJSON(t, got), asJSON(t, want); got != want {
		t.Errorf("reference.yaml:\ngot  %s\nwant %s", got, want)
	}
	for _, key := range config.KeyNames() {
		name := key[strings.LastIndexByte(key, '.')+1:]
		if !slices.ContainsFunc(strings.Split(config.Reference(), "\n"), func(line string) bool {
			return strings.HasPrefix(strings.TrimLeft(line, " #-"), name+":")
		}) {
			t.Errorf("reference.yaml does not name %s", key)
		}
	}
}

func TestWarnings(t *testing.T) {
	now := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	plain := config.Default()
	if got := plain.Warnings(now); len(got) != 0 {
		t.Errorf("the defaults warn: %q", got)
	}
	c := plain
	c.ClearText, c.Lock.Enabled, c.Metrics = true, false, "0.0.0.0:9110"
	if got := c.Warnings(now); len(got) != 3 {
		t.Errorf("Warnings() = %q, want three", got)
	}
	c = plain
	c.Accounts.File, c.Routes = filepath.Join(t.TempDir(), "accounts"), []config.Route{{Name: "everybody", Accounts: true}}
	if err := os.WriteFile(c.Accounts.File, []byte("alice::shared-secret=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.Warnings(now); len(got) != 0 {
		t.Errorf("accounts that the owner alone can read warn: %q", got)
	}
	if err := os.Chmod(c.Accounts.File, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := c.Warnings(now); len(got) != 1 || !strings.Contains(got[0], "chmod 600") {
		t.Errorf("secrets that everybody can read: %q", got)
	}
	c = plain
	c.TLS = config.TLS{Cert: "testdata/tls/cert.pem", Key: "testdata/tls/key.pem"}
	if got := c.Warnings(time.Date(2026, time.December, 31, 0, 0, 0, 0, time.UTC)); len(got) != 0 {
		t.Errorf("a certificate that holds warns: %q", got)
	}
	if got := c.Warnings(now.AddDate(200, 0, 0)); len(got) != 1 || !strings.Contains(got[0], "expired on 2126-") {
		t.Errorf("a certificate that has expired: %q", got)
	}
}

func TestCertificatesOfListenersWarn(t *testing.T) {
	c, err := config.Load("testdata/good/listen_one_section.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := c.Warnings(time.Date(2226, time.January, 1, 0, 0, 0, 0, time.UTC))
	if len(got) != 1 || !strings.HasPrefix(got[0], "listen[0].legacy.cert: testdata/tls/rsa-cert.pem expired on 2126-") {
		t.Errorf("a certificate for old devices that has expired: %q", got)
	}
}

func TestCertificates(t *testing.T) {
	pair := config.TLS{Cert: "testdata/tls/cert.pem", Key: "testdata/tls/key.pem"}
	cert, err := pair.Certificate()
	if err != nil || cert.Leaf == nil {
		t.Errorf("Certificate() = %v, %v", cert.Leaf, err)
	}
	roots, err := config.Upstream{CA: "testdata/tls/cert.pem"}.Roots()
	if err != nil || roots == nil {
		t.Errorf("Roots() = %v, %v", roots, err)
	}
	if roots, err := (config.Upstream{}).Roots(); err != nil || roots != nil {
		t.Errorf("Roots() without a file = %v, %v; want nil, nil", roots, err)
	}
}
