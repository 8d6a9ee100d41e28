package main

import (
	"context"
	"log/slog"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/accounts"
)

// openAccounts reads the local accounts; nil where there are none.
func openAccounts(c config.Accounts, log *slog.Logger) (*accounts.Accounts, error) {
	if c.File == "" {
		return nil, nil
	}
	return accounts.Open(accounts.Options{File: c.File, Trace: accounts.Trace{
		Reloaded:     func(n int) { log.Info("new local accounts", "file", c.File, "accounts", n) },
		ReloadFailed: func(err error) { log.Error("the new accounts are of no use, the last ones stay", "error", err) },
	}})
}

// sharedSecrets is where the engine finds them; nil without accounts.
func sharedSecrets(a *accounts.Accounts) pop3.SharedSecrets {
	if a == nil {
		return nil
	}
	return a
}

// watchAccounts keeps the accounts as their file is, until the function that it
// returns is called.
func watchAccounts(ctx context.Context, a *accounts.Accounts) (stop func()) {
	if a == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Watch(ctx)
	}()
	return func() { cancel(); <-done }
}
