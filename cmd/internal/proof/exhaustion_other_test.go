//go:build !linux

package proof_test

import "testing"

func limitFiles(t *testing.T, _ int, _ uint64) { t.Skip("needs prlimit") }
