package mutants

import "slices"

// List returns every mutant.
func List() []Mutant {
	return slices.Concat(front(), engine(), proofs(), store(), identity(), window(), reuse(), jmap(), guard(), around(), route())
}

// around are the sabotages of what stands between engine and store.
func around() []Mutant {
	one := func(name, promise, kill, file, from, to string) Mutant {
		return Mutant{name, promise, kill, []Edit{{file, from, to}}}
	}
	return []Mutant{
		one("lock_not_released", "a maildrop is free when its session is over", "./upstream/wrap", "upstream/wrap/lock.go",
			"\ta.mu.Unlock()\n\ta.free()\n\treturn a.Account.Close()", "\ta.mu.Unlock()\n\treturn a.Account.Close()"),
		one("lock_kept_when_Open_fails", "a login that fails holds no lock", "./upstream/wrap", "upstream/wrap/lock.go",
			"\t\tif !taken {\n", "\t\tif false && !taken {\n"),
		one("no_lock", "one session at a time has a maildrop", "./upstream/wrap", "upstream/wrap/lock.go",
			"\tif err := a.take(ctx); err != nil {", "\tif err := a.take(ctx); err != nil && false {"),
		one("no_lock_between_processes", "one session at a time has a maildrop, whatever process serves it", "./upstream/wrap", "upstream/wrap/lock.go",
			"\tif err == nil && a.store.options.Between != nil {", "\tif false {"),
		one("lock_between_processes_not_released", "a maildrop is free when its session is over", "./upstream/wrap", "upstream/wrap/lock.go",
			"\t\t_ = b.Unlock(key)", "\t\t_ = b"),
		one("guesses_not_counted", "few guesses reach the mail service", "./upstream/wrap", "upstream/wrap/guesses.go",
			"\t\t\te.wrong = max(e.wrong, now) + g.cost(p.by)\n", ""),
		one("guesses_under_way_not_counted", "guesses that come at once get no further", "./upstream/wrap", "upstream/wrap/guesses.go",
			"time.Duration(e.underway+1)*g.cost(by)", "g.cost(by)"),
		one("an_outage_is_a_guess", "an outage is no wrong password", "./upstream/wrap", "upstream/wrap/throttle.go",
			"\tdefault:\n\t\ts.failing.Store(true)", "\tdefault:\n\t\twrong = true\n\t\ts.failing.Store(true)"),
		one("a_limited_login_is_refused_at_once", "the time of a refusal does not tell why", "./upstream/wrap", "upstream/wrap/throttle.go",
			"\t\ts.hold(ctx, began, s.steps.Load())\n", ""),
		one("a_success_buys_guesses", "a success of one account opens no other", "./upstream/wrap", "upstream/wrap/guesses.go",
			"\tif success {\n", "\tif success {\n\t\tfor _, p := range c.places {\n\t\t\tp.entry.wrong = 0\n\t\t}\n"),
		one("the_worst_guesser_is_forgotten_first", "a flood does not make guessers be forgotten", "./upstream/wrap", "upstream/wrap/memory.go",
			"return b[i].end < b[j].end", "return b[i].end > b[j].end"),
		one("read_ahead_without_a_bound", "what is held is within the room that all sessions share", "./upstream/readahead", "upstream/readahead/window.go",
			"if n > room-overhead || !w.pool.take(n+overhead) {", "if n > room-overhead {"),
		one("a_secret_can_be_printed", "no way of formatting a secret shows it", "./upstream", "upstream/credentials.go",
			"func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }", "func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.text) }"),
		one("two_ids_share_a_text", "different messages have different unique-ids", "./upstream", "upstream/uidl.go",
			"if ValidUIDL(id) && id[0] != '#' {", "if ValidUIDL(id) {"),
		one("a_small_part_of_a_large_maildrop", "a maildrop over a limit is refused and not shortened", "./upstream/wrap", "upstream/wrap/limit.go",
			"o.Messages > 0 && n > o.Messages", "o.Messages < 0 && n > o.Messages"),
		one("a_label_from_a_client", "no client makes a series", "./metrics", "metrics/metrics.go",
			"\treturn Other\n}", "\treturn v\n}"),
		one("series_of_a_mail_server_that_is_gone", "a reload leaves no series of what it takes away", "./metrics", "metrics/upstreams.go",
			"\t\t\tu.registry.Unregister(one.series)\n", "\t\t\t_ = one\n"),
	}
}
