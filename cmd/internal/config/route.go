package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/route"
)

// Route says which logins go where.
type Route struct {
	Name  string // unique
	Match Match

	Upstream string // the name of one; "" with AuthHTTP
	AuthHTTP AuthHTTP
	Folders  Folders

	User, Authorize, Mailbox string // templates; "" for what there is
	ClientAuthorize          bool   // the client may name the user whose maildrop it wants

	Accounts     bool   // popgate proves the client
	Master       Master // and then logs in as this one
	PasswordFile string // or with this password; "" for the client's, or its account's
	OAuth        string // or with an access token of this grant; "" for none

	Delete Delete
	Trash  string // "" for the upstream's
	Seen   bool
	Window Window

	path string // of its section in the file
}

// Match says which logins a route takes: all that is set must hold.
type Match struct {
	Users     []string
	Domains   []string
	Pattern   string         // RE2, of the whole user
	Listeners []string       // names
	From      []netip.Prefix // addresses of clients
}

// all reports whether every login matches.
func (m Match) all() bool {
	return len(m.Users)+len(m.Domains)+len(m.Listeners)+len(m.From) == 0 && m.Pattern == ""
}

// Window is the part of a mailbox that is shown. The zero value is all of it; where
// more than one field is set, a message has to match them all.
type Window struct {
	Days   int  // received within so many days; 0 is no bound
	Unseen bool // not read by anybody
	Newest int  // so many of those, at most; 0 is no bound
}

// Given reports whether it is a part.
func (w Window) Given() bool { return w != Window{} }

// Master is a user who may open the maildrops of others.
type Master struct {
	User         string
	PasswordFile string
}

// Given reports whether there is one.
func (m Master) Given() bool { return m != Master{} }

// AuthHTTP is a service that is asked where a login goes, in nginx's protocol.
type AuthHTTP struct {
	URL       string
	CA        string // PEM file of the roots to trust; "" for the system's
	KeyHeader string // of the request, with the secret in KeyFile; "" for none
	KeyFile   string
}

// Given reports whether there is one.
func (a AuthHTTP) Given() bool { return a != AuthHTTP{} }

// Folders says how clients name another mailbox than the usual one.
type Folders string

// The ways to name one.
const (
	NoFolders    Folders = "none"
	PlusFolders  Folders = "plus"  // user+Folder
	SlashFolders Folders = "slash" // user/Folder
)

// everybody is the route of a configuration without routes.
const everybody = "all"

func deletePolicy(name string, to *Delete) key {
	return choice(name, name, to, option("expunge", Expunge), option("trash", Trash), option("hide", Hide), option("refuse", Refuse))
}

func seen(name string, to *bool) key {
	return choice(name, name, to, option("no", false), option("retr", true))
}

// without takes the flag off: a flag cannot say of which route.
func without(k key) key {
	k.flag = ""
	return k
}

// template is a key that accepts a text with fields in braces.
func template(name string, to *string) key {
	return key{name: name, accepts: "a text with fields such as {user}, {local}, {domain}, {folder} or a group of the pattern", set: func(s string) error {
		if err := text(to)(s); err != nil {
			return err
		}
		_, err := route.ParseTemplate(s)
		return err
	}}
}

// routes is the list of routes.
func routes(all *[]Route) key {
	var next Route
	return key{name: "routes", accepts: "a list of sections, each with a name",
		list: func() { *all = nil },
		set:  func(string) error { return errValue },
		item: func() []key {
			next = Route{Folders: NoFolders}
			return next.keys()
		},
		add: func(path string) error {
			next.path = path
			switch {
			case next.Name == "":
				return errors.New("the name is missing; logs and metrics tell the route by it")
			case next.Name == route.NoRoute:
				return fmt.Errorf("the name %s stands for logins that no route takes; use another", next.Name)
			}
			*all = append(*all, next)
			return nil
		},
	}
}

