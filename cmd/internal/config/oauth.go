package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// OAuth is how access tokens are had.
type OAuth struct {
	Folder string        // of the refresh tokens
	Key    TokenKey      // seals them
	Every  time.Duration // each account's token is refreshed
	Grants []OAuthGrant
}

// TokenKey says where the key of the token folder is. One field is set.
type TokenKey struct {
	File       string
	Env        string // name of an environment variable
	Credential string // name of a systemd credential
}

// OAuthGrant is one registration of popgate at an issuer.
type OAuthGrant struct {
	Name     string
	Provider string // "microsoft", "google"; "" for another
	Tenant   string // of Microsoft
	Kind     oauth.Grant

	ClientID   string
	SecretFile string
	Cert, Key  string // PEM files that prove the client
	// ServiceAccount is the key file of a Google service account; it holds the
	// client id.
	ServiceAccount string
	Basic          bool // id and secret in the header

	TokenURL, DeviceURL, AuthorizeURL string
	CA                                string // PEM file of the roots to trust; "" for the system's
	Scopes                            []string
	Mailboxes                         []string // of an app-only grant

	path string
}

// Given reports whether access tokens are used.
func (o OAuth) Given() bool { return len(o.Grants) > 0 }

// oauthKey is the section oauth.
func oauthKey(o *OAuth) key {
	return key{name: "oauth", keys: []key{
		{name: "folder", accepts: "the name of a folder", file: true, set: text(&o.Folder)},
		{name: "key-file", accepts: "a file that holds a secret and nothing else", file: true, set: text(&o.Key.File)},
		{name: "key-env", accepts: "the name of an environment variable", set: text(&o.Key.Env)},
		{name: "key-credential", accepts: "the name of a systemd credential", set: fileName(&o.Key.Credential)},
		duration("every", "", &o.Every, time.Hour, 30*24*time.Hour),
		grants(&o.Grants),
	}}
}

// grants is the list of registrations.
func grants(all *[]OAuthGrant) key {
	var next OAuthGrant
	return key{name: "grants", accepts: "a list of sections, each with a name and a client-id",
		list: func() { *all = nil },
		set:  func(string) error { return errValue },
		item: func() []key { next = OAuthGrant{}; return next.keys() },
		add: func(path string) error {
			next.path = path
			for _, other := range *all {
				if other.Name == next.Name {
					return fmt.Errorf("another grant has the name %s", next.Name)
				}
			}
			*all = append(*all, next)
			return nil
		},
	}
}

func (g *OAuthGrant) keys() []key {
	return []key{
		{name: "name", accepts: "1 to 64 letters, digits, dots, dashes and underscores", set: fileName(&g.Name)},
		choice("provider", "", &g.Provider, option("microsoft", "microsoft"), option("google", "google"), option("other", "")),
		{name: "tenant", accepts: "the id or the domain of a tenant", set: text(&g.Tenant)},
		choice("kind", "", &g.Kind, option("users", oauth.Refresh), option("client-credentials", oauth.ClientCredentials), option("service-account", oauth.ServiceAccount)),
		{name: "client-id", accepts: "the id of the client", set: text(&g.ClientID)},
		{name: "client-secret-file", accepts: "a file that holds a secret and nothing else", file: true, set: text(&g.SecretFile)},
		{name: "client-cert", accepts: "a PEM file", file: true, set: text(&g.Cert)},
		{name: "client-key", accepts: "a PEM file", file: true, set: text(&g.Key)},
		{name: "service-account-file", accepts: "the JSON file of a service account's key", file: true, set: text(&g.ServiceAccount)},
		boolean("basic", &g.Basic),
		{name: "token-url", accepts: "https://HOST/PATH", set: text(&g.TokenURL)},
		{name: "device-url", accepts: "https://HOST/PATH", set: text(&g.DeviceURL)},
		{name: "authorize-url", accepts: "https://HOST/PATH", set: text(&g.AuthorizeURL)},
		{name: "ca", accepts: "a PEM file", file: true, set: text(&g.CA)},
		words("scopes", "scopes", &g.Scopes),
		words("mailboxes", "users of the mail service, one by one", &g.Mailboxes),
	}
}

// words is a key that accepts a list of names.
func words(name, accepts string, to *[]string) key {
	return key{name: name, accepts: accepts, list: func() { *to = nil }, set: func(s string) error {
		var one string
		if err := text(&one)(s); err != nil {
			return err
		}
		*to = append(*to, one)
		return nil
	}}
}

// fileName accepts a name that is no path.
func fileName(to *string) func(string) error {
	return func(s string) error {
		if s == "" || len(s) > 64 || strings.Trim(s, ".") == "" || strings.ContainsFunc(s, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
		}) {
			return errValue
		}
		*to = s
		return nil
	}
}

// Read returns the key of the token folder. env is os.Getenv, for the variables
// that the configuration and systemd name.
func (k TokenKey) Read(env func(string) string) (upstream.Secret, error) {
	file := k.File
	switch {
	case k.Env != "":
		if env(k.Env) == "" {
			return upstream.Secret{}, fmt.Errorf("oauth.key-env: the environment variable %s is not set", k.Env)
		}
		return upstream.NewSecret(env(k.Env)), nil
	case k.Credential != "":
		dir := env("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return upstream.Secret{}, errors.New("oauth.key-credential: systemd gave no credentials; add LoadCredential= to the unit, or use key-file")
		}
		file = dir + "/" + k.Credential
	}
	return readSecret(file)
}

