// Package lockfile keeps locks with names between processes: several gateways, or
// an old and a new one while one takes over from the other.
//
// All of them open the same file, on a file system of this machine. A lock is one
// octet of it, far behind its end, at a place that is computed from the name; the
// kernel keeps it for the open file (an open file description lock, fcntl(2)). The
// file stays empty.
//
// Invariants:
//
//   - A lock ends with its process, however that ends: nothing is left behind, and
//     nothing has to be cleaned up.
//   - Two names share a lock with a likelihood of 2^-62. Then one waits for the
//     other, which is harmless.
//
// Limits: Linux alone, and not over network file systems. The kernel looks through
// the locks of a file one after the other: with ten thousand of them held, taking
// one more costs in the order of a hundred microseconds.
package lockfile
