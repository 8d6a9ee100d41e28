package imap

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/popgate/popgate/upstream"
)

// firstAnswer is how long the first command on a connection that has waited may
// take. A network may have forgotten the connection without a word; a new login
// has the whole time again.
const firstAnswer = 10 * time.Second

// A pool holds authenticated connections between sessions, one for each account
// at most, until the password was proved too long ago. It is safe for concurrent
// use.
type pool struct {
	age time.Duration // since the password was proved to the server
	max int

	// proofKey is random: a proof means something in this pool alone.
	proofKey [sha256.Size]byte

	watching sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	held    int // connections that wait or are being closed: max or fewer
	waiting map[string]*waiting
}

// waiting is one connection of a pool. It leaves the pool once: whoever takes it
// out of the map under the pool's lock decides who closes it.
type waiting struct {
	account string
	proof   [sha256.Size]byte
	conn    *conn
	left    chan struct{} // closed when it is out of the map
	taken   bool          // by a session, which closes it
}

func newPool(age time.Duration, max int) *pool {
	p := &pool{age: age, max: max, closed: age <= 0, waiting: map[string]*waiting{}}
	rand.Read(p.proofKey[:]) // never fails
	return p
}

// prove makes of exactly these credentials what is kept in their place.
func (p *pool) prove(c upstream.Credentials) (proof [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.proofKey[:])
	for _, part := range []string{string(rune(c.Proof)), c.Authorize, c.User, c.Secret.Reveal()} {
		var length [8]byte // before it, so that no part runs into the next
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	mac.Sum(proof[:0])
	return proof
}

// young reports whether the password was proved to the server lately enough.
func (p *pool) young(c *conn) bool { return time.Since(c.proved) < p.age }

// take returns the connection that waits for this account, if the credentials
// are those that it was authenticated with, and nil otherwise. Credentials that
// are not leave it waiting.
func (p *pool) take(account string, c upstream.Credentials) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[account]
	if w == nil || !w.conn.alive() || !p.young(w.conn) {
		return nil
	}
	if proof := p.prove(c); !hmac.Equal(proof[:], w.proof[:]) {
		return nil
	}
	w.taken = true
	p.remove(w)
	p.held--
	w.conn.guard.Withhold(w.conn.store.o.unspeakable(c)...)
	w.conn.untried = true
	return w.conn
}

// park lets c, which was authenticated with these credentials and has no command
// under way, wait for the account's next session. It reports whether it does: if
// not, the caller closes it. Of two for one account the later proof stays.
func (p *pool) park(account string, creds upstream.Credentials, c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.held >= p.max || !c.alive() || !p.young(c) {
		return false
	}
	if other := p.waiting[account]; other != nil {
		if other.conn.proved.After(c.proved) {
			return false
		}
		p.remove(other)
	}
	c.guard.Withhold() // no part of the password stays
	c.guard.Tell(nil)
	w := &waiting{account: account, proof: p.prove(creds), conn: c, left: make(chan struct{})}
	p.waiting[account] = w
	p.held++
	p.watching.Go(func() { p.watch(w) })
	return true
}

// remove ends the waiting of w, if it still waits. The caller holds mu.
func (p *pool) remove(w *waiting) {
	if p.waiting[w.account] == w {
		delete(p.waiting, w.account)
		close(w.left)
	}
}

// watch stays until w leaves the pool, its time is over or the server closes the
// connection, and closes it unless a session has it.
func (p *pool) watch(w *waiting) {
	timer := time.NewTimer(time.Until(w.conn.proved.Add(p.age)))
	defer timer.Stop()
	select {
	case <-w.left:
	case <-timer.C:
	case <-w.conn.client.Closed():
	}
	p.mu.Lock()
	p.remove(w)
	p.mu.Unlock()
	if w.taken {
		return
	}
	w.conn.close()
	p.mu.Lock()
	p.held--
	p.mu.Unlock()
}

// close closes every connection that waits. None waits from now on.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, w := range p.waiting {
		p.remove(w)
	}
	p.mu.Unlock()
	p.watching.Wait()
}
