package lockfile

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A File is one process's view of the locks. It is safe for concurrent use, but
// knows nothing of who holds a lock in its own process: to the kernel that is one
// owner.
type File struct{ f *os.File }

// Open opens the file, and makes it where it is not there, for this user alone.
// Only a regular file will do.
func Open(name string) (*File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{f}, nil
}

// Close lets every lock of this process go.
func (l *File) Close() error { return l.f.Close() }

// TryLock takes the lock of this name, unless another process holds it. It does
// not wait.
func (l *File) TryLock(name string) (bool, error) {
	err := l.set(name, unix.F_WRLCK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// Unlock lets the lock of this name go.
func (l *File) Unlock(name string) error { return l.set(name, unix.F_UNLCK) }

func (l *File) set(name string, how int16) error {
	raw, err := l.f.SyscallConn()
	if err != nil {
		return err
	}
	at := unix.Flock_t{Type: how, Whence: 0, Start: place(name), Len: 1}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			if failed = unix.FcntlFlock(fd, unix.F_OFD_SETLK, &at); failed != unix.EINTR {
				return
			}
		}
	})
	if err = errors.Join(err, failed); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("lock in %s: %w", l.f.Name(), err)
	}
	return err
}

// place is where in the file the lock of a name is.
func place(name string) int64 {
	sum := sha256.Sum256([]byte(name))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 2)
}
