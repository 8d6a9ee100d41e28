package mutants

// store are the sabotages of the IMAP store.
func store() []Mutant {
	const dir = "upstream/imap/"
	one := func(name, promise, file, from, to string) Mutant {
		return Mutant{name, promise, "./upstream/imap", []Edit{{dir + file, from, to}}}
	}
	return []Mutant{
		one("EXPUNGE_without_a_UID_set", "what another client flagged \\Deleted stays", "conn.go",
			"return c.client.UIDExpunge(set).Close()", "return c.client.Expunge().Close()"),
		one("CLOSE_instead_of_LOGOUT", "the end of a session expunges nothing", "conn.go",
			"\t\tc.client.Logout()\n", "\t\tc.client.UnselectAndExpunge()\n"),
		{"ranges_across_gaps", "a UID set names the marked messages and no others", "./upstream/imap", []Edit{
			{dir + "uidset.go", "uint32(set[last].Stop)+1 == uids[n]", "uint32(set[last].Stop)+2 >= uids[n]"},
			{dir + "uidset.go", "set[last].Stop++", "set[last].Stop = imap2.UID(uids[n])"},
		}},
		one("no_check_of_UIDVALIDITY", "a mailbox that was made anew is another one", "maildrop.go",
			"case box.uidValidity != m.uidValidity:", "case false:"),
		one("no_check_of_UIDNEXT", "a mailbox whose UIDNEXT fell is another one", "maildrop.go",
			"case m.uidNext != 0 && box.uidNext != 0 && box.uidNext < m.uidNext:", "case false:"),
		one("no_check_of_the_mailbox_in_UPDATE", "UPDATE works in the mailbox that was listed", "update.go",
			"\tif err := u.drop.same(box); err != nil {\n\t\treturn err\n\t}\n", ""),
		one("no_check_of_sizes_after_a_loss", "a message at stake has the size of the list", "maildrop.go",
			"err = m.sameSizes(ctx, at)", "err = nil"),
		one("no_search_behind_the_removal", "each removal is proved before +OK", "update.go",
			"\t\tif there, err = u.look(ctx, remove.undone); err != nil {\n\t\t\treturn errors.Join(failed, err)\n\t\t}\n", "\t\tthere = nil\n"),
		one("a_search_without_an_answer_is_proof", "+OK follows what the server said, and not what it left out", "update.go",
			"if u.told = u.told || told; !u.told {", "if u.told = u.told || told; false {"),
		one("a_refused_removal_is_no_failure", "a NO to the removal is told", "update.go",
			"\t\tif failed != nil {\n\t\t\treturn failed\n\t\t}\n", "\t\tif failed != nil {\n\t\t\tu.left = 0\n\t\t\treturn nil\n\t\t}\n"),
		one("BODY_without_PEEK", "reading changes nothing", "section.go", "Peek: true", "Peek: false"),
		one("unique_id_without_UIDVALIDITY", "a unique-id means one message for ever", "maildrop.go",
			"Append(dst, m.uidValidity, m.uids[i])", "Append(dst, 1, m.uids[i])"),
		{"numbers_of_a_unique_id_run_together", "two messages never have one unique-id", "./upstream/imap/uidl", []Edit{
			{dir + "uidl/format.go", `return f.between == "" ||`, `return f.between != "" &&`}}},
		{"a_form_without_UIDVALIDITY", "a unique-id means one message for ever", "./upstream/imap/uidl", []Edit{
			{dir + "uidl/format.go", "case len(found) != 2 || text[found[0][6]] == text[found[1][6]]:", "case len(found) != 2:"}}},
		one("a_short_list_is_shown", "a list that lacks messages fails the login", "list.go",
			"if len(l.uids) < int(box.exists) || box.uidNext != 0 && len(l.uids) > int(box.exists) {", "if false {"),
		one("UIDNOTSTICKY_is_taken", "no unique-ids are made of UIDs that change", "list.go",
			"case box.uidNotSticky:", "case false:"),
		one("MOVE_without_the_capability", "MOVE is sent where it is offered", "update.go",
			`if c.caps.has("MOVE") {`, "if true {"),
		{"foreign_deletions_without_UIDPLUS", "without UIDPLUS nothing is expunged", "./upstream/imap", []Edit{
			{dir + "update.go", "\tremove := flag(imap2.FlagDeleted)\n\tif c.caps.has(\"UIDPLUS\") {", "\tremove := flag(imap2.FlagDeleted)\n\tif true {"},
			{dir + "conn.go", "\t\treturn c.client.UIDExpunge(set).Close()", "\t\tif !c.caps.has(\"UIDPLUS\") {\n\t\t\treturn c.client.Expunge().Close()\n\t\t}\n\t\treturn c.client.UIDExpunge(set).Close()"},
		}},
		one("deleted_messages_come_back", "what was deleted without UIDPLUS is shown no more", "list.go",
			`if !m.conn.caps.has("UIDPLUS") {`, "if false {"),
		one("a_short_COPY_is_taken", "nothing is removed before all of it is in the trash", "conn.go",
			"got != uint64(n)", "got > uint64(n)"),
		one("EXAMINE_is_trusted", "UIDs are read under SELECT where EXAMINE does not fix them", "quirks.go",
			`return c.has("CONDSTORE") ||`, `return true || c.has("CONDSTORE") ||`),
		one("a_body_goes_on_without_proof", "a body goes on only if it is proved the same", "body.go",
			"!bytes.Equal(again, b.tail)", "!bytes.Equal(again, again)"),
		one("a_body_without_the_tagged_OK", "a body is whole when the server has said OK", "section.go",
			"\tif err := s.tagged(); err != nil {\n\t\treturn s.end(err)\n\t}\n\ts.end(nil)\n\treturn io.EOF", "\ts.tagged()\n\ts.end(nil)\n\treturn io.EOF"),
		one("another_messages_body", "a body is of the message that was asked for", "section.go",
			"if s.of != 0 && item.UID != s.of || !s.askedFor(uint32(item.UID)) {", "if false {"),
		one("a_body_without_its_own_OK", "what other messages failed by is settled for the message alone", "body.go",
			"return ok && s.ahead != nil && b.drop.conn.alive()", "return false && ok && s.ahead != nil"),
		one("ahead_without_the_tagged_OK", "what is held was received whole and confirmed", "ahead.go",
			"\t\t\tif whole {\n", "\t\t\tif true {\n"),
		one("ahead_of_another_size", "a message that the server may have made up is not held", "ahead.go",
			"if octets != m.firstOctets(i, piece) && (", "if false && ("),
		one("no_message_alone", "what is wrong with another message is not wrong with this one", "body.go",
			"\tif a := b.plan(); a != nil && b.open(b.part(), a) == nil {\n", "\tif a := b.plan(); a != nil {\n\t\tif err := b.open(b.part(), a); err != nil {\n\t\t\treturn err\n\t\t}\n"),
		one("ahead_again_and_again", "a message that cannot be read costs three windows in a session", "ahead.go",
			"m.aheadFailed >= maxAheadFailures", "m.aheadFailed < 0"),
		one("PREAUTH_is_accepted", "nobody reads a mailbox without credentials of his own", "preauth.go",
			`return errors.New("the server greets with PREAUTH, which leaves no place for the user's credentials")`, "return nil"),
		one("early_tagged_OK_is_believed", "a reply that was prepared is no reply", "preauth.go",
			"case first == tag:", `case first != "*" && first != "+":`),
		one("a_literal_is_sent_unasked", "the octets of a literal are sent when the server asks", "preauth.go",
			"\tst, err := d.converse(text, func(", "\ttext, continuations = strings.Join(append([]string{text}, continuations...), \"\\r\\n\"), nil\n\tst, err := d.converse(text, func("),
		one("no_STARTTLS_is_no_matter", "no password goes where STARTTLS is not offered", "preauth.go",
			"\tif !d.caps.has(\"STARTTLS\") {\n", "\tif !d.caps.has(\"STARTTLS\") {\n\t\treturn nil\n"),
		one("credentials_before_STARTTLS", "credentials are sent under TLS alone, loopback aside", "dial.go",
			"if s.o.Security == StartTLS ||", "if false && s.o.Security == StartTLS ||"),
		one("certificate_not_verified", "the certificate is verified against the configured name", "options.go",
			"\to.TLS = o.TLS.Clone()\n", "\to.TLS = o.TLS.Clone()\n\to.TLS.InsecureSkipVerify = true\n"),
		one("down_sounds_like_a_wrong_password", "a server over its limits is no wrong password", "errors.go",
			"if soundsTemporary(st.Text) {", "if false {"),
		one("hiding_is_forgotten", "a message that was hidden is shown no more", "list.go",
			"if box.hasHidden || m.store.o.Delete == Hide {", "if false {"),
		one("a_known_list_is_believed", "a known list counts as far as the last message proves it", "list.go",
			"whole = whole || int(number) == known.Len()", "whole = true"),
		one("a_known_size_is_believed", "a known list of which one size is another counts for nothing", "list.go",
			"another = another || octets != known.Octets[last]", "another = false"),
		one("a_list_in_parts_need_not_add_up", "a list that lacks messages fails the login", "list.go",
			"if l.over || left.Len()+len(l.uids) != int(box.exists) {", "if l.over {"),
		one("UIDNEXT_is_taken_for_EXISTS", "a mailbox of which something went is listed without it", "list.go",
			"case box.uidNext == known.UIDNext && int(box.exists) == known.Len():", "case box.uidNext == known.UIDNext:"),
		one("a_known_list_outlives_its_mailbox", "a mailbox that was made anew is another one", "list.go",
			"known == nil || known.UIDValidity != box.uidValidity ||", "known == nil ||"),
		one("a_known_list_outlives_a_fall_of_UIDNEXT", "a mailbox whose UIDNEXT fell is another one", "list.go",
			"|| box.uidNext < known.UIDNext:", "|| box.uidNext == 0:"),
		one("two_users_share_a_list", "each user name has a list of its own", "identity.go",
			"id.box, id.owner())", "id.box, strings.ToLower(id.owner()))"),
		one("what_is_still_there_is_forgotten", "a known list lacks nothing that is there", "update.go",
			"u.drop.forget(u.marked, there)", "u.drop.forget(u.marked, there[:0])"),
		{"a_damaged_entry_is_read", "what is read from a file is what was written", "./upstream/imap/boltfile", []Edit{
			{dir + "boltfile/entry.go", "checksum(key, b[:at]) != [sha256.Size]byte(b[at:])", "checksum(key, b[:at]) == checksum(key, nil)"},
		}},
		{"a_damaged_file_ends_the_process", "no damage of a file ends the process", "./upstream/imap/boltfile", []Edit{
			{dir + "boltfile/boltfile.go", "if v := recover(); v != nil {", "if v := any(nil); v != nil {"},
		}},
	}
}

