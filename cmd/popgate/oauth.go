package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/upstream/oauth"
)

type oauthCommand struct {
	Login  oauthLoginCommand  `cmd:"" help:"Get the consent of a user, once, and keep the refresh token."`
	Status oauthStatusCommand `cmd:"" help:"Show every account, when its token last worked, and when it ends."`
	Remove oauthRemoveCommand `cmd:"" help:"Forget the refresh token of an account."`
}

type oauthSettings struct {
	Config string `short:"c" placeholder:"FILE" required:"" help:"Configuration file with the section oauth."`
	Grant  string `placeholder:"NAME" help:"The grant in that section. Default: the one there is."`
}

// load reads the configuration, and opens its grants.
func (s *oauthSettings) load(env environment) (config.Config, *grants, error) {
	cfg, err := config.Load(s.Config, env.flags)
	if err != nil {
		return cfg, nil, err
	}
	if !cfg.OAuth.Given() {
		return cfg, nil, usage(s.Config, "there are no grants in the section oauth; \"popgate check --reference\" shows how they are written")
	}
	all, err := openGrants(cfg.OAuth, nil, newLogger(env.stderr, cfg.Log))
	return cfg, all, err
}

// usage is a problem of the command line.
func usage(where, format string, args ...any) error {
	return config.Problems{{Where: where, Text: fmt.Sprintf(format, args...)}}
}

// one returns the grant of users that was meant.
func (s *oauthSettings) one(all *grants) (*oauth.Tokens, error) {
	var names []string
	for _, g := range all.list {
		if !g.tokens.AppOnly() {
			names = append(names, g.name)
		}
	}
	switch {
	case s.Grant == "" && len(names) == 1:
		return all.tokens(names[0]), nil
	case s.Grant != "" && slices.Contains(names, s.Grant):
		return all.tokens(s.Grant), nil
	case len(names) == 0:
		return nil, usage(s.Config, "no grant in the section oauth is of the kind users; there is nothing to log in to")
	}
	return nil, usage("--grant", "use one of %s", strings.Join(names, ", "))
}

type oauthLoginCommand struct {
	oauthSettings
	Account  string `arg:"" help:"The user, as the mail service is told it: mostly the address."`
	Browser  bool   `help:"Use a browser on this machine, and not a code that is entered on any device. Default: where the issuer has no such codes."`
	Callback string `placeholder:"HOST:PORT" default:"127.0.0.1:0" help:"Where the browser comes back to, a loopback address. With a fixed port, a browser elsewhere can be led here (ssh -L)."`
}

// Help is shown by --help.
func (oauthLoginCommand) Help() string {
	return `Log in at the issuer as the user whose mailbox is meant: the token is of whoever consents. A gateway that runs takes the new token at once. What was kept for the account is replaced.

Examples:

    popgate oauth login --config /etc/popgate/popgate.yaml scanner@example.com

    popgate oauth login --config popgate.yaml --browser --callback 127.0.0.1:8400 scanner@example.com`
}

// Run gets and keeps a refresh token.
func (c *oauthLoginCommand) Run(ctx context.Context, env environment) (err error) {
	cfg, all, err := c.load(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	tokens, err := c.one(all)
	if err != nil {
		return err
	}
	browser := c.Browser || !hasDevice(cfg.OAuth, tokens.Name())
	line := env.progress.Progress("asking %s", tokens.Name())
	defer func() { line.Stop() }()
	tell := func(p oauth.Prompt) {
		line.Stop()
		prompt(env.stdout, c.Account, p)
		line = env.progress.Progress("")
		line.Follow(func() string { return waiting(p.Expires, time.Now()) })
	}
	if browser {
		err = tokens.Browser(ctx, c.Account, c.Callback, tell)
	} else {
		err = tokens.Device(ctx, c.Account, tell)
	}
	line.Stop()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "%s: the token is kept\n", c.Account)
	return err
}

// hasDevice reports whether the issuer of a grant has device codes.
func hasDevice(o config.OAuth, name string) bool {
	for _, g := range o.Grants {
		if g.Name == name {
			preset, err := g.Preset()
			return g.DeviceURL != "" || err == nil && g.TokenURL == "" && preset.Endpoint.Device != ""
		}
	}
	return false
}

func prompt(out io.Writer, account string, p oauth.Prompt) {
	fmt.Fprintf(out, "As %s, open\n\n    %s\n\n", account, p.URL)
	if p.Code != "" {
		fmt.Fprintf(out, "and enter the code\n\n    %s\n\n", p.Code)
	}
	if !p.Expires.IsZero() {
		fmt.Fprintf(out, "It is waited for until %s.\n", p.Expires.Local().Format("15:04"))
	}
}

