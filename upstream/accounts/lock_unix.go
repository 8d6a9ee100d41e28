//go:build unix && !solaris && !illumos && !aix

package accounts

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// keepOwner gives the new file the owner of the old one: the gateway has to read
// it, whoever edits it. Who may not do that is the owner.
func keepOwner(old, new *os.File) error {
	info, err := old.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := new.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
