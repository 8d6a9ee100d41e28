package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// scale is how much of everything there is.
type scale struct {
	accounts, polls, few, mixed, tiny, idle int
	blob                                    int
}

var (
	fullScale  = scale{accounts: 200, polls: 1000, few: 1000, mixed: 10_000, tiny: 200_000, idle: 200, blob: 50 << 20}
	quickScale = scale{accounts: 20, polls: 60, few: 100, mixed: 200, tiny: 5000, idle: 20, blob: 4 << 20}
)

const (
	blobReaders = 4
	blobsEach   = 2
	pipeline    = 16
)

// A bench is everything that a work needs.
type bench struct {
	scale
	backend *backend
	store   string // folder of the corpora
	four    *corpus
	mixedM  *corpus
	tinyM   *corpus
	blobs   *corpus
	deleted int // mailboxes that were made to be emptied
}

// A work is what a contender is measured at. It tells its figures by the names of
// rows.
type work struct {
	name string
	rows []string
	run  func(ctx context.Context, b *bench, c *contender, tell func(row string, v float64)) error
	wire func(b *bench, addr string, tell func(row string, v float64)) error // nil: there is no such figure
}

func works() []work {
	return []work{
		{"poll", []string{poll8, poll64, pollCPU}, runPolls, wirePolls},
		{"poll-far", []string{pollFar}, runPollFar, wirePollFar},
		{"download", []string{down, downFar}, runFetch("RETR %d", 1, down, downFar), wireFetch("BODY.PEEK[]", down, downFar)},
		{"pipelined", []string{pipe, pipeFar}, runFetch("RETR %d", pipeline, pipe, pipeFar), nil},
		{"top", []string{top, topFar}, runFetch("TOP %d 0", 1, top, topFar), wireFetch("BODY.PEEK[HEADER]", top, topFar)},
		{"mixed", []string{mixedDown}, runMixed, nil},
		{"open", []string{openFirst, openAgain, uidlFirst, uidlAgain, openMemory}, runOpen, wireOpen},
		{"blobs", []string{blobRate, blobMemory, blobOctet}, runBlobs, wireBlobs},
		{"idle", []string{idlePSS}, runIdle, nil},
		{"delete", []string{deleteNear, deleteFar}, runDelete, nil},
		{"slow", []string{slowMemory}, runSlow, nil},
	}
}

func since(t time.Time) float64 { return time.Since(t).Seconds() }

func account(i int) string { return fmt.Sprintf("account%d", i+1) }

// populate makes every mailbox.
func (b *bench) populate() error {
	b.four = newCorpus("four", b.few, sized(4096))
	b.mixedM = newCorpus("mixed", b.scale.mixed, mixed)
	b.tinyM = newCorpus("tiny", 20, sized(400))
	b.blobs = newCorpus("blob", blobsEach, sized(b.blob))
	for _, c := range []*corpus{b.four, b.mixedM, b.tinyM, b.blobs} {
		if err := c.store(b.store); err != nil {
			return err
		}
	}
	type box struct {
		c    *corpus
		user string
		n    int
	}
	boxes := []box{{b.four, "four", b.few}, {b.mixedM, "mixed", b.scale.mixed}, {b.tinyM, "tiny", b.tiny}}
	for i := range b.accounts {
		boxes = append(boxes, box{b.four, account(i), 20})
	}
	for i := range blobReaders {
		boxes = append(boxes, box{b.blobs, fmt.Sprint("blob", i+1), blobsEach})
	}
	for _, x := range boxes {
		if err := x.c.maildir(b.store, b.backend.homes+"/"+x.user, x.n, lab.MailUser); err != nil {
			return err
		}
		// The server's own indexes are there before anything is measured.
		if n, err := wireSizes(b.backend.imap, x.user); err != nil || n != x.n {
			return fmt.Errorf("%s has %d messages, want %d: %w", x.user, n, x.n, err)
		}
	}
	return nil
}

