package config

import _ "embed"

//go:embed reference.yaml
var reference string

// Reference returns a commented configuration file that names every key.
func Reference() string { return reference }