// reuse are the sabotages of what lets a connection serve a next session.
func reuse() []Mutant {
	const dir = "upstream/imap/"
	one := func(name, promise, file, from, to string) Mutant {
		return Mutant{name, promise, "./upstream/imap", []Edit{{dir + file, from, to}}}
	}
	return []Mutant{
		one("a_connection_for_any_password", "a connection is for the password that was proved on it", "reuse.go",
			"!hmac.Equal(proof[:], w.proof[:])", "!hmac.Equal(proof[:], proof[:])"),
		one("a_connection_for_a_name_alike", "a connection is for the user that was proved on it", "reuse.go",
			"c.Authorize, c.User, c.Secret", "c.Authorize, c.Secret"),
		one("a_connection_for_another_prover", "a connection is for the one who proved it, not for the maildrop alone", "reuse.go",
			"c.Authorize, c.User, c.Secret", "owner(c), c.Secret"),
		one("a_password_is_kept", "no password is kept between sessions", "reuse.go",
			"\tc.guard.Withhold() // no part of the password stays\n", ""),
		one("reuse_makes_a_login_young", "a password is honoured for its age and no longer", "reuse.go",
			"\tw.conn.untried = true\n", "\tw.conn.untried = true\n\tw.conn.proved = time.Now()\n"),
		one("a_failed_UPDATE_leaves_its_connection", "what went wrong is not used again", "maildrop.go",
			"if quiet && !m.failed &&", "if quiet &&"),
		one("a_connection_in_use_waits", "a connection serves one session at a time", "maildrop.go",
			"\t\tquiet = false\n\t\tm.conn.guard.Abort()\n\t\tm.body.close()\n", ""),
		one("two_sessions_on_one_connection", "a connection serves one session at a time", "reuse.go",
			"\tw.taken = true\n\tp.remove(w)\n\tp.held--\n", "\tw.taken = true\n"),
		one("a_refusal_is_tried_again", "an answer of the server is an answer", "conn.go",
			"if c.untried && (err == nil || refused(err)) {", "if c.untried && err == nil {"),
	}
}

