package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/popgate/popgate/cmd/internal/config"
)

// newLogger writes to w: text where a person reads it, JSON where a program
// does.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == config.LogText || c.Format == config.LogAuto && terminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// terminal reports whether w is a character device, as terminals are.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
