package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/upstream/oauth"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// A grant gives out access tokens under a name of the configuration.
type grant struct {
	name   string
	tokens *oauth.Tokens
}

// grants are those of the configuration, in its order. They share one folder.
type grants struct{ list []grant }

// openGrants opens the token folder and makes the grants. m may be nil.
func openGrants(o config.OAuth, m *metrics.Metrics, log *slog.Logger) (*grants, error) {
	all := &grants{}
	if !o.Given() {
		return all, nil
	}
	var folder *tokenfile.Folder
	if o.Folder != "" {
		key, err := o.Key.Read(os.Getenv)
		if err != nil {
			return nil, err
		}
		if folder, err = tokenfile.Open(o.Folder, key); err != nil {
			return nil, err
		}
	}
	var count *metrics.OAuth
	if m != nil {
		names := make([]string, len(o.Grants))
		for i, g := range o.Grants {
			names[i] = g.Name
		}
		count = m.NewOAuth(names, words(oauth.Outcomes()))
	}
	for _, g := range o.Grants {
		options, err := g.Options(folder)
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		options.Every, options.Logger = o.Every, log
		if count != nil {
			options.Trace = oauthTrace(count, g.Name)
		}
		tokens, err := oauth.New(options)
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all.list = append(all.list, grant{g.Name, tokens})
	}
	return all, nil
}

// tokens returns the grant of that name; nil if there is none.
func (all *grants) tokens(name string) *oauth.Tokens {
	for _, g := range all.list {
		if g.name == name {
			return g.tokens
		}
	}
	return nil
}

// keep lets every grant keep its tokens alive, until ctx ends or the function that
// it returns is called, which waits for the end.
func (all *grants) keep(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, g := range all.list {
		running.Go(func() { g.tokens.Keep(ctx) })
	}
	return func() { cancel(); running.Wait() }
}

// close waits for the requests under way.
func (all *grants) close() error {
	var err error
	for _, g := range all.list {
		err = errors.Join(err, g.tokens.Close())
	}
	return err
}

func oauthTrace(m *metrics.OAuth, name string) oauth.Trace {
	return oauth.Trace{
		Requested: func(o oauth.Outcome, took time.Duration) { m.Requested(name, string(o), took) },
		Kept: func(s oauth.Summary) {
			m.Accounts(name, s.Accounts-s.Failing, s.Failing, s.Unreadable, s.Oldest, s.Ends)
		},
	}
}
