package wrap

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/popgate/popgate/upstream"
)

// Bound says what a limit on guesses is kept by.
type Bound string

// The bounds, from the narrowest to the widest. A network and a block hold 4 and
// 16 times what an address does.
const (
	ByPair    Bound = "pair"    // one account from one address: for who has logged in before
	ByAddress Bound = "address" // one IPv4 address, one IPv6 /64
	ByNetwork Bound = "network" // an IPv4 /24, an IPv6 /48
	ByBlock   Bound = "block"   // an IPv4 /16, an IPv6 /32
	ByAccount Bound = "account" // one account, from wherever
)

// Bounds lists every [Bound].
func Bounds() []Bound { return []Bound{ByPair, ByAddress, ByNetwork, ByBlock, ByAccount} }

// guesses counts wrong passwords. A login claims a place under every bound that
// holds for it, and settles the claim with its outcome. Safe for concurrent use.
type guesses struct {
	options ThrottleOptions
	key     [sha256.Size]byte // of the digests: no one can choose names that meet
	began   time.Time         // the clock is monotonic: no setting of the wall clock matters

	mu       sync.Mutex
	memories map[Bound]*memory
}

func newGuesses(o ThrottleOptions) *guesses {
	g := &guesses{options: o, began: time.Now(), memories: map[Bound]*memory{}}
	rand.Read(g.key[:]) // never fails
	for _, by := range Bounds() {
		g.memories[by] = newMemory(o.Entries)
	}
	return g
}

func (g *guesses) now() time.Duration { return time.Since(g.began) }

// cost is what a wrong password takes from the room under a bound; it is
// regained as time passes.
func (g *guesses) cost(by Bound) time.Duration {
	switch by {
	case ByNetwork:
		return g.options.Regain / 4
	case ByBlock:
		return g.options.Regain / 16
	}
	return g.options.Regain
}

// full is the room under every bound.
func (g *guesses) full() time.Duration { return time.Duration(g.options.Guesses) * g.options.Regain }

// hasRoom reports whether one more login may begin, those under way all taken for
// wrong.
func (g *guesses) hasRoom(by Bound, e *entry, now time.Duration) bool {
	return max(e.wrong-now, 0)+time.Duration(e.underway+1)*g.cost(by) <= g.full()
}

// A place is what one login is counted under for one bound.
type place struct {
	by    Bound
	name  name
	entry *entry
}

// A claim is a login that has begun.
type claim struct {
	g      *guesses
	pair   name
	places []place
}

// claim begins a login. It waits while others under way could still leave room
// for it. If there is none, limit says under which bound, and there is no claim.
func (g *guesses) claim(ctx context.Context, c upstream.Credentials) (_ *claim, limit Bound, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var behind place // where it has just waited
	for {
		places := g.places(c)
		blocked := g.blocked(places)
		if blocked.entry == nil {
			g.begin(places)
			g.wake(behind)
			return &claim{g, g.pair(c), places}, "", nil
		}
		if blocked.entry.underway == 0 {
			g.wake(behind)
			return nil, blocked.by, nil
		}
		turn := make(chan struct{})
		blocked.entry.queue = append(blocked.entry.queue, turn)
		g.wake(behind)
		behind = blocked
		g.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		g.mu.Lock()
		if err != nil {
			g.leave(blocked, turn)
			return nil, "", err
		}
	}
}

// places lists what a login is counted under now. Who has logged in before, or
// comes from an exempt address, is counted alone: nobody else's guesses shut him
// out, and his own do not shut out others.
func (g *guesses) places(c upstream.Credentials) []place {
	now := g.now()
	pair := place{by: ByPair, name: g.pair(c)}
	pair.entry = g.memories[ByPair].find(pair.name, now)
	if pair.entry != nil && pair.entry.known > now || g.exempt(address(c)) {
		return []place{pair}
	}
	ip := address(c)
	places := []place{
		{by: ByAddress, name: g.digest(ByAddress, within(ip, 32, 64))},
		{by: ByNetwork, name: g.digest(ByNetwork, within(ip, 24, 48))},
		{by: ByBlock, name: g.digest(ByBlock, within(ip, 16, 32))},
		{by: ByAccount, name: g.digest(ByAccount, g.user(c))},
	}
	for i, p := range places {
		places[i].entry = g.memories[p.by].find(p.name, now)
	}
	return places
}

