package jmap

import (
	"net"
	"syscall"
)

// acknowledge tells the kernel not to hold back the acknowledgement of what has
// come on c. Servers that write an answer in two pieces, with Nagle's algorithm
// on, send the second only when the first is acknowledged, and the kernel of a
// client that has nothing to say lets them wait for 40 ms: Cyrus spends four
// fifths of the time that a small message takes in that. Linux forgets the
// setting, so that it is made again before each read.
func acknowledge(c net.Conn) {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if sc, err := raw.SyscallConn(); err == nil {
		_ = sc.Control(func(fd uintptr) { // without it, it is slower
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
		})
	}
}
