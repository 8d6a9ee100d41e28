package realtest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/ledger"
)

// store is the IMAP store in front of a server, without the gateway around it.
func (s *station) store(t *testing.T, o imap.Options) *imap.Store {
	t.Helper()
	port, err := strconv.ParseUint(portOf(s.IMAP), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port = "127.0.0.1", uint16(port)
	store, err := imap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// visited opens a maildrop; the caller closes the account.
func visited(t *testing.T, s *imap.Store, c upstream.Credentials) (upstream.Account, upstream.Maildrop, error) {
	t.Helper()
	a, err := s.Login(t.Context(), c)
	if err != nil {
		return nil, nil, err
	}
	d, err := a.Open(t.Context())
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, d, nil
}

func holds(t *testing.T, s *imap.Store, c upstream.Credentials, n int) {
	t.Helper()
	a, d, err := visited(t, s, c)
	if err != nil {
		t.Error(err)
		return
	}
	defer a.Close()
	if d.Len() != n {
		t.Errorf("%d messages, want %d", d.Len(), n)
	}
}

// The IMAP store in front of real servers: what no flag of the gateway leads to.
func TestStore(t *testing.T) {
	b := newBench(t, "mailboxes, master users, access tokens and windows")
	if b.front != "" {
		t.Skip("the gateway is not the front end here")
	}
	issuer := newIssuer(t)
	for _, server := range []string{"dovecot", "dovecot-dots", "cyrus", "courier"} {
		t.Run(server, func(t *testing.T) {
			report.guard(t, server, "store", "")
			s := b.stationOf(t, server, issuer)
			leaf := func(name string, f func(t *testing.T, s *station)) {
				report.leaf(t, server, "store", "", name, func(t *testing.T) { f(t, s) })
			}
			leaf("mailboxes_by_path", mailboxesByPath)
			leaf("a_window_stays", aWindowStays)
			if s.Name == "dovecot" {
				leaf("a_master_user", aMasterUser)
				leaf("access_tokens", func(t *testing.T, s *station) { accessTokens(t, s, issuer) })
			}
		})
	}
}

// stationOf starts a server under a name of its own, beside that of other tests.
func (b *bench) stationOf(t *testing.T, server string, issuer *issuer) *station {
	t.Helper()
	kind, dots := strings.CutSuffix(server, "-dots")
	if kind != "dovecot" {
		return b.start(t, server)
	}
	o := lab.DovecotOptions{Introspection: issuer.URL}
	if dots {
		o.Separator, o.TokenMechanisms = ".", "oauthbearer"
	}
	srv, err := b.Dovecot(context.Background(), "store-"+server, o) // outlives the test's context by its cleanup
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Errorf("%s: %v", server, err)
		}
	})
	report.version(server, srv.Version)
	return &station{Server: srv, bench: b}
}

var separatorItem = regexp.MustCompile(`LIST \([^)]*\) "(.)" ""`)

