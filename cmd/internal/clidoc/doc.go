// Package clidoc writes the manual page and the completion scripts of a program
// whose command line is a kong model: what the program accepts and what is written
// about it are one.
//
// Invariants:
//
//   - The same model gives the same octets: no date, no environment.
//   - Hidden commands and flags are left out.
//   - Text of the model is quoted for where it goes; none of it is run by a shell.
//
// Limits: the help of a command is plain paragraphs, set apart by empty lines; one
// that is indented by four columns is an example. A flag that takes a value names
// what a shell may offer in its tag "complete": words with commas between them.
// Without it file names are offered where the placeholder is FILE, and nothing else.
package clidoc
