//go:build !linux

package jmap

import "net"

// acknowledge does nothing where the kernel cannot be told.
func acknowledge(net.Conn) {}