// warm lets a contender see once every mailbox that it will be asked for. Over the
// line that is no large one: imapc takes a round trip for each message.
func (b *bench) warm(c *contender) error {
	accounts := []string{"four"}
	for k := range b.accounts {
		accounts = append(accounts, account(k))
	}
	large := []string{"mixed", "tiny"}
	for k := range blobReaders {
		large = append(large, fmt.Sprint("blob", k+1))
	}
	for _, i := range []instance{c.near, c.far} {
		users := accounts
		if i.addr == c.near.addr {
			users = append(users, large...)
		}
		err := inParallel(8, len(users), func(k int) error { return poll(i.addr, users[k], -1) })
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// inParallel calls f for 0 to n-1, k at a time.
func inParallel(k, n int, f func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, k)
	for range k {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// poll looks whether there is mail. want is how many messages there are, -1 for
// any number.
func poll(addr, user string, want int) error {
	c, err := login(addr, user)
	if err != nil {
		return fmt.Errorf("%s: %w", user, err)
	}
	n, _, err := c.stat()
	if err != nil {
		return c.failed("STAT", err)
	}
	k, err := c.uidl()
	if err != nil || k != n || want >= 0 && n != want {
		return c.failed("UIDL", fmt.Errorf("STAT tells %d, UIDL %d, want %d: %w", n, k, want, err))
	}
	return c.quit()
}

func runPolls(_ context.Context, b *bench, c *contender, tell func(string, float64)) error {
	for _, at := range []struct {
		row     string
		clients int
	}{{poll8, 8}, {poll64, 64}} {
		cpu, start := c.near.tree().cpu(), time.Now()
		if err := inParallel(at.clients, b.polls, func(i int) error { return poll(c.near.addr, account(i%b.accounts), 20) }); err != nil {
			return err
		}
		tell(at.row, float64(b.polls)/since(start))
		if at.row == poll8 {
			tell(pollCPU, (c.near.tree().cpu()-cpu).Seconds()*1000/float64(b.polls))
		}
	}
	return nil
}

func wirePolls(b *bench, addr string, tell func(string, float64)) error {
	for _, at := range []struct {
		row     string
		clients int
	}{{poll8, 8}, {poll64, 64}} {
		start := time.Now()
		if err := inParallel(at.clients, b.polls, func(i int) error {
			return wireSession(addr, account(i%b.accounts), nil, "EXAMINE INBOX", "UID FETCH 1:* (UID RFC822.SIZE)", "LOGOUT")
		}); err != nil {
			return err
		}
		tell(at.row, float64(b.polls)/since(start))
	}
	return nil
}

// p50 is the median time of n calls, in milliseconds.
func p50(n int, f func(i int) error) (float64, error) {
	var times []float64
	for i := range n {
		start := time.Now()
		if err := f(i); err != nil {
			return 0, err
		}
		times = append(times, 1000*since(start))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

func runPollFar(_ context.Context, b *bench, c *contender, tell func(string, float64)) error {
	// The same accounts twice in a row, so that what may be kept is there.
	ms, err := p50(30, func(i int) error { return poll(c.far.addr, account(i%5), 20) })
	tell(pollFar, ms)
	return err
}

func wirePollFar(b *bench, _ string, tell func(string, float64)) error {
	ms, err := p50(10, func(i int) error {
		return wireSession(b.backend.farIMAP.addr(), account(i), nil, "EXAMINE INBOX", "UID FETCH 1:* (UID RFC822.SIZE)")
	})
	tell(pollFar, ms)
	return err
}

// session is one POP3 session that fetches n messages, from the connection to the
// reply to QUIT, as messages a second.
func session(addr, user string, of *corpus, n int, verb string, ahead int) (float64, error) {
	start := time.Now()
	c, err := login(addr, user)
	if err != nil {
		return 0, err
	}
	if err := c.fetch(of, n, verb, ahead); err != nil {
		return 0, c.failed(user, err)
	}
	if err := c.quit(); err != nil {
		return 0, err
	}
	return float64(n) / since(start), nil
}

func runFetch(verb string, ahead int, near, far string) func(context.Context, *bench, *contender, func(string, float64)) error {
	return func(_ context.Context, b *bench, c *contender, tell func(string, float64)) error {
		for row, addr := range map[string]string{near: c.near.addr, far: c.far.addr} {
			if row == far && c.once[row] {
				continue // a round trip for each message: it takes long, and does not vary
			}
			if c.once != nil {
				c.once[row] = true
			}
			rate, err := session(addr, "four", b.four, b.few, verb, ahead)
			if err != nil {
				return err
			}
			tell(row, rate)
		}
		return nil
	}
}

func wireFetch(item, near, far string) func(*bench, string, func(string, float64)) error {
	return func(b *bench, addr string, tell func(string, float64)) error {
		for row, addr := range map[string]string{near: addr, far: b.backend.farIMAP.addr()} {
			start := time.Now()
			n, _, err := wireBodies(addr, "four", item)
			if err != nil || n != b.few {
				return fmt.Errorf("%d of %d bodies: %w", n, b.few, err)
			}
			tell(row, float64(n)/since(start))
		}
		return nil
	}
}

func runMixed(_ context.Context, b *bench, c *contender, tell func(string, float64)) error {
	rate, err := session(c.near.addr, "mixed", b.mixedM, b.scale.mixed, "RETR %d", 1)
	tell(mixedDown, rate)
	return err
}

// runOpen opens the large mailbox as if for the first time, and again.
func runOpen(ctx context.Context, b *bench, c *contender, tell func(string, float64)) error {
	if err := c.near.anew(ctx); err != nil {
		return err
	}
	before := c.near.tree().pss()
	for _, row := range [][2]string{{openFirst, uidlFirst}, {openAgain, uidlAgain}} {
		start := time.Now()
		p, err := login(c.near.addr, "tiny")
		if err != nil {
			return err
		}
		n, octets, err := p.stat()
		if err != nil || n != b.tiny {
			return p.failed("STAT", fmt.Errorf("%d messages of %d octets: %w", n, octets, err))
		}
		tell(row[0], since(start))
		if k, err := p.uidl(); err != nil || k != n {
			return p.failed("UIDL", fmt.Errorf("%d of %d: %w", k, n, err))
		}
		if err := p.quit(); err != nil {
			return err
		}
		tell(row[1], since(start))
	}
	tell(openMemory, float64(c.near.tree().pss()-before)/1e6)
	return nil
}

func wireOpen(b *bench, addr string, tell func(string, float64)) error {
	for _, row := range []string{openFirst, openAgain} {
		start := time.Now()
		n, err := wireSizes(addr, "tiny")
		if err != nil || n != b.tiny {
			return fmt.Errorf("%d messages: %w", n, err)
		}
		tell(row, since(start))
		tell(map[string]string{openFirst: uidlFirst, openAgain: uidlAgain}[row], since(start))
	}
	return nil
}

func runBlobs(_ context.Context, b *bench, c *contender, tell func(string, float64)) error {
	growth := c.near.tree().watch()
	start := time.Now()
	var octets atomic.Int64
	var mu sync.Mutex
	var first []float64
	err := inParallel(blobReaders, blobReaders, func(i int) error {
		p, err := login(c.near.addr, fmt.Sprint("blob", i+1))
		if err != nil {
			return err
		}
		for n := range blobsEach {
			asked := time.Now()
			if _, err := p.command(fmt.Sprint("RETR ", n+1)); err != nil {
				return p.failed("RETR", err)
			}
			if _, err := p.in.Peek(1); err != nil {
				return p.failed("RETR", err)
			}
			ms := 1000 * since(asked)
			_, k, err := p.body(b.blobs, false)
			if err != nil {
				return p.failed("RETR", err)
			}
			octets.Add(k)
			mu.Lock()
			first = append(first, ms)
			mu.Unlock()
		}
		return p.quit()
	})
	tell(blobMemory, float64(growth())/1e6)
	if err != nil {
		return err
	}
	tell(blobRate, float64(octets.Load())/1e6/since(start))
	slices.Sort(first)
	tell(blobOctet, first[len(first)/2])
	return nil
}

func wireBlobs(b *bench, addr string, tell func(string, float64)) error {
	start := time.Now()
	var octets atomic.Int64
	err := inParallel(blobReaders, blobReaders, func(i int) error {
		n, k, err := wireBodies(addr, fmt.Sprint("blob", i+1), "BODY.PEEK[]")
		if err == nil && n != blobsEach {
			err = fmt.Errorf("%d blobs", n)
		}
		octets.Add(k)
		return err
	})
	tell(blobRate, float64(octets.Load())/1e6/since(start))
	return err
}

// settle is how long memory is left alone before it is measured.
const settle = 2 * time.Second

func runIdle(ctx context.Context, b *bench, c *contender, tell func(string, float64)) error {
	if err := c.near.anew(ctx); err != nil {
		return err
	}
	// One session, so that what is loaded once is loaded.
	if err := poll(c.near.addr, account(0), -1); err != nil {
		return err
	}
	time.Sleep(settle)
	before := c.near.tree().pss()
	clients := make([]*client, b.idle)
	defer func() {
		for _, p := range clients {
			if p != nil {
				p.conn.Close()
			}
		}
	}()
	if err := inParallel(8, b.idle, func(i int) (err error) {
		if clients[i], err = login(c.near.addr, account(i%b.accounts)); err != nil {
			return err
		}
		_, _, err = clients[i].stat()
		return err
	}); err != nil {
		return err
	}
	time.Sleep(settle)
	tell(idlePSS, float64(c.near.tree().pss()-before)/float64(b.idle)/1e3)
	return nil
}

func runDelete(_ context.Context, b *bench, c *contender, tell func(string, float64)) error {
	for row, addr := range map[string]string{deleteNear: c.near.addr, deleteFar: c.far.addr} {
		b.deleted++
		user := fmt.Sprint("deleted", b.deleted)
		if err := b.four.maildir(b.store, b.backend.homes+"/"+user, b.few, lab.MailUser); err != nil {
			return err
		}
		if err := poll(addr, user, b.few); err != nil { // its first listing is another work
			return err
		}
		took, err := deleteAll(addr, user, b.few)
		if err != nil {
			return err
		}
		tell(row, took)
		if n, err := wireSizes(b.backend.imap, user); err != nil && !strings.Contains(err.Error(), "Invalid messageset") || n != 0 {
			return fmt.Errorf("%s: %d messages are left behind +OK: %w", c.name, n, err)
		}
	}
	return nil
}

// deleteAll marks n messages and quits, and returns how many seconds that took
// behind the login.
func deleteAll(addr, user string, n int) (float64, error) {
	p, err := login(addr, user)
	if err != nil {
		return 0, err
	}
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprint("DELE ", i+1))
	}
	start := time.Now()
	if err := p.send(lines...); err != nil {
		return 0, p.failed("DELE", err)
	}
	for range n {
		if _, err := p.reply(); err != nil {
			return 0, p.failed("DELE", err)
		}
	}
	if err := p.quit(); err != nil {
		return 0, err
	}
	return since(start), nil
}

// runSlow is a client that stops to read in the middle of a large message.
func runSlow(_ context.Context, b *bench, c *contender, tell func(string, float64)) error {
	p, err := login(c.near.addr, "blob1")
	if err != nil {
		return err
	}
	defer p.conn.Close()
	growth := c.near.tree().watch()
	if _, err := p.command("RETR 1"); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, p.in, 64<<10); err != nil {
		return err
	}
	time.Sleep(settle)
	tell(slowMemory, float64(growth())/1e6)
	return nil
}
