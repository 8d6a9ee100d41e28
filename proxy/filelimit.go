package proxy

import "fmt"

// FileLimit tells how many connections the limit of the process on open files
// allows, when each needs perConn descriptors and the rest of the process
// reserve: want, or fewer, and then limited is set. It is an error if not even
// one fits. The arguments are 1 or more; reserve may be 0. Systems that have no
// such limit allow what is wanted.
func FileLimit(want, reserve, perConn int) (got int, limited bool, err error) {
	files, err := openFiles()
	if err != nil {
		return 0, false, err
	}
	return fit(files, want, reserve, perConn)
}

func fit(files uint64, want, reserve, perConn int) (got int, limited bool, err error) {
	if want < 1 || reserve < 0 || perConn < 1 {
		return 0, false, fmt.Errorf("%d connections of %d descriptors and a reserve of %d", want, perConn, reserve)
	}
	room := uint64(0)
	if files > uint64(reserve) {
		room = (files - uint64(reserve)) / uint64(perConn)
	}
	if room == 0 {
		return 0, true, fmt.Errorf("the limit of %d open files has no room for a connection of %d descriptors beside a reserve of %d", files, perConn, reserve)
	}
	if room >= uint64(want) {
		return want, false, nil
	}
	return int(room), true, nil
}
