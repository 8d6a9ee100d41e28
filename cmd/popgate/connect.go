package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/cmd/internal/screen"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/ledger"
)

// A trial tries the mail servers of a configuration, through the stores and the
// routes that serve uses. It changes nothing in any mailbox.
type trial struct {
	cfg     config.Config
	env     environment
	quiet   bool // what is found is printed later
	routing *routing
	result  trialJSON
	close   func() error
}

// trialJSON is what `popgate check --connect --json` adds.
type trialJSON struct {
	Upstreams []upstreamJSON `json:"upstreams,omitempty"`
	Login     *loginJSON     `json:"login,omitempty"`
}

// upstreamJSON is what a mail server told.
type upstreamJSON struct {
	Name         string   `json:"name"`
	URL          string   `json:"url"`
	OK           bool     `json:"ok"`
	Steps        []step   `json:"steps"`
	Logins       []string `json:"logins"` // ways to log in that it offers
	Capabilities []string `json:"capabilities"`
	Warnings     []string `json:"warnings"`
}

// loginJSON is how a login went.
type loginJSON struct {
	User      string        `json:"user"`
	Route     string        `json:"route"`
	OK        bool          `json:"ok"`
	Steps     []step        `json:"steps"`
	Mailbox   string        `json:"mailbox,omitempty"`
	Messages  int           `json:"messages"`
	Octets    int64         `json:"octets"`
	Deletion  string        `json:"deletion,omitempty"` // what becomes of a message that is deleted
	Abilities []abilityJSON `json:"abilities,omitempty"`
	Warnings  []string      `json:"warnings"`
}

type abilityJSON struct {
	Name   string `json:"name"`
	There  bool   `json:"there"`
	Effect string `json:"effect"`
}

