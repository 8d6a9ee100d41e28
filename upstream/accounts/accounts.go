package accounts

import (
	"context"
	"crypto/subtle"
	"errors"
	"hash/maphash"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/popgate/popgate/upstream"
)

// Options say where the accounts are. Only File is required.
type Options struct {
	File string
	// Hashes is how many passwords are hashed at a time; each takes a processor,
	// and up to 64 MiB. 0: one for each processor, 4 at most.
	Hashes int
	// Poll is how often Watch looks at the file; 5 s. A file is read when two looks
	// in a row have seen it the same.
	Poll  time.Duration
	Trace Trace
}

// Trace tells what becomes of a file that changes. Nil functions are not called.
type Trace struct {
	Reloaded     func(accounts int)
	ReloadFailed func(error) // the last accounts stay; told once for each cause
}

// Accounts are the accounts of a file. They are safe for concurrent use.
type Accounts struct {
	options Options
	hashing chan struct{} // holds a value for each hash that is reckoned
	seed    maphash.Seed  // picks stand-ins
	table   atomic.Pointer[table]
	watched watched

	hashed func(hash) // told of each hash; for tests
}

// Open reads the file.
func Open(o Options) (*Accounts, error) {
	if o.Hashes <= 0 {
		o.Hashes = min(runtime.GOMAXPROCS(0), 4)
	}
	if o.Poll <= 0 {
		o.Poll = 5 * time.Second
	}
	a := &Accounts{options: o, hashing: make(chan struct{}, o.Hashes), seed: maphash.MakeSeed()}
	a.watched.seen = a.look() // before it is read: a change meanwhile is seen later
	t, err := load(o.File)
	if err != nil {
		return nil, err
	}
	a.take(t)
	return a, nil
}

// Len is the number of accounts.
func (a *Accounts) Len() int { return len(a.table.Load().accounts) }

// Exposed reports whether any user of the machine can read secrets: the file holds
// some that are no hashes, and its mode lets others than its owner and group read it.
func (a *Accounts) Exposed() bool {
	t := a.table.Load()
	return t.secrets && t.mode&0o007 != 0
}

// SharedSecret returns the secret that user shares with popgate for APOP, CRAM-MD5
// and SCRAM-SHA-256, false where there is none.
func (a *Accounts) SharedSecret(user string) (upstream.Secret, bool) {
	acc := a.table.Load().find(user)
	if acc == nil || acc.shared == "" {
		return upstream.Secret{}, false
	}
	return upstream.NewSecret(acc.shared), true
}

var (
	errWrong    = errors.New("no such account, or not its password")
	errIdentity = errors.New("a local account has its own maildrop and no other")
	errProof    = errors.New("a local account is not proved by a token")
)

// Prove proves the client of c to be one of the accounts. It returns what to go on
// with: the account's user, password and mailbox at the mail service in the place
// of the client's, as far as it has them. What a client has proved by its shared
// secret goes on as its password; a certificate goes on as it is where the account
// has no password for the mail service.
//
// Errors are of kind [upstream.Refused] where the client is not the account, and
// of kind [upstream.Unavailable] where ctx ended before its password could be
// hashed.
func (a *Accounts) Prove(ctx context.Context, c upstream.Credentials) (upstream.Credentials, error) {
	t := a.table.Load()
	acc := t.find(c.User)
	proved := false
	switch c.Proof {
	case upstream.Password:
		var err error
		if proved, err = a.password(ctx, t, acc, c); err != nil {
			return c, &upstream.Error{Kind: upstream.Unavailable, Op: "prove", Err: err}
		}
	case upstream.Shared:
		proved = acc != nil && same(acc.shared, c.Secret.Reveal())
	case upstream.External:
		proved = acc != nil && acc.external
	default:
		return c, refused(errProof)
	}
	switch {
	case !proved:
		return c, refused(errWrong)
	case c.Authorize != "":
		return c, refused(errIdentity)
	}
	return acc.stepIn(c), nil
}

func refused(cause error) error {
	return &upstream.Error{Kind: upstream.Refused, Op: "prove", Err: cause}
}

// password compares a password with that of an account; acc may be nil. It costs
// one hash in every case.
func (a *Accounts) password(ctx context.Context, t *table, acc *account, c upstream.Credentials) (proved bool, err error) {
	password := c.Secret.Reveal()
	work := t.standIn(maphash.String(a.seed, fold(c.User)))
	if acc != nil && acc.hash != nil {
		work = acc.hash
	}
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if a.hashed != nil {
		a.hashed(work)
	}
	matches := work.matches(password)
	switch {
	case acc == nil:
		return false, nil
	case acc.hash == nil:
		return same(acc.shared, password), nil
	}
	return matches, nil
}

// same compares with a secret that is there.
func same(secret, given string) bool {
	return secret != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(given)) == 1
}

// fold makes one key of the spellings of a name.
func fold(user string) string { return strings.ToLower(user) }

// stepIn puts the account's credentials in the place of the client's.
func (acc *account) stepIn(c upstream.Credentials) upstream.Credentials {
	if acc.upstreamUser != "" {
		c.User = acc.upstreamUser
	}
	if acc.mailbox != "" {
		c.Mailbox = acc.mailbox
	}
	switch {
	case acc.upstreamPassword != "":
		c.Secret, c.Proof = upstream.NewSecret(acc.upstreamPassword), upstream.Password
	case c.Proof == upstream.Shared:
		c.Proof = upstream.Password
	}
	return c
}

// table is a file as it was read. It does not change.
type table struct {
	accounts map[string]*account // by folded name
	hashes   []hash              // those of the accounts, one or more
	secrets  bool                // there are secrets that are no hashes
	mode     uint32              // of the file
}

func (t *table) find(user string) *account { return t.accounts[fold(user)] }

// standIn is the hash that a user without one costs.
func (t *table) standIn(n uint64) hash { return t.hashes[n%uint64(len(t.hashes))] }
