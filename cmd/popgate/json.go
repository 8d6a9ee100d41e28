package main

import (
	"encoding/json"
	"errors"
	"io"
	"runtime"

	"github.com/popgate/popgate/cmd/internal/config"
	"github.com/popgate/popgate/metrics"
)

// printJSON writes v as one indented object, for scripts.
func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// versionJSON is what `popgate version --json` prints.
type versionJSON struct {
	Version   string `json:"version"`
	Revision  string `json:"revision,omitempty"`
	GoVersion string `json:"go"`
	Platform  string `json:"platform"`
}

func newVersionJSON(b metrics.Build) versionJSON {
	return versionJSON{b.Version, b.Revision, b.GoVersion, runtime.GOOS + "/" + runtime.GOARCH}
}

// checkJSON is what `popgate check --json` prints.
type checkJSON struct {
	OK       bool          `json:"ok"`
	Problems []problemJSON `json:"problems"`
	Warnings []string      `json:"warnings"`
	Error    string        `json:"error,omitempty"` // what failed and is no problem of the configuration
	trialJSON
}

type problemJSON struct {
	Where string `json:"where"`          // the file's name, or a flag
	Line  int    `json:"line,omitempty"` // from 1
	Key   string `json:"key,omitempty"`
	Text  string `json:"text"`
}

func newCheckJSON(err error, warnings []string, tried trialJSON) checkJSON {
	c := checkJSON{OK: err == nil, Problems: []problemJSON{}, Warnings: append([]string{}, warnings...), trialJSON: tried}
	problems, ok := errors.AsType[config.Problems](err)
	if !ok && err != nil {
		c.Error = err.Error()
	}
	for _, p := range problems {
		c.Problems = append(c.Problems, problemJSON(p))
	}
	return c
}

// A reported error has been told already, in the form that was asked for: what is
// left is its exit code.
type reported struct{ error }

func (r reported) Unwrap() error { return r.error }