// readSecret reads a file that holds one secret, with or without a line end.
func readSecret(file string) (upstream.Secret, error) {
	data, err := read(file)
	if err != nil {
		return upstream.Secret{}, named(file, err)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return upstream.Secret{}, named(file, errors.New("is empty"))
	}
	return upstream.NewSecret(string(data)), nil
}

// Options reads the files that the grant names. The folder serves grants of the
// kind users.
func (g OAuthGrant) Options(folder *tokenfile.Folder) (oauth.Options, error) {
	o := oauth.Options{
		Name: g.Name, Grant: g.Kind, Client: oauth.Client{ID: g.ClientID, Basic: g.Basic},
		Endpoint: oauth.Endpoint{Token: g.TokenURL, Device: g.DeviceURL, Authorize: g.AuthorizeURL},
		Scopes:   g.Scopes, Mailboxes: g.Mailboxes,
	}
	if g.Kind == oauth.Refresh {
		o.Folder = folder
	}
	var err error
	if g.SecretFile != "" {
		if o.Client.Secret, err = readSecret(g.SecretFile); err != nil {
			return o, err
		}
	}
	if g.Cert != "" || g.Key != "" {
		if o.Client.Key, err = clientKey(g.Cert, g.Key); err != nil {
			return o, err
		}
	}
	if g.ServiceAccount != "" {
		data, err := read(g.ServiceAccount)
		if err != nil {
			return o, named(g.ServiceAccount, err)
		}
		if o.Client.Key, o.Client.ID, err = oauth.NewServiceAccount(data); err != nil {
			return o, fmt.Errorf("%s: %w", g.ServiceAccount, err)
		}
	}
	if g.CA != "" {
		roots, err := Upstream{CA: g.CA}.Roots()
		if err != nil {
			return o, err
		}
		o.TLS = rooted(roots)
	}
	preset, err := g.Preset()
	if err != nil {
		return o, err
	}
	preset.Apply(&o)
	return o, nil
}

// Preset is what the provider brings along; nothing where it is another.
func (g OAuthGrant) Preset() (oauth.Preset, error) {
	switch g.Provider {
	case "microsoft":
		return oauth.Microsoft(g.Tenant)
	case "google":
		return oauth.Google(), nil
	}
	return oauth.Preset{}, nil
}

func clientKey(certFile, keyFile string) (*oauth.Key, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("client-cert and client-key go together; give both")
	}
	cert, err := read(certFile)
	if err != nil {
		return nil, named(certFile, err)
	}
	private, err := read(keyFile)
	if err != nil {
		return nil, named(keyFile, err)
	}
	key, err := oauth.NewKey(cert, private)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	return key, nil
}

// oauth checks the section with the code that serves it.
func (l *loader) oauth(o *OAuth) {
	if !o.Given() {
		return
	}
	users := false
	for _, g := range o.Grants {
		users = users || g.Kind == oauth.Refresh
		options, err := g.Options(new(tokenfile.Folder))
		switch {
		case g.Name == "":
			err = errors.New("the name is missing; routes and `popgate oauth login` refer to it")
		case err != nil:
		case g.Provider == "microsoft" && g.Tenant == "" && g.Kind != oauth.Refresh:
			err = errors.New("the tenant is missing; a right of the client's own is of one tenant")
		case g.Tenant != "" && g.Provider != "microsoft":
			err = errors.New("tenant goes with provider: microsoft; leave it out")
		default:
			_, err = oauth.New(options)
		}
		if err != nil {
			l.report(l.place(g.path), g.path, "%s", strings.TrimPrefix(err.Error(), "grant "+g.Name+": "))
		}
	}
	if !users {
		return
	}
	given := 0
	for _, k := range []string{o.Key.File, o.Key.Env, o.Key.Credential} {
		if k != "" {
			given++
		}
	}
	switch {
	case o.Folder == "" && !l.refused("oauth.folder"):
		l.report(l.place("oauth"), "oauth", "folder is missing; it keeps the refresh tokens, such as folder: /var/lib/popgate/tokens")
	case given != 1:
		l.report(l.place("oauth"), "oauth", "give one of key-file, key-env and key-credential: the key that seals the tokens, such as `openssl rand -base64 32` makes")
	case o.Key.File != "":
		if _, err := readSecret(o.Key.File); err != nil {
			l.report(l.place("oauth.key-file"), "oauth.key-file", "%v", err)
		}
	}
}

// gmailWarning tells of what an expunge does at Gmail.
func gmailWarning(host string, d Delete) []string {
	if d != Expunge || host != oauth.Google().Host && host != "imap.googlemail.com" {
		return nil
	}
	return []string{"delete: expunge leaves deleted messages in the archive at " + host + ", where an expunge takes no more than a label away; delete: trash deletes them"}
}
