//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package tokenfile

import (
	"errors"
	"io/fs"
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

// nofollow opens no symbolic link: who owns the folder may have put one there.
const nofollow = syscall.O_NOFOLLOW

// give gives what root has made to the owner of what it lies in. Whoever gets a
// consent, the gateway has to read it.
func give(file *os.File, in fs.FileInfo) error {
	to, ok := in.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || to.Uid == 0 {
		return nil
	}
	return file.Chown(int(to.Uid), int(to.Gid))
}

// syncFolder makes a rename last.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