// newTrial opens what a login needs. The files that a gateway may hold at this time
// are left alone: lists are not kept, and what a window shows is remembered until
// the end of the trial.
func newTrial(ctx context.Context, cfg config.Config, env environment, quiet bool) (t *trial, err error) {
	t = &trial{cfg: cfg, env: env, quiet: quiet}
	var ends []func() error
	t.close = func() (err error) {
		for _, end := range slices.Backward(ends) {
			err = errors.Join(err, end())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	log := newLogger(env.stderr, config.Log{Format: cfg.Log.Format, Level: slog.LevelError})
	folder, err := os.MkdirTemp("", "popgate-check")
	if err != nil {
		return nil, err
	}
	ends = append(ends, func() error { return os.RemoveAll(folder) })
	shown, err := ledger.Open(ctx, ledger.Options{File: folder + "/ledger"})
	if err != nil {
		return nil, err
	}
	ends = append(ends, shown.Close)
	g := gateway{}
	if g.accounts, err = openAccounts(cfg.Accounts, log); err != nil {
		return nil, err
	}
	if g.grants, err = openGrants(cfg.OAuth, nil, log); err != nil {
		return nil, err
	}
	ends = append(ends, g.grants.close)
	m := metrics.New(metrics.Build{}, labelSets(cfg))
	if t.routing, err = newRouting(cfg, g.proofs(), nil, shown, m, log); err != nil {
		return nil, err
	}
	ends = append(ends, t.routing.close)
	return t, nil
}

// walk begins a way that is told under a title.
func (t *trial) walk(title, name string) *walk {
	w := &walk{paint: t.env.stdout.Paint, progress: t.env.progress, name: name, hint: hint, certificates: true}
	if !t.quiet {
		w.page = t.env.stdout
		fmt.Fprintf(w.page, "\n%s\n", w.paint(screen.Bold, title))
	}
	w.begin()
	return w
}

// upstream tries one mail server, as far as it goes without a login.
func (t *trial) upstream(ctx context.Context, u config.Upstream) error {
	w := t.walk(label(u), u.Host)
	defer w.end()
	found := upstreamJSON{Name: u.Name, URL: u.String(), Logins: []string{}, Capabilities: []string{}}
	offer, err := t.probe(w.hooks(ctx), u)
	if err != nil {
		w.failed(ctx, "answer", err)
	} else {
		w.done("answer", "ways to log in: "+orDash(strings.Join(offer.Logins, " ")), nil)
		w.show(func(out io.Writer) { wrapWords(out, "offers", offer.Capabilities) })
		found.Logins, found.Capabilities = append(found.Logins, offer.Logins...), append(found.Capabilities, offer.Capabilities...)
		t.warnOfLogins(w, u, offer)
	}
	found.OK, found.Steps, found.Warnings = err == nil, w.steps, append([]string{}, w.warnings...)
	t.result.Upstreams = append(t.result.Upstreams, found)
	return err
}

func (t *trial) probe(ctx context.Context, u config.Upstream) (upstream.Offer, error) {
	store, err := t.routing.stores.at(place{upstream: u.Name, delete: config.Expunge})
	if err != nil {
		return upstream.Offer{}, err
	}
	return store.(upstream.Prober).Probe(ctx)
}

// warnOfLogins compares what the server takes with what the routes have.
func (t *trial) warnOfLogins(w *walk, u config.Upstream, o upstream.Offer) {
	tokens := slices.ContainsFunc(t.cfg.Listen, func(l config.Listen) bool { return l.Bearer })
	for _, r := range t.cfg.Routes {
		if r.Upstream != u.Name && !r.AuthHTTP.Given() {
			continue
		}
		switch {
		case r.OAuth != "" && !o.Tokens:
			w.warn("route %s has access tokens, and the server takes none", r.Name)
		case r.OAuth == "" && !o.Passwords && !tokens:
			w.warn("route %s has passwords, and the server takes none; see \"popgate oauth\"", r.Name)
		}
	}
}

// login logs in, opens the mailbox for reading and looks how it is served.
func (t *trial) login(ctx context.Context, c upstream.Credentials) error {
	found := &loginJSON{User: c.User}
	t.result.Login = found
	w := t.walk("login of "+screen.Plain(c.User), c.User)
	w.hint, w.certificates = hintOfLogin, false
	defer w.end()
	err := t.session(ctx, w, c, found)
	found.OK, found.Steps, found.Warnings = err == nil, w.steps, append([]string{}, w.warnings...)
	return err
}

func (t *trial) session(ctx context.Context, w *walk, c upstream.Credentials, found *loginJSON) error {
	table, err := tableOf(t.cfg)
	if err != nil {
		return err
	}
	verdicts, _, err := table.Explain(c)
	if err != nil {
		err = fmt.Errorf("%w; \"popgate route\" tells why", err)
		w.done("route", "", err)
		return err
	}
	route := t.cfg.Routes[len(verdicts)-1]
	found.Route = route.Name
	w.done("route", route.Name, nil)
	ctx = w.hooks(ctx)
	account, err := limited(t.cfg, t.routing.store).Login(ctx, c)
	if err != nil {
		w.failed(ctx, "login", err)
		return err
	}
	defer account.Close() // says goodbye, and waits for nothing
	w.done("login", "as "+c.User, nil)
	w.doing("listing the mailbox")
	drop, err := account.Open(ctx)
	if err != nil {
		w.failed(ctx, "list", err)
		return err
	}
	found.Messages = drop.Len()
	for i := range drop.Len() {
		found.Octets += drop.Size(i)
	}
	w.done("list", fmt.Sprintf("%d messages, %d octets", found.Messages, found.Octets), nil)
	seen, err := upstream.Inspect(ctx, account)
	if err != nil {
		w.failed(ctx, "inspect", err)
		return err
	}
	found.Mailbox, found.Deletion = screen.Plain(seen.Mailbox), screen.Plain(seen.Deletion)
	if account.Terms().ReadOnly {
		found.Deletion, seen.Obstacle = "refused: DELE is an error", nil
	}
	w.done("inspect", "mailbox "+found.Mailbox, nil)
	for _, a := range seen.Abilities {
		found.Abilities = append(found.Abilities, abilityJSON(a))
	}
	w.show(func(out io.Writer) { found.print(out, w.paint) })
	if seen.Obstacle != nil {
		w.warn("a deletion would fail: %s", cause(seen.Obstacle))
	}
	return nil
}

// print says what the server can do, and what a deletion would be.
func (l *loginJSON) print(out io.Writer, paint func(screen.Color, string) string) {
	for _, a := range l.Abilities {
		word := paint(screen.Good, "yes")
		if !a.There {
			word = paint(screen.Doubt, "no ")
		}
		fmt.Fprintf(out, "  %-12s  %s  %s\n", a.Name, word, a.Effect)
	}
	fmt.Fprintf(out, "  a message that is deleted is %s\n", l.Deletion)
}

// wrapWords prints words after a name, in lines of about 80 columns.
func wrapWords(out io.Writer, name string, words []string) {
	const columns = 80
	line := ""
	flush := func() {
		if line != "" {
			fmt.Fprintf(out, "  %-7s %s\n", name, line)
		}
		name, line = "", ""
	}
	for _, word := range words {
		if len(line)+len(word) > columns-12 {
			flush()
		}
		line += " " + screen.Plain(word)
	}
	flush()
}