// mailboxesByPath opens mailboxes by one way of writing their names, whatever
// the server's.
func mailboxesByPath(t *testing.T, s *station) {
	user, pass, _ := s.account(t)
	judge := s.judge(t, user, pass)
	separator := ""
	for _, r := range judge.must(t, `LIST "" ""`) {
		if m := separatorItem.FindStringSubmatch(r.line); m != nil {
			separator = m[1]
		}
	}
	prefix := ""
	if s.Name == "courier" {
		prefix = "INBOX."
	}
	judge.deliver(t, messageSet(user)[:2]...)
	store := s.store(t, imap.Options{Hierarchy: "/"})
	asListed := s.store(t, imap.Options{})
	c := upstream.Credentials{User: user, Secret: upstream.NewSecret(pass)}
	holds(t, store, c, 2)
	for path, name := range map[string]string{
		"Work": "Work", "Work/2024": "Work/2024",
		"Entw\u00fcrfe/Gr\u00f6\u00dfe": "Entw&APw-rfe/Gr&APYA3w-e", "\u53f0\u5317": "&U,BTFw-", "R&D": "R&-D",
	} {
		name = prefix + strings.ReplaceAll(name, "/", separator)
		judge.must(t, "CREATE %q", name)
		judge.must(t, "SELECT INBOX")
		judge.must(t, "COPY 1 %q", name)
		judge.must(t, "CLOSE")
		c.Mailbox = path
		a, d, err := visited(t, store, c)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if rec, err := d.Update(t.Context(), upstream.Changes{Remove: []int{0}}); d.Len() != 1 || err != nil || rec.Removed != 1 {
			t.Errorf("%s: %d messages, Update() = %+v, %v", path, d.Len(), rec, err)
		}
		key := a.Key()
		a.Close()
		// By the name that the server lists, the maildrop is the same.
		c.Mailbox = strings.NewReplacer("/", separator).Replace(prefix + path)
		a, d, err = visited(t, asListed, c)
		if err != nil {
			t.Errorf("%s: %v", c.Mailbox, err)
			continue
		}
		if a.Key() != key || d.Len() != 0 {
			t.Errorf("%q and %q for one maildrop; %d messages are left", a.Key(), key, d.Len())
		}
		a.Close()
	}
	for _, path := range []string{"Nowhere", "a*", "%", `quote"and\`, strings.Repeat("x", 900)} {
		c.Mailbox = path
		if _, _, err := visited(t, store, c); err == nil || upstream.KindOf(err) != upstream.Internal {
			t.Errorf("%.20s: %v, want an internal error", path, err)
		}
	}
}

// aMasterUser opens the maildrop of another by each way that Dovecot has.
func aMasterUser(t *testing.T, s *station) {
	user, pass, _ := s.account(t)
	s.judge(t, user, pass).deliver(t, messageSet(user)[:3]...)
	own := upstream.Credentials{User: user, Secret: upstream.NewSecret(pass)}
	master := upstream.Credentials{User: lab.DovecotMaster, Secret: upstream.NewSecret(lab.DovecotMasterPassword), Authorize: user}
	byHand := master
	byHand.User, byHand.Authorize = user+"*"+lab.DovecotMaster, ""
	byIdentity, byName := s.store(t, imap.Options{}), s.store(t, imap.Options{MasterSeparator: "*"})
	keys := map[string]bool{}
	for _, way := range []struct {
		store *imap.Store
		creds upstream.Credentials
	}{{byIdentity, own}, {byIdentity, master}, {byName, own}, {byName, master}, {byName, byHand}} {
		a, d, err := visited(t, way.store, way.creds)
		if err != nil {
			t.Fatal(err)
		}
		if d.Len() != 3 {
			t.Errorf("%d messages, want 3", d.Len())
		}
		keys[a.Key()] = true
		a.Close()
	}
	if len(keys) != 1 {
		t.Errorf("one maildrop has the keys %v", keys)
	}
	for _, store := range []*imap.Store{byIdentity, byName} {
		wrong := master
		wrong.Secret = upstream.NewSecret("wrong")
		noMaster := own
		noMaster.Authorize = "user1@example.test"
		if user == noMaster.Authorize {
			noMaster.Authorize = "user2@example.test"
		}
		for name, c := range map[string]upstream.Credentials{"wrong password": wrong, "no master": noMaster} {
			if _, err := store.Login(t.Context(), c); upstream.KindOf(err) != upstream.Refused || err == nil {
				t.Errorf("%s: %v, want refused", name, err)
			}
		}
	}
}

// An issuer answers the introspection of tokens (RFC 7662).
type issuer struct {
	*httptest.Server
	mu     sync.Mutex
	tokens map[string]string // and their users
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{tokens: map[string]string{}}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		user, ok := i.tokens[r.FormValue("token")]
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"active": ok, "email": user, "scope": "mail"})
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) issue(user, token string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tokens[token] = user
}

func (i *issuer) revoke(token string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.tokens, token)
}

// renewed gives one token.
type renewed struct{ token string }

func (r renewed) Renew(context.Context, upstream.Secret) (upstream.Secret, error) {
	return upstream.NewSecret(r.token), nil
}

func accessTokens(t *testing.T, s *station, issuer *issuer) {
	user, pass, _ := s.account(t)
	s.judge(t, user, pass).deliver(t, messageSet(user)[:3]...)
	store := s.store(t, imap.Options{})
	bearer := func(token string) upstream.Credentials {
		return upstream.Credentials{User: user, Secret: upstream.NewSecret(token), Proof: upstream.Bearer}
	}
	long := strings.Repeat("long.", 800)
	for _, token := range []string{"token-of-" + strconv.Itoa(len(user)), long} {
		issuer.issue(user, token)
		holds(t, store, bearer(token), 3)
		issuer.revoke(token)
		_, err := store.Login(t.Context(), bearer(token))
		if err == nil || upstream.KindOf(err) != upstream.Refused || strings.Contains(err.Error(), token[:8]) {
			t.Errorf("a token that was taken back: %v, want refused", err)
		}
	}
	issuer.issue("user1@example.test", "of-another")
	if user != "user1@example.test" {
		if _, err := store.Login(t.Context(), bearer("of-another")); err == nil {
			t.Error("the token of another is taken")
		}
	}
	// One that ran out is renewed.
	issuer.issue(user, "fresh")
	c := bearer("stale")
	c.Renewer = renewed{"fresh"}
	holds(t, store, c, 3)
}

// aWindowStays shows a part of a mailbox, and what was in it once.
func aWindowStays(t *testing.T, s *station) {
	user, pass, _ := s.account(t)
	judge := s.judge(t, user, pass)
	const day = 24 * time.Hour
	for i, m := range messageSet(user)[:6] {
		received := time.Now().Add(-50 * day)
		if i >= 3 {
			received = time.Now()
		}
		if err := judge.addAt(m, received.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	c := upstream.Credentials{User: user, Secret: upstream.NewSecret(pass)}
	file := filepath.Join(t.TempDir(), "ledger")
	numbers := func(w imap.Window, remove ...int) (out []int) {
		t.Helper()
		l, err := ledger.Open(t.Context(), ledger.Options{File: file})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		a, d, err := visited(t, s.store(t, imap.Options{Window: w, Ledger: l}), c)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		for i := range d.Len() {
			_, uid, _ := strings.Cut(string(d.AppendUIDL(nil, i)), ".")
			n, err := strconv.Atoi(uid)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, n)
		}
		if rec, err := d.Update(t.Context(), upstream.Changes{Remove: remove}); err != nil || rec.Removed != len(remove) {
			t.Errorf("Update() = %+v, %v", rec, err)
		}
		return out
	}
	before := judge.look(t, "INBOX")
	uids := func(at ...int) (out []int) {
		for _, i := range at {
			out = append(out, int(before[i].uid))
		}
		return out
	}
	want := func(what string, got []int, at ...int) {
		t.Helper()
		if !slices.Equal(got, uids(at...)) {
			t.Errorf("%s: %v are shown, want %v", what, got, uids(at...))
		}
	}
	mark := func(at int, how string) {
		judge.must(t, "SELECT INBOX")
		judge.must(t, `UID STORE %d %sFLAGS (\Seen)`, before[at].uid, how)
		judge.must(t, "CLOSE")
	}
	for i := range before {
		mark(i, "+")
	}
	mark(1, "-")
	mark(4, "-")
	want("unread", numbers(imap.Window{Unseen: true}), 1, 4)
	mark(1, "+")
	want("no longer unread", numbers(imap.Window{Unseen: true}), 1, 4)
	want("newest", numbers(imap.Window{Newest: 2}), 1, 4, 5)
	want("of this week", numbers(imap.Window{Since: 7 * day}), 1, 3, 4, 5)
	want("of this year", numbers(imap.Window{Since: 365 * day}, 1), 0, 1, 2, 3, 4, 5)
	want("without what was deleted", numbers(imap.Window{Newest: 1}), 0, 2, 3, 4, 5)
	if left := judge.look(t, "INBOX"); len(left) != len(before)-1 {
		t.Errorf("%d messages are left, want %d", len(left), len(before)-1)
	}
}
