// Package mutants asks whether the tests would notice: it sabotages one promise
// of popgate at a time, in a copy of the module, and runs the tests, which have
// to fail.
//
// [List] is the sabotages, as data: texts of the source and what takes their
// place. A text that is no longer there, or a change that does not compile, is a
// fault of the list and is told as such; the list is checked by a plain go test.
//
// Limits: one change at a time, in one order; the tests run without the race
// detector, at the smallest level.
package mutants
