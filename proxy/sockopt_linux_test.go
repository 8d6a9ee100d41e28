package proxy_test

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/proxy"
)

// A peer that vanishes from an idle connection is found in two minutes: 60 s and
// four probes of 15 s.
func TestKeepAlive(t *testing.T) {
	for _, tt := range []struct {
		name   string
		set    net.KeepAliveConfig
		on     int
		values [3]int
	}{
		{"by_default", net.KeepAliveConfig{}, 1, [3]int{60, 15, 4}},
		{"as_set", net.KeepAliveConfig{Enable: true, Idle: 7 * time.Second, Interval: 2 * time.Second, Count: 3}, 1, [3]int{7, 2, 3}},
		{"off", net.KeepAliveConfig{Idle: -1, Interval: -1, Count: -1}, 0, [3]int{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			type result struct {
				on     int
				values [3]int
			}
			results := make(chan result, 1)
			s := start(t, proxy.Options{KeepAlive: tt.set}, proxy.Listener{Addr: "127.0.0.1:0", Handler: func(_ context.Context, c net.Conn) {
				var r result
				raw, err := c.(*net.TCPConn).SyscallConn()
				if err != nil {
					t.Error(err)
				}
				raw.Control(func(fd uintptr) {
					r.on, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
					if r.on == 0 {
						return
					}
					for i, o := range []int{syscall.TCP_KEEPIDLE, syscall.TCP_KEEPINTVL, syscall.TCP_KEEPCNT} {
						r.values[i], _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, o)
					}
				})
				results <- r
			}})
			dial(t, s)
			if got := <-results; got.on != tt.on || got.values != tt.values {
				t.Errorf("keepalive: %+v, want on %d, idle, interval and count %v", got, tt.on, tt.values)
			}
		})
	}
}

// The kernel sends what it is given at once: replies are gathered by the session,
// which knows when the client waits for them.
func TestNoDelay(t *testing.T) {
	results := make(chan int, 1)
	s := start(t, proxy.Options{}, proxy.Listener{Addr: "127.0.0.1:0", Handler: func(_ context.Context, c net.Conn) {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Error(err)
		}
		on := 0
		raw.Control(func(fd uintptr) { on, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY) })
		results <- on
	}})
	dial(t, s)
	if on := <-results; on == 0 {
		t.Error("TCP_NODELAY is off")
	}
}
