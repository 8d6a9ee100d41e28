package config_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// beside writes a file into the folder of a configuration.
func beside(t *testing.T, file, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOAuthPresetsNeedLittle(t *testing.T) {
	file := complete(t, `
oauth:
  folder: tokens
  key-file: key
  every: 12h
  grants:
    - {name: office, provider: microsoft, tenant: example.com, client-id: id}
    - {name: gmail, provider: google, client-id: id, client-secret-file: key}
    - {name: app, provider: microsoft, tenant: example.com, kind: client-credentials, client-id: id, client-secret-file: key, mailboxes: [a@example.com, b@example.com]}
    - {name: robot, provider: google, kind: service-account, service-account-file: sa.json, mailboxes: [a@example.com]}
`)
	beside(t, file, "key", []byte("a secret of 32 octets and more, at random\n"))
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "svc@example.com",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err != nil {
		t.Fatal(err)
	}
	beside(t, file, "sa.json", account)
	c, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o := c.OAuth; o.Folder != filepath.Join(filepath.Dir(file), "tokens") || o.Every != 12*time.Hour || len(o.Grants) != 4 {
		t.Errorf("OAuth = %+v", o)
	}
	for i, want := range []struct {
		token, scope string
		appOnly      bool
		del          string
	}{
		{"https://login.microsoftonline.com/example.com/oauth2/v2.0/token", "https://outlook.office.com/IMAP.AccessAsUser.All", false, "expunge"},
		{"https://oauth2.googleapis.com/token", "https://mail.google.com/", false, "trash"},
		{"https://login.microsoftonline.com/example.com/oauth2/v2.0/token", "https://outlook.office365.com/.default", true, "expunge"},
		{"https://oauth2.googleapis.com/token", "https://mail.google.com/", true, "trash"},
	} {
		g := c.OAuth.Grants[i]
		o, err := g.Options(new(tokenfile.Folder))
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := oauth.New(o)
		if err != nil {
			t.Fatal(err)
		}
		preset, err := g.Preset()
		if err != nil || o.Endpoint.Token != want.token || o.Scopes[0] != want.scope || tokens.AppOnly() != want.appOnly || preset.Delete != want.del {
			t.Errorf("grant %s: %v, app-only %v, delete %s, %v", g.Name, o.Endpoint, tokens.AppOnly(), preset.Delete, err)
		}
	}
}

func TestOAuthProblems(t *testing.T) {
	const start = "oauth: {folder: tokens, key-env: KEY, grants: [{name: g, "
	for _, tt := range []struct{ name, text, want string }{
		{"no_name", "oauth: {folder: tokens, key-env: KEY, grants: [{provider: google, client-id: id}]}", "oauth.grants[0]: the name is missing"},
		{"no_client", start + "provider: google}]}", "oauth.grants[0]: the client id is missing"},
		{"no_url", start + "client-id: id}]}", "oauth.grants[0]: the token endpoint is missing"},
		{"clear_text", start + "client-id: id, token-url: 'http://issuer.test/'}]}", "must begin with https://"},
		{"bad_tenant", start + "provider: microsoft, tenant: a/b, client-id: id}]}", `"a/b" is no id and no domain`},
		{"tenant_of_another", start + "provider: google, tenant: a, client-id: id}]}", "tenant goes with provider: microsoft"},
		{"no_tenant", start + "provider: microsoft, kind: client-credentials, client-id: id, client-secret-file: s, mailboxes: [a]}]}", "the tenant is missing"},
		{"no_list", start + "provider: microsoft, tenant: a, kind: client-credentials, client-id: id, client-secret-file: s}]}", "list those that it may open"},
		{"a_pattern", start + "provider: microsoft, tenant: a, kind: client-credentials, client-id: id, client-secret-file: s, mailboxes: ['*']}]}", "one by one"},
		{"no_secret", start + "provider: microsoft, tenant: a, kind: client-credentials, client-id: id, mailboxes: [a]}]}", "need a secret or a key"},
		{"no_secret_file", start + "provider: google, client-id: id, client-secret-file: none}]}", "none cannot be read"},
		{"half_a_pair", start + "provider: google, client-id: id, client-cert: s}]}", "go together"},
		{"no_account_file", start + "provider: google, kind: service-account, service-account-file: s, mailboxes: [a]}]}", "no key file of a service account"},
		{"no_folder", "oauth: {key-env: KEY, grants: [{name: g, provider: google, client-id: id}]}", "oauth: folder is missing"},
		{"no_key", "oauth: {folder: t, grants: [{name: g, provider: google, client-id: id}]}", "give one of key-file"},
		{"two_keys", "oauth: {folder: t, key-env: KEY, key-file: s, grants: [{name: g, provider: google, client-id: id}]}", "give one of key-file"},
		{"no_key_file", "oauth: {folder: t, key-file: none, grants: [{name: g, provider: google, client-id: id}]}", "oauth.key-file: "},
		{"a_credential_that_is_a_path", "oauth: {key-credential: ../x}", "oauth.key-credential"},
		{"twice", start + "provider: google, client-id: id}, {name: g, provider: google, client-id: id}]}", "another grant has the name g"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := complete(t, tt.text+"\n")
			beside(t, file, "s", []byte("secret-canary\n"))
			_, err := config.Load(file, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("Load = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTokenKey(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cred"), []byte("from systemd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(name string) string {
		return map[string]string{"KEY": "from env", "CREDENTIALS_DIRECTORY": dir}[name]
	}
	for _, tt := range []struct {
		key  config.TokenKey
		want string
	}{
		{config.TokenKey{Env: "KEY"}, "from env"}, {config.TokenKey{Credential: "cred"}, "from systemd"},
		{config.TokenKey{File: filepath.Join(dir, "cred")}, "from systemd"}, {config.TokenKey{Env: "NONE"}, ""}, {config.TokenKey{Credential: "none"}, ""},
	} {
		if got, err := tt.key.Read(env); got.Reveal() != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%+v: %q, %v", tt.key, got.Reveal(), err)
		}
	}
	if _, err := (config.TokenKey{Credential: "cred"}).Read(func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "LoadCredential") {
		t.Errorf("without systemd: %v", err)
	}
}

// An expunge at Gmail takes a label away and deletes nothing.
func TestGmailWarns(t *testing.T) {
	for url, want := range map[string]int{"imaps://imap.gmail.com": 1, "imaps://imap.googlemail.com": 1, "imaps://imap.example.net": 0} {
		for del, more := range map[string]int{"expunge": want, "trash": 0} {
			c, err := config.Load("", config.Flags{"listen": {"pop3://127.0.0.1:1"}, "upstream": {url}, "delete": {del}})
			if err != nil {
				t.Fatal(err)
			}
			if w := c.Warnings(time.Now()); len(w) != more {
				t.Errorf("%s, %s: %q", url, del, w)
			}
		}
	}
}
