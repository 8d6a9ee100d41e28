package proxy

import (
	"math"
	"net"
	"net/netip"
	"testing"
	"time"
)

func addr(i int) net.Addr {
	ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 1))
}

// The table of addresses has a bound however many come, and is empty a minute
// after the last.
func TestTheTableOfAddressesIsBounded(t *testing.T) {
	o, err := Options{MaxConns: 50, RatePerAddress: 2}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	a := newAdmission(o)
	now := time.Unix(1e9, 0)
	var open []func()
	for i := range 10_000 {
		release, why := a.admit(addr(i), now)
		if why != "" {
			t.Fatalf("address %d is refused: %s", i, why)
		}
		if open = append(open, release); len(open) == 50 {
			open[0]()
			open = open[1:]
		}
		if n := len(a.addresses); n > 100 {
			t.Fatalf("%d entries for 50 connections", n)
		}
	}
	for i := range 49 { // those that have a connection are still known
		if who := a.addresses[netip.PrefixFrom(addr(9999-i).(*net.TCPAddr).AddrPort().Addr(), 32)]; who == nil || who.open != 1 {
			t.Fatalf("address %d with a connection was dropped", 9999-i)
		}
	}
	for _, release := range open {
		release()
	}
	release, _ := a.admit(addr(0), now.Add(time.Minute))
	if n := len(a.addresses); n != 1 || a.total != 1 {
		t.Errorf("a minute later: %d entries, %d connections, want 1 and 1", n, a.total)
	}
	release()
	if a.total != 0 {
		t.Errorf("total = %d", a.total)
	}
}

func TestFit(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		files                  uint64
		want, reserve, perConn int
		got                    int
		limited, fails         bool
	}{
		{"enough", 100_000, 10_000, 100, 3, 10_000, false, false},
		{"just_enough", 30_100, 10_000, 100, 3, 10_000, false, false},
		{"one_short", 30_099, 10_000, 100, 3, 9_999, true, false},
		{"small", 1024, 10_000, 100, 3, 308, true, false},
		{"room_for_one", 103, 10_000, 100, 3, 1, true, false},
		{"room_for_none", 102, 10_000, 100, 3, 0, true, true},
		{"less_than_the_reserve", 50, 10_000, 100, 3, 0, true, true},
		{"infinite", math.MaxUint64, 10_000, 100, 3, 10_000, false, false},
		{"bad_want", 1024, 0, 100, 3, 0, false, true},
		{"bad_size", 1024, 1, 0, 0, 0, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, limited, err := fit(tt.files, tt.want, tt.reserve, tt.perConn)
			if got != tt.got || limited != tt.limited || (err != nil) != tt.fails {
				t.Errorf("fit = %d, %v, %v; want %d, %v, error %v", got, limited, err, tt.got, tt.limited, tt.fails)
			}
		})
	}
	if got, _, err := FileLimit(1, 0, 1); got != 1 || err != nil {
		t.Errorf("FileLimit(1, 0, 1) = %d, %v", got, err)
	}
}
