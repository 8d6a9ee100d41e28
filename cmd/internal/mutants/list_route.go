package mutants

// route are the sabotages of what decides where a login goes.
func route() []Mutant {
	const dir = "upstream/route/"
	one := func(name, promise, kill, file, from, to string) Mutant {
		return Mutant{name, promise, "./" + kill, []Edit{{file, from, to}}}
	}
	return []Mutant{
		one("any_user_takes_the_route", "a login goes where its user is listed", dir, dir+"match.go",
			"if len(r.users) > 0 && !r.users[lower(w.user)] {", "if len(r.users) > 0 && !r.users[lower(w.user)] && false {"),
		one("a_pattern_of_a_part", "a pattern is of the whole user", dir, dir+"match.go",
			"return regexp.Compile(`\\A(?:` + pattern + `)\\z`)", "return regexp.Compile(pattern)"),
		one("a_pattern_that_breaks_out", "what stands around a pattern does not mend it", dir, dir+"match.go",
			"if _, err := regexp.Compile(pattern); err != nil {", "if _, err := regexp.Compile(pattern); err != nil && false {"),
		one("no_route_is_an_outage", "who has no route is refused as by a wrong password", dir, dir+"route.go",
			"err := refused(\"no route takes this login\")", "err := error(&upstream.Error{Kind: upstream.Unavailable, Op: \"route\", Err: errors.New(\"no route takes this login\")})"),
		one("anybody_names_another_user", "another user's maildrop is asked for only where a route allows it", dir, dir+"route.go",
			"case !r.ClientAuthorize:", "case false:"),
		one("a_folder_that_leads_upwards", "a folder is one of the user's own", dir, dir+"folder.go",
			` || part == ".."`, ""),
		one("a_folder_that_is_a_pattern", "a folder is one mailbox", dir, dir+"folder.go",
			`"*%{}\\"`, `"{}\\"`),
		one("a_failed_proof_goes_on", "who is not proved gets no further", dir, dir+"route.go",
			"if c, err = r.Prove(ctx, c); err != nil {", "if c, err = r.Prove(ctx, c); err != nil && len(r.Steps) == 0 {"),
		one("other_credentials_without_a_proof", "nobody comes in by credentials that are not his", dir, dir+"match.go",
			"case len(r.Steps) > 0 && r.Prove == nil:", "case false:"),
		one("the_master_opens_its_own_maildrop", "a master user opens the user's maildrop", dir, dir+"secret.go",
			"c.Authorize = cmp.Or(c.Authorize, c.User)", "c.Authorize = cmp.Or(\"\", c.Authorize)"),
		one("guesses_by_spelling", "a user written in many ways is guessed at no more often", dir, dir+"route.go",
			"\tc.User = w.user\n\tif r.Prove == nil {", "\tif false {"),
		one("an_outage_of_the_service_refuses", "a service that is down refuses nobody", dir, dir+"authhttp.go",
			"return nil, authError(upstream.Unavailable, err)", "return nil, authError(upstream.Refused, err)"),
		one("no_answer_is_a_yes", "only OK lets in", dir, dir+"authreply.go",
			`status != "OK" {`, `status == "" {`),
		one("the_service_waits_for_ever", "the delay that a service asks for has a limit", dir, dir+"authreply.go",
			"min(time.Duration(seconds)*time.Second, a.o.MaxWait)", "time.Duration(seconds)*time.Second"),
		one("the_service_prints_the_password", "no secret is in an error", dir, dir+"authreply.go",
			"s = strings.ReplaceAll(s, word, secret.String())", "_ = word"),
		one("passwords_leave_the_machine_in_clear_text", "http:// is for this machine", dir, dir+"authhttp.go",
			"err != nil || !a.Addr().Unmap().IsLoopback()", "err != nil || !a.IsValid()"),
		one("a_header_that_ends_the_header", "what a client sends is a value and no more", dir, dir+"authhttp.go",
			"c > ' ' && c != '%' && c != 0x7f", "c != '%'"),
		one("refused_credentials_of_the_route_are_the_clients", "a client that was right is not told that it was wrong", "upstream/route", "upstream/route/route.go",
			"c.Secret != given && upstream.KindOf", "false && upstream.KindOf"),
		one("a_master_for_anybody", "other credentials need a proof of the client", "cmd/internal/config", "cmd/internal/config/route.go",
			"own && !r.Accounts {", "own && false {"),
	}
}
