package mutants

// jmap are the sabotages of the JMAP store.
func jmap() []Mutant {
	one := func(name, promise, file, from, to string) Mutant {
		return Mutant{name, promise, "./upstream/jmap", []Edit{{"upstream/jmap/" + file, from, to}}}
	}
	return []Mutant{
		one("destroyed_in_whatever_state", "what came into another mailbox meanwhile is not destroyed", "update.go",
			"\t\t\tsince = state\n", "\t\t\tsince = \"\"\n"),
		one("destroyed_wherever_it_is", "an Email that is in another mailbox stays there", "update.go",
			"if len(e.Mailboxes) == 1 {", "if len(e.Mailboxes) > 0 {"),
		one("no_look_behind_the_removal_over_JMAP", "each removal is proved before +OK", "update.go",
			"\t\t\tfailed = errors.New(\"the server confirmed the removal of messages that are still there\")\n", "\t\t\tu.left = 0\n\t\t\treturn nil\n"),
		one("per_object_results_are_ignored", "status 200 says nothing of one Email", "update.go",
			"\tcase failed != nil && !again(failed) || try == tries:\n\t\t\treturn failed", "\tcase failed != nil && !again(failed) || try == tries:\n\t\t\tu.left = 0\n\t\t\treturn nil"),
		one("another_mailbox_will_do", "UPDATE works in the mailbox that was listed", "update.go",
			"if box.ID != m.mailbox {", "if false {"),
		one("another_message_under_the_id", "a message at stake has the size of the list", "update.go",
			"if e.Size != octets[e.ID] {", "if false {"),
		one("credentials_for_every_origin", "credentials go to the origin of the operator", "client.go",
			"if at := origin(req.URL); at != c.store.origin {", "if at := origin(req.URL); at == \"\" {"),
		one("a_blob_of_another_size", "a body is the message that was listed", "body.go",
			"if resp.ContentLength >= 0 && resp.ContentLength != want {", "if false {"),
		one("a_body_may_stand_still_for_ever", "every read of a body has its time", "body.go",
			"\tb.stall.Reset(b.drop.client.store.o.StallTime)\n", ""),
		one("a_get_that_leaves_messages_out", "a list that lacks messages fails the login", "list.go",
			"\tif len(open) > 0 {\n", "\tif false {\n"),
		one("a_place_between_pages_is_lost", "no message falls between two pages", "list.go",
			`args["anchor"], args["anchorOffset"] = anchor, 1`, `args["anchor"], args["anchorOffset"] = anchor, 2`),
		one("order_by_time_alone", "numbers agree between sessions", "list.go",
			"cmp.Or(cmp.Compare(a.received, b.received), bytes.Compare(l.id(a), l.id(b)))", "cmp.Or(cmp.Compare(a.received, b.received), bytes.Compare(l.id(b), l.id(a)))"),
		one("a_token_of_another_user", "the user is the one that was proved", "session.go",
			"case c.store.o.Auth == Bearer && !strings.EqualFold(told.User, c.creds.User):", "case c.store.o.Auth == Bearer && told.User == \"\":"),
		one("down_is_a_wrong_password_over_JMAP", "a service that is down is never a wrong secret", "errors.go",
			"case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:\n\t\treturn upstream.Unavailable",
			"case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:\n\t\treturn upstream.Refused"),
	}
}
