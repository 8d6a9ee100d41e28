//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package tokenfile

import (
	"errors"
	"os"
	"syscall"
)

// permissions tells that files have the permissions of Unix.
const permissions = true

// tryLock takes the lock on a file, which ends when the file is closed or the
// process ends. It reports false where another has it.
func tryLock(file *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// syncFolder makes a rename last.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
