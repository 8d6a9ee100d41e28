package mutants

// identity are the sabotages of who logs in, and to which mailbox.
func identity() []Mutant {
	const dir = "upstream/imap/"
	one := func(name, promise, file, from, to string) Mutant {
		return Mutant{name, promise, "./upstream/imap", []Edit{{dir + file, from, to}}}
	}
	return []Mutant{
		one("a_token_as_a_password", "a token is never given as a password", "login.go",
			"if c.Proof == upstream.Bearer {\n\t\treturn d.authenticateBearer(c)", "if false {\n\t\treturn d.authenticateBearer(c)"),
		one("a_token_in_clear", "no credential leaves without TLS but to a loopback address", "dial.go",
			"s.o.Security == Auto && !addr.Unmap().IsLoopback()", "s.o.Security == Auto && creds.Proof != upstream.Bearer && !addr.Unmap().IsLoopback()"),
		one("OK_behind_a_refused_token", "a token that the server refused proves nothing", "bearer.go",
			"(!sent || why.told)", "!sent"),
		one("OK_before_the_token", "a server that did not ask for the token knows nobody", "bearer.go",
			"(!sent || why.told)", "why.told"),
		one("a_token_with_separators", "what is no token is not sent", "bearer.go",
			"return r <= 0x20 || r > 0x7e }) {\n\t\t\treturn", "return false }) {\n\t\t\treturn"),
		one("a_token_in_the_log", "the cause of a refusal repeats no token", "bearer.go",
			`value = "(it repeats the credentials)"`, "value += value"),
		one("renewed_for_ever", "a refused token is renewed once", "identity.go",
			"\tc, err = id.store.connect(ctx, id.creds)\n\tif", "\tc, err = id.connect(ctx)\n\tif"),
		one("renewed_for_any_failure", "a server that is down is no reason to renew a token", "identity.go",
			"id.creds.Renewer == nil || upstream.KindOf(err) != upstream.Refused {", "id.creds.Renewer == nil {"),
		one("a_master_locks_another_key", "two ways to a maildrop have one key", "identity.go",
			"url.PathEscape(strings.ToLower(id.owner()))", "url.PathEscape(strings.ToLower(id.creds.User))"),
		one("a_master_by_hand_locks_another_key", "two ways to a maildrop have one key", "identity.go",
			"\t\tname, _, _ = strings.Cut(name, sep)\n", ""),
		one("a_name_moves_the_separator", "a client does not choose whose maildrop a master opens", "bearer.go",
			"strings.Contains(c.Authorize, sep)", "false"),
		one("keys_run_into_each_other", "different maildrops have different keys", "identity.go",
			"url.PathEscape(id.box), url.PathEscape(strings.ToLower(id.owner()))", "id.box, url.PathEscape(\"\")+strings.ToLower(id.owner())"),
		one("a_missing_mailbox_is_a_guess", "a mailbox that is not there is no wrong password", "mailbox.go",
			"\t\tkind = upstream.Internal\n", "\t\tkind = upstream.Refused\n"),
		one("any_octets_are_a_mailbox", "a name that is none does not reach the server", "mailbox.go",
			"strings.ContainsFunc(name, unicode.IsControl)", "strings.ContainsFunc(\"\", unicode.IsControl)"),
	}
}

// window are the sabotages of what shows a part of a mailbox.
func window() []Mutant {
	const dir = "upstream/imap/"
	one := func(name, promise, file, from, to string) Mutant {
		return Mutant{name, promise, "./upstream/imap", []Edit{{dir + file, from, to}}}
	}
	return []Mutant{
		one("a_window_that_forgets", "what was shown once stays until it is deleted", "ledger/set.go",
			"is := known || fresh(uid)", "is := fresh(uid)"),
		one("shown_before_it_is_written", "what is shown is in the ledger", "ledger/ledger.go",
			"!added && len(before) <= 2*len(after)+8", "!added || len(after) > 0"),
		one("a_window_of_another_mailbox", "a ledger is of one UIDVALIDITY", "ledger/ledger.go",
			"if e.uidValidity != uidValidity {", "if false {"),
		one("a_window_too_small", "no message is missed that is young enough", "window.go",
			"Add(-w.Since).AddDate(0, 0, -1)", "Add(-w.Since)"),
		one("the_window_is_everything", "what is outside of the window is not touched", "window.go",
			"return l.Without(func(uid uint32) bool { return !shown.Has(uid) }), nil", "return l, nil"),
		{"a_damaged_ledger_is_taken", "a damaged ledger is an error at the start", "./upstream/imap/ledger", []Edit{
			{dir + "ledger/ledger.go", "if _, ok := decode(v, key(k)); !ok {", "if _, ok := decode(v, key(k)); false && !ok {"},
		}},
		{"an_empty_ledger_is_begun_anew", "a ledger is not begun anew in silence", "./upstream/imap/ledger", []Edit{
			{dir + "ledger/ledger.go", "err == nil && info.Size() == 0", "err == nil && info.Size() == -1"},
		}},
		{"a_full_ledger_goes_on", "the ledger is bounded", "./upstream/imap/ledger", []Edit{
			{dir + "ledger/ledger.go", "if total > max && after > before {", "if false {"},
		}},
	}
}
