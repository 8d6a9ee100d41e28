//go:build !linux

package lockfile

import "errors"

// A File is nothing on this system.
type File struct{}

// Open always fails.
func Open(string) (*File, error) {
	return nil, errors.New("a lock file needs Linux")
}

// Close does nothing.
func (*File) Close() error { return nil }

// TryLock always fails.
func (*File) TryLock(string) (bool, error) { return false, errors.ErrUnsupported }

// Unlock always fails.
func (*File) Unlock(string) error { return errors.ErrUnsupported }
