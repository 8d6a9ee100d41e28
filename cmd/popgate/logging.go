package main

import (
	"io"
	"log/slog"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/cmd/internal/screen"
)

// newLogger writes to w: text where a person reads it, JSON where a program
// does.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	log, _ := newLevelLogger(w, c)
	return log
}

// newLevelLogger is newLogger with a level that can be set.
func newLevelLogger(w io.Writer, c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(c.Level)
	options := &slog.HandlerOptions{Level: level}
	if c.Format == config.LogText || c.Format == config.LogAuto && screen.Terminal(w) {
		return slog.New(slog.NewTextHandler(w, options)), level
	}
	return slog.New(slog.NewJSONHandler(w, options)), level
}
