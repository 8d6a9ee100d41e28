// Sbom writes what a Go binary is made of, as the binary itself tells: a bill of
// materials (CycloneDX 1.6, JSON) and the licences of all that is linked in.
//
//	go run ./sbom -module DIR -version V -time SECONDS -sbom FILE -licences FILE BINARY
//
// DIR is the folder of the module that the binary was built from: the licences are
// read from its dependencies, where the Go tool keeps them. The same binary gives the
// same files.
package main

import (
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run() error {
	module := flag.String("module", ".", "`folder` of the module that the binary was built from")
	version := flag.String("version", "", "`version` of the binary; the default is the one in it")
	seconds := flag.Int64("time", 0, "time of the build in the bill, in `seconds` of Unix time")
	sbom := flag.String("sbom", "", "`file` for the bill of materials")
	licences := flag.String("licences", "", "`file` for the licences")
	flag.Parse()
	if flag.NArg() != 1 || *sbom == "" || *licences == "" {
		return errors.New("usage: sbom -sbom FILE -licences FILE [flags] BINARY")
	}
	binary := flag.Arg(0)
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	if *version == "" {
		*version = info.Main.Version
	}
	modules := linked(info)
	if err := writeBill(*sbom, binary, *version, time.Unix(*seconds, 0).UTC(), info, modules); err != nil {
		return err
	}
	return writeLicences(*licences, *module, modules)
}

// linked lists the modules in a binary besides the main one, as they were used.
func linked(info *buildinfo.BuildInfo) []debug.Module {
	var out []debug.Module
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		out = append(out, *m)
	}
	return out
}
