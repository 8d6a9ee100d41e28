package config

// KeyNames lists every key that takes a value, with its section.
func KeyNames() []string {
	var out []string
	walk(schema(new(Config)), "", func(path string, _ key) { out = append(out, path) })
	return out
}
