package proxy

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// admission counts connections, in all and by address. Safe for concurrent use.
type admission struct {
	options Options
	most    int // entries of addresses

	mu        sync.Mutex
	total     int
	addresses map[netip.Prefix]*address
	swept     time.Time
}

// address is what is known of one IPv4 address or one IPv6 /64. An address whose
// state is the same as that of a stranger is forgotten.
type address struct {
	open   int
	tokens float64 // connections that it may still make at once
	at     time.Time
}

// sweepEvery is how often addresses are looked through, and the time in which an
// address regains its whole rate.
const sweepEvery = time.Minute

func newAdmission(o Options) *admission {
	a := &admission{options: o, addresses: map[netip.Prefix]*address{}}
	// At most MaxConns addresses have a connection: of twice as many entries half
	// can be dropped.
	a.most = 2 * min(o.MaxConns, 1<<20)
	return a
}

// admit takes a connection from peer; from nil it is not counted by address yet,
// see admitClient. Either why is not empty, or release must be called once when
// the connection has ended.
func (a *admission) admit(peer net.Addr, now time.Time) (release func(), why Rejection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.total >= a.options.MaxConns {
		return nil, TooMany
	}
	who, why := a.count(peer, now)
	if why != "" {
		return nil, why
	}
	a.total++
	return func() { a.release(1, who) }, ""
}

// admitClient counts by address a connection that admit has taken from nil. Its
// release is called besides the other.
func (a *admission) admitClient(client net.Addr, now time.Time) (release func(), why Rejection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	who, why := a.count(client, now)
	if why != "" {
		return nil, why
	}
	return func() { a.release(0, who) }, ""
}

// count counts a connection from peer; who is nil where it need not be counted.
func (a *admission) count(peer net.Addr, now time.Time) (who *address, why Rejection) {
	key, counted := a.key(peer)
	if !counted {
		return nil, ""
	}
	if now.Sub(a.swept) >= sweepEvery {
		a.sweep(now)
	}
	who = a.addresses[key]
	if who == nil {
		who = &address{tokens: float64(a.options.RatePerAddress), at: now}
		a.makeRoom()
		a.addresses[key] = who
	}
	who.refill(now, a.options.RatePerAddress)
	if who.open >= a.options.MaxPerAddress {
		return nil, TooManyFromAddress
	}
	if who.tokens < 1 {
		return nil, TooFast
	}
	who.tokens--
	who.open++
	return who, ""
}

// key returns the address to count for peer, if its connections are counted.
func (a *admission) key(peer net.Addr) (netip.Prefix, bool) {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if !ip.IsValid() || ip.IsLoopback() && !a.options.CountLoopback {
		return netip.Prefix{}, false
	}
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	key, err := ip.Prefix(bits)
	return key, err == nil
}

func (a *admission) release(conns int, who *address) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total -= conns
	if who != nil {
		who.open--
	}
}

func (w *address) refill(now time.Time, perMinute int) {
	if d := now.Sub(w.at); d > 0 {
		w.tokens = min(w.tokens+d.Minutes()*float64(perMinute), float64(perMinute))
		w.at = now
	}
}

// sweep forgets the addresses without a connection whose rate is whole again.
func (a *admission) sweep(now time.Time) {
	a.swept = now
	for key, who := range a.addresses {
		who.refill(now, a.options.RatePerAddress)
		if who.open == 0 && who.tokens >= float64(a.options.RatePerAddress) {
			delete(a.addresses, key)
		}
	}
}

// makeRoom drops addresses without a connection, by chance, while the table is
// full: an attacker with many addresses makes us forget some rates, and takes no
// memory.
func (a *admission) makeRoom() {
	if len(a.addresses) < a.most {
		return
	}
	for key, who := range a.addresses { // in an order by chance
		if who.open == 0 {
			delete(a.addresses, key)
			return
		}
	}
}

// sparse decides which of many equal events are logged: the first, and later one
// every ten seconds. Safe for concurrent use.
type sparse struct {
	mu     sync.Mutex
	next   time.Time
	silent int
}

const sparseEvery = 10 * time.Second

// due reports whether the event at now is logged, and how many were not since
// the last that was.
func (s *sparse) due(now time.Time) (silent int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.next) {
		s.silent++
		return 0, false
	}
	silent, s.silent, s.next = s.silent, 0, now.Add(sparseEvery)
	return silent, true
}
