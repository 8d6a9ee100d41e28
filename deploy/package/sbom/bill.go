package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// writeBill writes the bill of materials of a binary.
func writeBill(file, binary, version string, built time.Time, info *buildinfo.BuildInfo, modules []debug.Module) error {
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(content)
	program := component(cyclonedx.ComponentTypeApplication, info.Main.Path, version)
	program.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: fmt.Sprintf("%x", digest)}}
	program.Licenses = &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "MIT"}}}
	var platform []cyclonedx.Property
	for _, s := range info.Settings {
		if s.Key == "GOOS" || s.Key == "GOARCH" || s.Key == "CGO_ENABLED" {
			platform = append(platform, cyclonedx.Property{Name: "go:build:" + s.Key, Value: s.Value})
		}
	}
	program.Properties = &platform

	parts := []cyclonedx.Component{component(cyclonedx.ComponentTypeLibrary, "std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, m := range modules {
		c := component(cyclonedx.ComponentTypeLibrary, m.Path, m.Version)
		// What go.sum calls h1 is the digest of a list of files, and none of the module's archive.
		c.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}}
		parts = append(parts, c)
	}
	var refs []string
	for _, c := range parts {
		refs = append(refs, c.BOMRef)
	}

	bill := cyclonedx.NewBOM()
	bill.SerialNumber = serial(digest)
	bill.Metadata = &cyclonedx.Metadata{Timestamp: built.Format(time.RFC3339), Component: &program}
	bill.Components = &parts
	bill.Dependencies = &[]cyclonedx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	encoder := cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := encoder.EncodeVersion(bill, cyclonedx.SpecVersion1_6); err != nil {
		return err
	}
	return out.Close()
}

// component is a Go module, or with the path std Go's standard library.
func component(kind cyclonedx.ComponentType, path, version string) cyclonedx.Component {
	url := "pkg:golang/" + path
	if version != "" {
		url += "@" + strings.ReplaceAll(version, "+", "%2B")
	}
	return cyclonedx.Component{BOMRef: url, Type: kind, Name: path, Version: version, PackageURL: url}
}

// serial is a UUID of the digest (RFC 9562 section 5.8): the same binary has the same bill.
func serial(digest [sha256.Size]byte) string {
	u := digest[:16]
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
