// Package config turns one YAML file and the command line into a validated
// [Config].
//
// Invariants:
//
//   - One table (schema.go) names every key, its flag and what it accepts. The
//     file and the flags pass through the same setters.
//   - A flag replaces what the file says under that key; of a list
//     (--listen), the flags replace the whole list.
//   - Of a listener with a section of its own, what the section promises is
//     whole: a proxy or an old device without a list of networks is an error.
//   - Strict: an unknown key, a key given twice, a value out of range, a tag,
//     an alias and a second document are errors.
//   - Every problem of a file is reported at once, as FILE:LINE: key: what is
//     wrong and what is accepted instead.
//   - The files that the configuration names are read and parsed while it is
//     loaded, so that what `popgate check` accepts, `popgate serve` can start
//     with. File names in the file are relative to the file's own folder; on
//     the command line, to the working folder.
//
// Limits: a file has at most [MaxFile] octets. No value is a secret: users and
// passwords come from the POP3 clients, or stand in a file that is named here. The
// package reads no environment and keeps no state.
package config
