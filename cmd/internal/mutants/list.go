package mutants

import "slices"

// List returns every mutant.
func List() []Mutant {
	return slices.Concat(front(), engine(), store(), reuse(), jmap(), guard(), around())
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
	}
}
