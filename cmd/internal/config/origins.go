package config

import (
	"net/url"
	"strings"
)

// addOrigin adds https://HOST[:PORT] to the origins to which credentials may go.
func addOrigin(to *[]string, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" ||
		strings.ContainsAny(u.Hostname(), "*") || len(s) > maxText {
		return errValue
	}
	*to = append(*to, "https://"+strings.ToLower(u.Host))
	return nil
}
