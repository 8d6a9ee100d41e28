package mutants

// proofs are the sabotages of how clients prove who they are without a password.
func proofs() []Mutant {
	const (
		pop3     = "proxy/pop3/"
		accounts = "upstream/accounts/"
	)
	one := func(name, promise, kill, file, from, to string) Mutant {
		return Mutant{name, promise, "./" + kill, []Edit{{file, from, to}}}
	}
	return []Mutant{
		{"a_timestamp_on_every_listener", "APOP is offered where shared secrets are switched on", "./" + pop3, []Edit{
			{pop3 + "session.go", "\tif s.server.digests != nil {\n", "\tif true {\n"}}},
		one("one_timestamp_for_all", "no digest is good for a second session", pop3, pop3+"digest.go",
			`fmt.Sprintf("<%s.%d@popgate>", rand.Text(), time.Now().Unix())`, `fmt.Sprintf("<%.0s%d@popgate>", rand.Text(), time.Now().Unix())`),
		one("an_unknown_user_is_told_at_once", "who has no shared secret is refused as a wrong one is, by the store", pop3, pop3+"digest.go",
			"\treturn credentials{user: user, secret: secret, proof: upstream.Shared}", "\tif !known {\n\t\treturn credentials{}\n\t}\n\treturn credentials{user: user, secret: secret, proof: upstream.Shared}"),
		one("SCRAM_tells_who_is_unknown", "a user without a shared secret goes through as many steps", pop3, pop3+"scram.go",
			"\treturn scramKeys(m.secret,", "\tif !m.known {\n\t\treturn scram.StoredCredentials{}, errSCRAM\n\t}\n\treturn scramKeys(m.secret,"),
		one("a_salt_at_random_for_all", "a name has the same salt each time", pop3, pop3+"scram.go",
			"\tmac.Write([]byte(user))\n\treturn string", "\tmac.Write([]byte(newTimestamp()))\n\treturn string"),
		one("any_digest_is_right", "a digest is compared", pop3, pop3+"digest.go",
			"subtle.ConstantTimeCompare(make(secret), digest) == 0 || !known", "subtle.ConstantTimeCompare(make(secret), digest) > 1 || !known"),
		one("a_secret_of_nobody_is_right", "a secret that was made up proves nobody", pop3, pop3+"digest.go",
			"== 0 || !known {\n", "== 0 || known && secret == d.nobody {\n"),
		one("SCRAM_ends_without_the_store", "the server proves itself when the store has agreed", pop3, pop3+"authorization.go",
			"\tm, err := s.takeMaildrop(", "\tif c.agreed != nil {\n\t\tif over := s.agree(c.agreed); over != \"\" {\n\t\t\treturn over\n\t\t}\n\t\tc.agreed = nil\n\t}\n\tm, err := s.takeMaildrop("),
		one("a_cancelled_SCRAM_keeps_the_maildrop", "a client that does not believe the server holds nothing", pop3, pop3+"authorization.go",
			"\t\t\ts.closeAccount()\n\t\t\treturn over", "\t\t\treturn over"),
		one("cancelling_costs_nothing", "exchanges are counted", pop3, pop3+"sasl.go",
			`return s.bad("cancelled") // counted`, `return s.err(pop3wire.NoCode, "cancelled") // counted`),
		one("a_token_in_clear_text", "a token does not cross the network without TLS", pop3, pop3+"sasl.go",
			`{"XOAUTH2", true,`, `{"XOAUTH2", false,`),
		one("a_password_in_clear_text_beside_digests", "no password without TLS, loopback aside", pop3, pop3+"sasl.go",
			`{"PLAIN", true,`, `{"PLAIN", false,`),
		one("two_tokens", "a message with two tokens is none", pop3, pop3+"bearer.go",
			`case token != "" || len(value)`, `case len(value)`),
		one("no_challenge_for_a_refused_token", "a client is told of a refused token as RFC 7628 wants", pop3, pop3+"bearer.go",
			"\tb.refused = []byte(b.refusal)\n", ""),
		one("anybody_s_identity", "another authorization identity is for the operator to allow", pop3, pop3+"credentials.go",
			"\tif !s.opts.AuthorizationIdentity {\n", "\tif false {\n"),
		one("any_certificate", "a certificate counts when it was verified", pop3, pop3+"external.go",
			"\tif len(state.VerifiedChains) == 0 {\n\t\treturn nil\n\t}\n\tleaf := state.VerifiedChains[0][0]\n",
			"\tif len(state.PeerCertificates) == 0 {\n\t\treturn []string{\"anybody\"}\n\t}\n\tleaf := state.PeerCertificates[0]\n"),
		one("a_certificate_for_any_identity", "a certificate proves whom it names", pop3, pop3+"external.go",
			"!slices.Contains(names, identity)", "!slices.Contains(append(names, identity), identity)"),
		one("a_common_name_beside_a_mail_address", "the common name counts where there is no other", pop3, pop3+"external.go",
			"\t\treturn leaf.EmailAddresses\n", "\t\treturn append(leaf.EmailAddresses, leaf.Subject.CommonName)\n"),
		one("a_shared_secret_goes_to_the_mail_service", "what popgate alone can look at reaches no mail service", "upstream/wrap", "upstream/wrap/contract.go",
			"\tif !c.Proof.ForStore() {\n", "\tif false {\n"),
		one("an_unknown_user_costs_no_hash", "an unknown user takes as long as a known one", accounts, accounts+"accounts.go",
			"\tselect {\n\tcase a.hashing <- struct{}{}:", "\tif acc == nil {\n\t\treturn false, nil\n\t}\n\tselect {\n\tcase a.hashing <- struct{}{}:"),
		one("hashes_without_a_bound", "few passwords are hashed at a time", accounts, accounts+"accounts.go",
			"\t\tdefer func() { <-a.hashing }()\n", "\t\t<-a.hashing\n"),
		one("an_empty_shared_secret", "who has proved nothing is not let in", accounts, accounts+"accounts.go",
			`return secret != "" && subtle`, `return subtle`),
		one("an_account_acts_for_others", "an account is for its own maildrop", accounts, accounts+"accounts.go",
			"\tcase c.Authorize != \"\":\n\t\treturn c, refused(errIdentity)\n", ""),
		one("a_hash_may_cost_anything", "a hash has a greatest cost", accounts, accounts+"hash.go",
			" || memory > maxMemory", ""),
		one("half_a_file", "a file is taken as a whole or not at all", accounts, accounts+"file.go",
			"\tif len(problems) == 0 {\n", "\tif len(t.accounts) > 0 {\n"),
		one("a_problem_repeats_the_line", "no message holds what may be a secret", accounts, accounts+"file.go",
			"attribute %d is none of %s; a colon within a value is written %%3A\", n,", "attribute %d is none of %s; a colon within a value is written %%3A\" + field, n,"),
		one("edits_in_place", "a file of accounts is for its owner", accounts, accounts+"edit.go",
			"\tif err := f.Sync(); err != nil {\n", "\tif err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {\n"),
		one("certificates_where_nobody_signs_them", "each listener has the authorities that it names", "cmd/popgate", "cmd/popgate/certificate.go",
			"\tt.ClientAuth = tls.VerifyClientCertIfGiven\n", "\tt.ClientAuth = tls.RequestClientCert\n"),
	}
}
