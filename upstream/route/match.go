package route

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/popgate/popgate/upstream"
)

// Match says which logins a route takes: those for which every field that is set
// holds. The zero value takes all. Users and domains are compared without regard
// to the case of ASCII letters.
type Match struct {
	Users   []string // the user is one of these
	Domains []string // what follows the last "@" of the user is one of these
	// Pattern is a regular expression (RE2) of the whole user. Templates can use
	// its named groups.
	Pattern   string
	Listeners []string       // the client came by one of these
	From      []netip.Prefix // the client's address is in one of these
}

// A Misfit is what of a Match does not hold: "" if all does, or one of "listener",
// "network", "user", "domain", "pattern".
type Misfit string

// A rule is a route, made ready.
type rule struct {
	Route
	users, domains map[string]bool
	pattern        *regexp.Regexp
}

// A way is what a route makes of the user that a client sent.
type way struct {
	user   string // without the folder
	folder string // "" for none
	groups []string
}

// Table is the routes in their order. It does not change.
type Table struct{ rules []*rule }

// NewTable checks the routes.
func NewTable(routes ...Route) (*Table, error) {
	t := &Table{}
	names := map[string]bool{}
	for _, r := range routes {
		switch {
		case r.Name == "" || r.Name == NoRoute || names[r.Name]:
			return nil, fmt.Errorf("route: a route with the name %q, which is empty, kept for what no route takes, or there twice", r.Name)
		case r.Store == nil:
			return nil, fmt.Errorf("route %s: no store", r.Name)
		case len(r.Steps) > 0 && r.Prove == nil:
			return nil, fmt.Errorf("route %s: steps without a proof would let anybody in", r.Name)
		case r.ClientAuthorize && (r.Prove != nil || len(r.Steps) > 0 || !r.Authorize.Empty()):
			return nil, fmt.Errorf("route %s: who may name another user must log in with credentials of its own", r.Name)
		}
		names[r.Name] = true
		ready := &rule{Route: r, users: wordSet(r.Match.Users), domains: wordSet(r.Match.Domains)}
		if r.Match.Pattern != "" {
			var err error
			if ready.pattern, err = CompilePattern(r.Match.Pattern); err != nil {
				return nil, fmt.Errorf("route %s: %w", r.Name, err)
			}
		}
		for _, template := range []Template{r.User, r.Authorize, r.Mailbox} {
			if err := template.check(ready.fields()); err != nil {
				return nil, fmt.Errorf("route %s: %w", r.Name, err)
			}
		}
		t.rules = append(t.rules, ready)
	}
	return t, nil
}

func wordSet(words []string) map[string]bool {
	set := make(map[string]bool, len(words))
	for _, w := range words {
		set[lower(w)] = true
	}
	return set
}

// CompilePattern compiles a pattern of the whole user.
func CompilePattern(pattern string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(pattern); err != nil { // alone: what is put around it must not mend it
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// pick returns the first route that takes c, or nil.
func (t *Table) pick(c upstream.Credentials) (*rule, way) {
	for _, r := range t.rules {
		if w, misfit := r.match(c); misfit == "" {
			return r, w
		}
	}
	return nil, way{}
}

func (r *rule) match(c upstream.Credentials) (w way, misfit Misfit) {
	if len(r.Match.Listeners) > 0 && !slices.Contains(r.Match.Listeners, c.Listener) {
		return w, "listener"
	}
	client := c.Client.Addr().Unmap()
	if len(r.Match.From) > 0 && !slices.ContainsFunc(r.Match.From, func(n netip.Prefix) bool { return n.Contains(client) }) {
		return w, "network"
	}
	if w.user, w.folder, misfit = r.Folders.split(c.User); misfit != "" {
		return w, misfit
	}
	if len(r.users) > 0 && !r.users[lower(w.user)] {
		return w, "user"
	}
	if _, domain := cutDomain(w.user); len(r.domains) > 0 && !r.domains[lower(domain)] {
		return w, "domain"
	}
	if r.pattern != nil {
		if w.groups = r.pattern.FindStringSubmatch(w.user); w.groups == nil {
			return w, "pattern"
		}
	}
	return w, ""
}

// cutDomain cuts a user at its last "@". One without has no domain.
func cutDomain(user string) (local, domain string) {
	i := strings.LastIndexByte(user, '@')
	if i < 0 {
		return user, ""
	}
	return user[:i], user[i+1:]
}

// lower makes ASCII letters small, and no others: which users are equal does not
// hang on a table of Unicode.
func lower(s string) string {
	out := []byte(s)
	for i, b := range out {
		if b >= 'A' && b <= 'Z' {
			out[i] = b + 'a' - 'A'
		}
	}
	return string(out)
}

// A Verdict is what one route says to a login.
type Verdict struct {
	Route  string
	Misfit Misfit // "" where the route takes it
}

// Explain tells why a login goes where it goes: the verdicts up to the first route
// that takes it, and what that route's templates make of it. Nobody is proved and
// no step is taken. With no such route, or where the route refuses what the client
// wants, err says so.
func (t *Table) Explain(c upstream.Credentials) (verdicts []Verdict, rewritten upstream.Credentials, err error) {
	for _, r := range t.rules {
		w, misfit := r.match(c)
		verdicts = append(verdicts, Verdict{r.Name, misfit})
		if misfit != "" {
			continue
		}
		if c, err = r.clientsWish(c, w); err == nil {
			c, err = r.rewrite(c, w)
		}
		return verdicts, c, err
	}
	return verdicts, c, refused("no route takes this login")
}
