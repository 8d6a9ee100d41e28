package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/popgate/popgate/metrics"
)

// What a package is built with, by -ldflags "-X main.version=v1.2.3 -X
// main.revision=0123456789ab"; empty in every other build, which tells by itself.
var version, revision string

type versionCommand struct {
	JSON bool `name:"json" help:"Print it as JSON, for scripts."`
}

// Help is shown by --help.
func (versionCommand) Help() string {
	return `--json prints one object: version, revision, go and platform.`
}

// Run prints one line, or an object.
func (c versionCommand) Run(env environment) error {
	b := readBuild()
	if c.JSON {
		return printJSON(env.stdout, newVersionJSON(b))
	}
	text := "popgate " + b.Version
	if b.Revision != "" {
		text += " (" + b.Revision + ")"
	}
	_, err := fmt.Fprintf(env.stdout, "%s %s %s/%s\n", text, b.GoVersion, runtime.GOOS, runtime.GOARCH)
	return err
}

// readBuild tells what is running: what the linker was told, or else what the Go
// tool wrote into the binary.
func readBuild() metrics.Build {
	b := metrics.Build{Version: "devel", GoVersion: runtime.Version()}
	if version != "" {
		b.Version, b.Revision = version, revision
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	modified := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				modified = "+changes"
			}
		}
	}
	if b.Revision != "" {
		b.Revision += modified
	}
	return b
}