// waiting says what is waited for, and how long it still can be.
func waiting(until, now time.Time) string {
	const what = "waiting for the consent"
	switch left := until.Sub(now); {
	case until.IsZero():
		return what
	case left < time.Minute:
		return fmt.Sprintf("%s, %d s left", what, max(0, int(left.Seconds())))
	default:
		return fmt.Sprintf("%s, %d min left", what, int(left.Minutes()))
	}
}

type oauthRemoveCommand struct {
	oauthSettings
	Account string `arg:"" help:"The user whose token is forgotten."`
}

// Help is shown by --help.
func (oauthRemoveCommand) Help() string {
	return `The token is deleted here and nowhere else: to end it for everybody, take the consent back at the issuer.`
}

// Run deletes a refresh token.
func (c *oauthRemoveCommand) Run(ctx context.Context, env environment) (err error) {
	_, all, err := c.load(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	tokens, err := c.one(all)
	if err != nil {
		return err
	}
	if err := tokens.Remove(ctx, c.Account); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no token of %s; \"popgate oauth status\" lists those there are", c.Account)
	} else if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "%s: the token is forgotten\n", c.Account)
	return err
}

type oauthStatusCommand struct {
	oauthSettings
	JSON bool `name:"json" help:"One JSON object for each account, a line each."`
}

// Help is shown by --help.
func (oauthStatusCommand) Help() string {
	return `It asks nobody: it shows what is kept. The exit code is 1 if a person must act for any account.

--json prints an object for each account, a line each: grant, account, state (ok, failing, app-only or unreadable), authorized, succeeded, ends, failed and failure; times are as in RFC 3339.`
}

// A tokenRow is an account in the output of status.
type tokenRow struct {
	Grant      string    `json:"grant"`
	Account    string    `json:"account,omitempty"`
	State      string    `json:"state"` // ok, failing, app-only or unreadable
	Authorized time.Time `json:"authorized,omitzero"`
	Succeeded  time.Time `json:"succeeded,omitzero"`
	Ends       time.Time `json:"ends,omitzero"`
	Failed     time.Time `json:"failed,omitzero"`
	Failure    string    `json:"failure,omitempty"`
}

// Run shows every account.
func (c *oauthStatusCommand) Run(_ context.Context, env environment) (err error) {
	_, all, err := c.load(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	line := env.progress.Progress("reading the tokens")
	defer line.Stop()
	var rows []tokenRow
	failing := 0
	for _, g := range all.list {
		if c.Grant != "" && c.Grant != g.name {
			continue
		}
		more := statusRows(g)
		rows = append(rows, more...)
		for _, r := range more {
			if r.Failure != "" {
				failing++
			}
		}
	}
	line.Stop()
	if c.JSON {
		err = writeRowsJSON(env.stdout, rows)
	} else {
		err = writeRows(env.stdout, rows, time.Now())
	}
	if err == nil && failing > 0 {
		err = fmt.Errorf("for %d of %d accounts a person must act: most are cured by \"popgate oauth login\"", failing, len(rows))
	}
	return err
}

func statusRows(g grant) []tokenRow {
	states, bad := g.tokens.States()
	slices.SortFunc(states, func(a, b oauth.State) int { return strings.Compare(a.Account, b.Account) })
	var rows []tokenRow
	for _, s := range states {
		r := tokenRow{Grant: g.name, Account: s.Account, State: "ok", Authorized: s.Authorized, Succeeded: s.Succeeded,
			Ends: s.Ends, Failed: s.Failed, Failure: s.Failure}
		switch {
		case s.Failure != "":
			r.State = "failing"
		case g.tokens.AppOnly():
			r.State = "app-only"
		}
		rows = append(rows, r)
	}
	for _, err := range bad {
		rows = append(rows, tokenRow{Grant: g.name, State: "unreadable", Failure: err.Error()})
	}
	return rows
}

func writeRowsJSON(out io.Writer, rows []tokenRow) error {
	e := json.NewEncoder(out)
	for _, r := range rows {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func writeRows(out io.Writer, rows []tokenRow, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GRANT\tACCOUNT\tSTATE\tCONSENT\tLAST TOKEN\tENDS UNUSED\tWHAT IS WRONG")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Grant, orDash(r.Account), r.State,
			date(r.Authorized), ago(r.Succeeded, now), date(r.Ends), orDash(r.Failure))
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateOnly)
}

func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < 0:
		return "in the future"
	case d < time.Minute:
		return "just now"
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "m0s") + "m ago"
	default:
		return fmt.Sprintf("%d days ago", int(d/(24*time.Hour)))
	}
}
