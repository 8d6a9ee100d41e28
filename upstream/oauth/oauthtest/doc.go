// Package oauthtest is an OAuth 2.0 issuer for tests: a token endpoint, device
// codes, a page of consent that consents at once, and introspection (RFC 7662),
// with faults on demand. It keeps all in memory and is safe for concurrent use.
//
// It is a test double, imported by tests alone.
package oauthtest