// guard are the sabotages of what stands between the server and the library.
func guard() []Mutant {
	const dir = "upstream/imap/imapguard/"
	one := func(name, promise, file, from, to string) Mutant {
		return Mutant{name, promise, "./upstream/imap/imapguard", []Edit{{dir + file, from, to}}}
	}
	return []Mutant{
		one("unbounded_literal", "a literal that is no body has a greatest size", "scanner.go", "if n > c.lim.Literal {", "if false {"),
		one("unbounded_response", "a response has a greatest length", "scanner.go", "s.octets > c.lim.Line", "false"),
		one("unbounded_depth", "parentheses nest to a depth", "scanner.go", "x.depth > maxDepth", "x.depth > 1<<30"),
		one("endless_responses", "a command brings so many octets and no more", "scanner.go",
			"if c.budget.Add(-int64(len(piece))) < 0 {", "if c.budget.Add(-int64(len(piece))) < -1<<24 {"),
		one("a_cut_response_is_an_end", "a stream that ends inside a response is no clean end", "scanner.go",
			"\tif err == io.EOF {\n\t\treturn ErrCut\n\t}\n", ""),
		one("BYE_is_passed_over", "nothing counts behind BYE", "scanner.go",
			`if s.resp.status.Type == "BYE" && !s.resp.pass {`, "if false {"),
		one("message_numbers_are_taken_for_UIDs", "a search that tells no UIDs finds nothing", "tapsearch.go",
			"case s.word == wordOther || !s.uids:", "case s.word == wordOther:"),
		{"buffer_kept_after_STARTTLS", "nothing that was sent before TLS is taken for sent under it", "./upstream/imap/imapguard", []Edit{
			{dir + "dialogue.go", "\tif c.br.Buffered() > 0 {", "\tif false {"},
			{dir + "dialogue.go", "\tc.br.Reset(&timedReader{c: c})\n", ""},
		}},
		{"a_log_line_repeats_the_password", "no secret in the log, though the server repeats it", "./upstream/imap", []Edit{
			{dir + "tell.go", "if bytes.Contains(line, secret) {", "if false && bytes.Contains(line, secret) {"},
		}},
	}
}