func (r *Route) keys() []key {
	m := &r.Match
	return []key{
		name(&r.Name),
		{name: "match", keys: []key{
			texts("users", "users, without a folder", &m.Users, nil),
			texts("domains", "domains such as example.net", &m.Domains, hostName),
			{name: "pattern", accepts: "a regular expression (RE2) of the whole user", set: func(s string) error {
				if err := text(&m.Pattern)(s); err != nil {
					return err
				}
				_, err := route.CompilePattern(s)
				return err
			}},
			texts("listeners", "names of listeners", &m.Listeners, nil),
			networks("from", &m.From),
		}},
		{name: "upstream", accepts: "the name of an upstream", set: text(&r.Upstream)},
		{name: "auth-http", keys: []key{
			{name: "url", accepts: "https://HOST[:PORT]/PATH, or http:// with a loopback address", set: authURL(&r.AuthHTTP.URL)},
			{name: "ca", accepts: "a PEM file", file: true, set: text(&r.AuthHTTP.CA)},
			{name: "key-header", accepts: "the name of a header", set: headerName(&r.AuthHTTP.KeyHeader)},
			{name: "key-file", accepts: "a file that holds a secret and nothing else", file: true, set: text(&r.AuthHTTP.KeyFile)},
		}},
		choice("folders", "", &r.Folders, option("none", NoFolders), option("plus", PlusFolders), option("slash", SlashFolders)),
		template("user", &r.User),
		template("authorize", &r.Authorize),
		boolean("client-authorize", &r.ClientAuthorize),
		template("mailbox", &r.Mailbox),
		boolean("accounts", &r.Accounts),
		{name: "master", keys: []key{
			{name: "user", accepts: "the name of the master user", set: text(&r.Master.User)},
			{name: "password-file", accepts: "a file that holds a secret and nothing else", file: true, set: text(&r.Master.PasswordFile)},
		}},
		{name: "password-file", accepts: "a file that holds a secret and nothing else", file: true, set: text(&r.PasswordFile)},
		{name: "oauth", accepts: "the name of a grant", set: text(&r.OAuth)},
		without(deletePolicy("delete", &r.Delete)),
		{name: "trash", accepts: "the name of a mailbox", set: text(&r.Trash)},
		without(seen("seen", &r.Seen)),
		{name: "window", keys: []key{
			optional(number(1, 36500), "days", &r.Window.Days),
			boolean("unseen", &r.Window.Unseen),
			optional(number(1, 10_000_000), "newest", &r.Window.Newest),
		}},
	}
}

func authURL(to *string) func(string) error {
	return func(s string) error {
		_, err := route.NewAuthHTTP(route.AuthHTTPOptions{URL: s, Choose: func(route.Choice) (upstream.Store, error) { return nil, nil }})
		if err != nil {
			return errors.New(strings.TrimPrefix(err.Error(), "auth_http: "))
		}
		return text(to)(s)
	}
}

func headerName(to *string) func(string) error {
	return func(s string) error {
		if s == "" || len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
		}) {
			return errValue
		}
		*to = s
		return nil
	}
}

// routing checks the routes, and makes the one of a configuration without any.
func (l *loader) routing(c *Config) {
	if l.refused("upstreams") || l.refused("upstream.url") || len(c.Upstreams) == 0 {
		return // which upstreams there are is not known
	}
	_, given := l.set["routes"]
	if !given && c.RoutesFile == "" && len(c.Upstreams) > 1 {
		l.report(l.place("upstreams"), "upstreams", "there are %d, and no routes that say which logins go where; add routes, or a routes-file", len(c.Upstreams))
		return
	}
	switch {
	case given && len(c.Routes) == 0 && !l.refused("routes"):
		l.report(l.place("routes"), "routes", "the list is empty, and nobody could log in")
	case !given && c.RoutesFile == "":
		c.Routes = []Route{{Name: everybody, Folders: NoFolders, Accounts: c.Accounts.File != ""}}
	}
	l.complete(c, c.Routes, nil)
	if c.RoutesFile == "" || l.refused("routes-file") || l.refused("routes") {
		return
	}
	data, err := read(c.RoutesFile)
	if err != nil {
		l.report(l.place("routes-file"), "routes-file", "%v", named(c.RoutesFile, err))
		return
	}
	more, problems := c.readRoutes(data, c.Routes)
	l.problems = append(l.problems, problems...)
	c.Routes = append(c.Routes, more...)
}

