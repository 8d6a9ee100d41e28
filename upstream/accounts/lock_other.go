//go:build !unix || solaris || illumos || aix

package accounts

import "os"

// There is no lock of this kind here: two edits at once may lose one of the two.
func lockFile(*os.File) error { return nil }

func keepOwner(_, _ *os.File) error { return nil }
