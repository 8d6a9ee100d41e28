//go:build unix

package proxy

import (
	"fmt"
	"syscall"
)

// openFiles returns the soft limit, which the Go runtime has raised as far as it
// may.
func openFiles() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit on open files: %w", err)
	}
	return uint64(limit.Cur), nil
}