// readRoutes reads what is in RoutesFile, which may repeat no name of the routes
// before it.
func (c Config) readRoutes(data []byte, before []Route) ([]Route, Problems) {
	var list []Route
	l := &loader{file: c.RoutesFile, keys: []key{routes(&list)}, set: map[string]place{}}
	if !l.readFile(data) {
		return nil, l.problems
	}
	if len(list) == 0 && len(l.problems) == 0 {
		l.report(place{where: l.file}, "", "holds no routes; leave routes-file out of the configuration to have none")
	}
	l.complete(&c, list, before)
	return list, l.problems
}

// complete fills in what a route of list leaves to others, and checks it. Those of
// before are complete.
func (l *loader) complete(c *Config, list, before []Route) {
	names := map[string]bool{}
	for _, r := range before {
		names[r.Name] = true
	}
	for i := range list {
		r := &list[i]
		if names[r.Name] {
			l.report(l.place(r.path), r.path, "another route has the name %s", r.Name)
		}
		names[r.Name] = true
		if r.Delete == "" {
			r.Delete = c.Delete
		}
		if _, given := l.set[r.path+".seen"]; !given {
			r.Seen = c.Seen
		}
		if r.Upstream == "" && !r.AuthHTTP.Given() && len(c.Upstreams) == 1 {
			r.Upstream = c.Upstreams[0].Name
		}
		l.route(c, *r)
	}
}

// route checks what no single key of a route can know.
func (l *loader) route(c *Config, r Route) {
	before := len(l.problems)
	wrong := func(name, format string, args ...any) {
		at := r.path + "." + name
		l.report(l.place(at), at, format, args...)
	}
	needs := func(name, file string, missing bool, other string) {
		if missing {
			wrong(name, "%s is missing", other)
			return
		}
		_, err := route.ReadSecret(file)
		if _, system := errors.AsType[*fs.PathError](err); system {
			err = named(file, cause(err))
		}
		if err != nil {
			wrong(name, "%v", err)
		}
	}
	if a := r.AuthHTTP; a.Given() {
		if a.URL == "" {
			wrong("auth-http", "url is missing; it is the service to ask")
		}
		if a.KeyHeader != "" || a.KeyFile != "" {
			needs("auth-http", a.KeyFile, a.KeyHeader == "" || a.KeyFile == "", "key-header or key-file")
		}
		if _, err := (Upstream{CA: a.CA}).Roots(); err != nil {
			wrong("auth-http.ca", "%v", err)
		}
		if r.Upstream != "" || r.Accounts || r.Master.Given() || r.PasswordFile != "" || r.OAuth != "" || r.Trash != "" || r.Window.Given() {
			wrong("auth-http", "the service proves the client and says where it goes; leave out upstream, accounts, master, password-file, oauth, trash and window")
		}
	} else if !slices.ContainsFunc(c.Upstreams, func(u Upstream) bool { return u.Name == r.Upstream }) {
		if r.Upstream == "" {
			l.report(l.place(r.path), r.path, "upstream is missing; it is one of %s", upstreamNames(c.Upstreams))
		} else {
			wrong("upstream", "there is no upstream %s; there is %s", shown(r.Upstream), upstreamNames(c.Upstreams))
		}
	}
	if r.Master.Given() {
		needs("master", r.Master.PasswordFile, r.Master.User == "" || r.Master.PasswordFile == "", "user or password-file")
		if r.PasswordFile != "" {
			wrong("password-file", "the master user has a password-file of its own; leave one of the two out")
		}
	}
	if r.PasswordFile != "" {
		needs("password-file", r.PasswordFile, false, "")
	}
	if r.OAuth != "" {
		if !slices.ContainsFunc(c.OAuth.Grants, func(g OAuthGrant) bool { return g.Name == r.OAuth }) {
			wrong("oauth", "there is no grant %s in the section oauth", shown(r.OAuth))
		}
		if r.Master.Given() || r.PasswordFile != "" {
			wrong("oauth", "a token takes the place of a password; leave out master and password-file")
		}
	}
	// Without a proof of ours any password would do.
	if own := r.Master.Given() || r.PasswordFile != "" || r.OAuth != ""; own && !r.Accounts {
		l.report(l.place(r.path), r.path, "with master, password-file or oauth the mail server no longer sees the client's password, and anybody could log in; add accounts: true")
	}
	if r.Window.Given() && c.Ledger.File == "" && !l.refused("ledger.file") {
		wrong("window", "what a window has shown once stays until it is deleted, which takes a file to remember; give ledger.file")
	}
	if r.Accounts && c.Accounts.File == "" {
		wrong("accounts", "there are none; give accounts.file, or leave this out")
	}
	if r.ClientAuthorize && (r.Accounts || r.Authorize != "" || r.AuthHTTP.Given()) {
		wrong("client-authorize", "who may name another user must be proved by the mail server; leave out accounts, authorize and auth-http")
	}
	l.overJMAP(c, r, wrong)
	for _, name := range r.Match.Listeners {
		if !slices.ContainsFunc(c.Listen, func(l Listen) bool { return l.Name == name }) {
			wrong("match.listeners", "no listener has the name %s", shown(name))
		}
	}
	if len(l.problems) > before {
		return
	}
	if err := r.check(); err != nil {
		l.report(l.place(r.path), r.path, "%v", err)
	}
}

