package mutants

// front are the sabotages of what stands before the engine.
func front() []Mutant {
	one := func(name, promise, kill, file, from, to string) Mutant {
		return Mutant{name, promise, "./" + kill, []Edit{{file, from, to}}}
	}
	const proxy = "proxy"
	return []Mutant{
		one("everybody_is_a_proxy", "nobody but a listed proxy says who a client is", proxy, "proxy/serve.go",
			"if len(listed) > 0 && !among(peer, listed) {", "if len(listed) > 1<<20 && !among(peer, listed) {"),
		one("no_header_is_no_matter", "a connection from a proxy without a right header is closed", proxy, "proxy/conn.go",
			"\t\ta.rejected(c, BadHeader, err)\n\t\treturn nil, nil\n", "\t\treturn c, func() {}\n"),
		one("the_limits_are_of_the_proxy", "behind a proxy the limits for addresses are the client's", proxy, "proxy/conn.go",
			"admission.admitClient(proxied.RemoteAddr(), time.Now())", "admission.admitClient(c.RemoteAddr(), time.Now())"),
		one("a_client_without_an_address_is_the_proxy", "an address that the proxy cannot tell is not guessed", proxy, "proxy/header.go",
			"return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), 0)), nil", "return proxy, nil"),
		one("a_header_takes_its_time", "a header comes in time or not at all", proxy, "proxy/header.go",
			"c.SetReadDeadline(time.Now().Add(headerTime))", "c.SetReadDeadline(time.Now().Add(1000 * headerTime))"),
		one("old_TLS_for_all", "but for old devices nobody is served under TLS 1.1", "cmd/popgate", "cmd/popgate/certificate.go",
			"shared := p.tls(uint16(cfg.TLS.MinVersion))", "shared := p.tls(tls.VersionTLS10)"),
		one("old_TLS_for_every_network", "old TLS is spoken with the listed networks alone", "cmd/popgate", "cmd/popgate/engine.go",
			"\t\tClients: l.Legacy.From,\n", ""),
	}
}
