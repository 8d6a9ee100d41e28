// Package proof holds the tests that stand behind popgate's guarantees: each
// drives the POP3 engine, the IMAP store and the fault bench together, and
// measures one figure of the table that cmd/prove prints.
//
// How much a test does depends on the level, which the environment variable
// POPGATE_PROOF names: nothing or "smoke" for a plain go test, "quick" for what
// every change goes through, "full" for what is recorded with a release.
// [Pick] chooses by it, [Report] says what was measured.
//
// The package is for tests alone, as testing itself is; the environment is read
// here and nowhere else.
package proof