// overJMAP refuses what a JMAP upstream does not do.
func (l *loader) overJMAP(c *Config, r Route, wrong func(name, format string, args ...any)) {
	for _, u := range c.Upstreams {
		if !u.JMAP || u.Name != r.Upstream {
			continue
		}
		for _, is := range []struct {
			name  string
			given bool
		}{
			{"master", r.Master.Given()}, {"window", r.Window.Given()},
		} {
			if is.given {
				wrong(is.name, "it goes with imap:// and imaps://, and not with %s", u)
			}
		}
	}
}

func upstreamNames(us []Upstream) string {
	var names []string
	for _, u := range us {
		names = append(names, u.Name)
	}
	return enumerate(names, "or")
}

// check demands that package route takes it.
func (r Route) check() error {
	out, err := r.Rule()
	if err == nil {
		out.Store = nowhere{}
		_, err = route.NewTable(out)
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "route "+r.Name+": "))
	}
	return nil
}

type nowhere struct{ upstream.Store }

// Rule is the route for package route, without its store, its proof and its steps.
func (r Route) Rule() (route.Route, error) {
	out := route.Route{
		Name: r.Name,
		Match: route.Match{Users: r.Match.Users, Domains: r.Match.Domains, Pattern: r.Match.Pattern,
			Listeners: r.Match.Listeners, From: r.Match.From},
		ClientAuthorize: r.ClientAuthorize,
	}
	switch r.Folders {
	case PlusFolders:
		out.Folders = route.PlusFolders
	case SlashFolders:
		out.Folders = route.SlashFolders
	}
	var err error
	for _, t := range []struct {
		text string
		to   *route.Template
	}{{r.User, &out.User}, {r.Authorize, &out.Authorize}, {r.Mailbox, &out.Mailbox}} {
		if *t.to, err = route.ParseTemplate(t.text); err != nil {
			return out, err
		}
	}
	return out, nil
}

// routeWarnings lists routes that no login reaches, and secrets that others can
// read.
func (c Config) routeWarnings() (w []string) {
	taken, proved := "", false
	for _, r := range c.Routes {
		if taken != "" {
			w = append(w, fmt.Sprintf("route %s is never reached: route %s before it takes every login", r.Name, taken))
		} else if r.Match.all() {
			taken = r.Name
		}
		proved = proved || r.Accounts
		for _, u := range c.Upstreams {
			if u.Name == r.Upstream {
				w = append(w, gmailWarning(u.Host, r.Delete)...)
			}
		}
		for _, file := range []string{r.PasswordFile, r.Master.PasswordFile, r.AuthHTTP.KeyFile} {
			if file != "" && readByAll(file) {
				w = append(w, fmt.Sprintf("%s holds a secret, and every user of this machine can read it", file))
			}
		}
	}
	if c.Accounts.File != "" && !proved {
		w = append(w, "accounts.file is read, and no route has accounts: true")
	}
	return w
}
