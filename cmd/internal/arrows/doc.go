// Package arrows holds the map of the project: which package may import which.
// It has no code, only a test, which reads the imports with go list and compares
// them with one table.
//
// Invariants: every arrow that the table forbids is absent, through other
// packages too where the table says so; packages that do not exist yet break
// nothing.
//
// Limits: the imports are those of the system and the build tags that the test
// runs with.
package arrows