// blocked returns the first place without room; one of the zero value if there
// is room everywhere.
func (g *guesses) blocked(places []place) place {
	for _, p := range places {
		if p.entry != nil && !g.hasRoom(p.by, p.entry, g.now()) {
			return p
		}
	}
	return place{}
}

// begin counts a login as under way. While it is, it is remembered as long as a
// guesser of the worst kind.
func (g *guesses) begin(places []place) {
	now := g.now()
	for i := range places {
		p := &places[i]
		m := g.memories[p.by]
		if p.entry == nil {
			p.entry = m.add(p.name, now, now+g.full())
		}
		p.entry.underway++
		m.keep(p.entry, max(p.entry.end, now+g.full()))
	}
}

// settle ends a claim. A wrong password is counted; any other outcome leaves the
// counts as they are. After a success the pair is known, for Known from now.
func (c *claim) settle(wrong, success bool) {
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	for _, p := range c.places {
		e := p.entry
		e.underway--
		if wrong {
			e.wrong = max(e.wrong, now) + g.cost(p.by)
		}
		g.remember(p.by, e, now)
		g.wake(p)
	}
	if success {
		m := g.memories[ByPair]
		e := m.find(c.pair, now)
		if e == nil {
			e = m.add(c.pair, now, now+g.options.Known)
		}
		e.known = now + g.options.Known
		g.remember(ByPair, e, now)
	}
}

// remember sets the end of e to what is left to know of it.
func (g *guesses) remember(by Bound, e *entry, now time.Duration) {
	end := max(e.wrong, e.known)
	if e.underway > 0 {
		end = max(end, now+g.full())
	}
	m := g.memories[by]
	m.keep(e, end)
	m.forget(now)
}

// wake lets the first in the queue try again if it can go on now, or if there is
// nothing left to wait for. Whoever was woken wakes the next.
func (g *guesses) wake(p place) {
	e := p.entry
	if e == nil || len(e.queue) == 0 || e.underway > 0 && !g.hasRoom(p.by, e, g.now()) {
		return
	}
	close(e.queue[0])
	e.queue = e.queue[1:]
}

// leave gives up waiting. A turn that came in the meantime goes to the next.
func (g *guesses) leave(p place, turn chan struct{}) {
	for i, other := range p.entry.queue {
		if other == turn {
			p.entry.queue = append(p.entry.queue[:i:i], p.entry.queue[i+1:]...)
			return
		}
	}
	g.wake(p)
}

// exempt reports whether the bounds by address and by account do not hold for ip.
func (g *guesses) exempt(ip netip.Addr) bool {
	if !ip.IsValid() || ip.IsLoopback() && !g.options.CountLoopback {
		return true
	}
	for _, p := range g.options.Exempt {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func (g *guesses) pair(c upstream.Credentials) name {
	return g.digest(ByPair, within(address(c), 32, 64)+"\x00"+g.user(c))
}

// digest makes a name of a text whose length does not matter then.
func (g *guesses) digest(by Bound, text string) name {
	h := sha256.New()
	h.Write(g.key[:])
	h.Write([]byte(by))
	h.Write([]byte{0})
	h.Write([]byte(text))
	return name(h.Sum(nil)[:len(name{})])
}

func address(c upstream.Credentials) netip.Addr { return c.Client.Addr().Unmap().WithZone("") }

// user is the account as far as the throttle knows: most servers take user names
// in any case of letters.
func (g *guesses) user(c upstream.Credentials) string {
	return strings.ToLower(g.options.Account(c))
}

// within names the network of ip that has so many bits; "" without an address.
func within(ip netip.Addr, bits4, bits6 int) string {
	bits := bits6
	if ip.Is4() {
		bits = bits4
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}
