// Package screen is what a person at a terminal sees more of than a pipe: a little
// colour, and a line that tells that a long work lives.
//
// Invariants:
//
//   - What is no terminal gets nothing of both: not one octet more than was printed.
//   - Colour is never the only sign of something. With NO_COLOR set, or TERM=dumb,
//     there is none; with TERM=dumb there is no line of progress either.
//   - The line of progress is narrower than the terminal, and is gone before its
//     Stop returns: what is printed next begins on a clean line.
//   - Text of others goes through [Plain], so that no server moves the cursor.
//
// Limits: one line of progress at a time, redrawn once a second.
package screen
