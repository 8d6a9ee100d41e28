package proof_test

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream/imap"
)

// A hostileCase is one way to be hostile, and what the client sees of it.
type hostileCase struct {
	name string
	at   string // the moment
	say  hostileSay
	want string // see hostileOutcome

	also    map[string]hostileSay
	options func(*imap.Options)
	bodies  []string // what the messages are, where the server gives others than hostileMail
	sizes   []int64
}

// hostileDrip says text every so often, for ever.
func hostileDrip(every time.Duration, text string) hostileSay {
	return func(w io.Writer, tag string) error {
		for {
			time.Sleep(every)
			if err := hostileRaw(text)(w, tag); err != nil {
				return err
			}
		}
	}
}

// hostileStall says nothing, until the gateway has had enough.
func hostileStall(w io.Writer, _ string) error { time.Sleep(20 * time.Minute); return io.EOF }

// hostileBefore says text, and then what belongs there.
func hostileBefore(moment, text string) hostileSay {
	return hostileSeq(hostileRaw(text), hostileRaw(hostilePolite()[moment]))
}

// hostileFetch is the reply to a FETCH of message 1.
func hostileFetch(items string) hostileSay {
	return hostileRaw("* 1 FETCH (" + items + ")\r\n{tag} OK EVIL\r\n")
}

func hostileCases(scale int) []hostileCase {
	const (
		temp  = "PASS -ERR [SYS/TEMP]"
		perm  = "PASS -ERR [SYS/PERM]"
		auth  = "PASS -ERR [AUTH]"
		read  = "RETR 1 -ERR [SYS/TEMP]"
		gone  = "RETR 1 -ERR"
		cut   = "RETR 1 cut"
		quit  = "QUIT -ERR [SYS/TEMP]"
		fine  = "fine"
		greet = "GREETING"
		login = "AUTHENTICATE"
		open  = "EXAMINE"
		list  = "SIZES"
		body  = "BODY1"
	)
	mib := scale << 16 // a MiB, but in the smallest level
	long := strings.Repeat("EVIL", mib/4)
	evilText := "x\r+OK EVIL \x00\x1b[2J" + strings.Repeat("EVIL", 300)
	raw, times, seq, before := hostileRaw, hostileTimes, hostileSeq, hostileBefore
	ok := raw("{tag} OK EVIL\r\n")
	polite := func(moment string) hostileSay { return raw(hostilePolite()[moment]) }
	mailbox := func(old, new string) hostileSay {
		return raw(strings.Replace(hostilePolite()["EXAMINE"], old, new, 1))
	}
	sizes := func(lines ...string) hostileSay { return raw(strings.Join(lines, "\r\n") + "\r\n{tag} OK EVIL\r\n") }
	whole := fmt.Sprintf("* 1 FETCH (UID 1 BODY[] {%d}\r\n%s", len(hostileMail[0]), hostileMail[0])
	const smuggler = "a\n.\r\n+OK EVIL\r\n.\n.\r\r\nxx\r\n"
	fetch := func(n, uid, size any) string { return fmt.Sprintf("* %v FETCH (UID %v RFC822.SIZE %v)", n, uid, size) }
	trash := func(o *imap.Options) { o.Delete = imap.Trash }

	return []hostileCase{
		// Before login.
		{name: "greeting_none", at: greet, say: hostileStall, want: temp},
		{name: "greeting_drips", at: greet, say: hostileDrip(time.Second, "*"), want: temp},
		{name: "greeting_endless_line", at: greet, say: times(mib, "x"), want: temp},
		{name: "greeting_garbage", at: greet, say: raw("\x00\xff\x16\x03\x01\r\n"), want: temp},
		{name: "greeting_http", at: greet, say: raw("HTTP/1.1 400 EVIL\r\n\r\n"), want: temp},
		{name: "greeting_pop3", at: greet, say: raw("+OK EVIL\r\n"), want: temp},
		{name: "greeting_empty_lines", at: greet, say: times(1000, "\r\n"), want: temp},
		{name: "greeting_preauth", at: greet, say: raw("* PREAUTH EVIL\r\n"), want: temp},
		{name: "greeting_bye", at: greet, say: raw("* BYE [REFERRAL imap://127.0.0.2/] EVIL\r\n"), want: temp},
		{name: "greeting_gone", at: greet, say: hostileBye, want: temp},
		{name: "capability_flood", at: "CAPABILITY", say: times(scale*25_000, "* CAPABILITY IMAP4rev1 EVIL\r\n"), want: temp,
			also: map[string]hostileSay{greet: raw("* OK EVIL\r\n")}},
		{name: "capability_other_protocol", at: "CAPABILITY", say: raw("* CAPABILITY EVIL\r\n{tag} OK EVIL\r\n"), want: fine,
			also: map[string]hostileSay{greet: raw("* OK EVIL\r\n")}},
		{name: "capability_list", at: login, say: raw("{tag} OK [CAPABILITY IMAP4rev1 UIDPLUS MOVE ( (EVIL {3} \"x] EVIL\r\n"), want: fine},
		{name: "no_way_to_log_in", at: greet, say: raw("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=CRAM-MD5 AUTH=NTLM] EVIL\r\n"), want: perm},
		{name: "predicted_tag", at: greet, say: before(greet, "A1 OK EVIL\r\np00000001 OK EVIL\r\n"), want: temp},

		// Login.
		{name: "login_foreign_tag", at: login, say: raw("A1 OK EVIL\r\n"), want: temp},
		{name: "login_text", at: login, say: raw("{tag} NO " + evilText + "\r\n"), want: auth},
		{name: "login_text_of_many_MiB", at: login, say: raw("{tag} NO " + long + "\r\n"), want: temp},
		{name: "login_smuggles_replies", at: login, say: raw("{tag} NO [AUTHENTICATIONFAILED] EVIL\r\n+OK EVIL\r\n.\r\n"), want: auth},
		{name: "login_alert", at: login, say: raw("{tag} NO [ALERT] EVIL\x1b]0;\x07\r\n"), want: auth},
		{name: "login_referral", at: login, say: raw("{tag} NO [REFERRAL imap://mallory@127.0.0.2/] EVIL\r\n"), want: auth},
		{name: "login_unavailable", at: login, say: raw("{tag} NO [UNAVAILABLE] EVIL\r\n"), want: temp},
		{name: "login_bad", at: login, say: raw("{tag} BAD EVIL\r\n"), want: temp},
		{name: "login_bye", at: login, say: raw("* BYE EVIL\r\n"), want: temp},
		{name: "login_asks_for_more", at: login, say: times(1000, "+ EVIL\r\n"), want: temp},
		{name: "login_stall", at: login, say: hostileStall, want: temp},
		{name: "login_drips_replies", at: login, say: hostileDrip(10*time.Second, "* OK EVIL\r\n"), want: temp},
		{name: "login_flood", at: login, say: times(scale*62_500, "* OK EVIL\r\n"), want: temp},

		// SELECT and EXAMINE.
		{name: "open_no", at: open, say: raw("{tag} NO " + evilText + "\r\n"), want: temp},
		{name: "open_no_permission", at: open, say: raw("{tag} NO [NOPERM] " + evilText + "\r\n"), want: perm},
		{name: "open_exists_2_32", at: open, say: mailbox("* 3 EXISTS", "* 4294967295 EXISTS"), want: perm},
		{name: "open_exists_2_64", at: open, say: mailbox("* 3 EXISTS", "* 18446744073709551616 EXISTS"), want: temp},
		{name: "open_exists_negative", at: open, say: mailbox("* 3 EXISTS", "* -1 EXISTS"), want: temp},
		{name: "open_exists_flood", at: open, say: times(scale*18_750, "* 3 EXISTS\r\n"), want: temp},
		{name: "open_uidvalidity_0", at: open, say: mailbox("UIDVALIDITY 7", "UIDVALIDITY 0"), want: perm},
		{name: "open_uidvalidity_none", at: open, say: mailbox("* OK [UIDVALIDITY 7] EVIL\r\n", ""), want: perm},
		{name: "open_uidvalidity_2_64", at: open, say: mailbox("UIDVALIDITY 7", "UIDVALIDITY 99999999999999999999"), want: temp},
		{name: "open_uidnext_0", at: open, say: mailbox("UIDNEXT 4", "UIDNEXT 0"), want: fine},
		{name: "open_uidnext_1", at: open, say: mailbox("UIDNEXT 4", "UIDNEXT 1"), want: temp},
		{name: "open_flags_bomb", at: open, say: mailbox(`\Draft)`, strings.Repeat(" EVIL", mib/5)+")"), want: temp},
		{name: "open_flags_many_lines", at: open, say: times(scale*125, "* FLAGS ("+strings.Repeat("a ", 4000)+"b)\r\n"), want: temp},
		{name: "open_flags_parentheses", at: open, say: mailbox(`\Draft)`, strings.Repeat("(", 100_000)+")"), want: temp},
		{name: "open_literal_flags", at: open, say: mailbox(`\Draft)`, "{4294967295}\r\nEVIL"), want: temp},
		{name: "open_unknown_responses", at: open, say: before(open, "* X-EVIL {5}\r\nEVIL \"(\"\r\n* EVIL\r\n*\r\n* \r\n\r\n* 1\r\n* 99999999999999999999 EVIL\r\n"), want: fine},
		{name: "open_parentheses_bomb", at: open, say: before(open, "* LIST "+strings.Repeat("(", mib)+"\r\n"), want: temp},
		{name: "open_unasked_literal_2_32", at: open, say: before(open, "* 1 FETCH (BODY[] {4294967295}\r\nEVIL"), want: temp},
		{name: "open_unasked_literal_10_20", at: open, say: before(open, "* 1 FETCH (BODY[] {9999999999999999999}\r\nEVIL"), want: temp},
		{name: "open_literal_of_minus_1", at: open, say: before(open, "* 1 FETCH (BODY[] {-1}\r\n)\r\n"), want: temp},
		{name: "open_many_tiny_literals", at: open, say: seq(raw("* EVIL ("), times(scale*18_750, "{1}\r\nx "), raw(")\r\n"), ok), want: temp},
		{name: "open_esearch_bomb", at: open, say: before(open, "* ESEARCH (TAG \"x\") UID ALL 1:4294967295\r\n* VANISHED (EARLIER) 1:4294967295\r\n"), want: fine},
		{name: "open_list_bomb", at: open, say: times(scale*6250, "* LIST ((((((((())))))))) EVIL\r\n"), want: temp},
		{name: "open_bye", at: open, say: raw("* BYE EVIL\r\n"), want: temp},
		{name: "open_ok_without_data", at: open, say: ok, want: temp},
		{name: "open_predicted_tag", at: login, say: before(login, "T1 OK EVIL\r\nT2 OK EVIL\r\n"), want: temp},
		{name: "open_capability_list", at: open, say: mailbox("{tag} OK ", "{tag} OK [CAPABILITY ((EVIL] "), want: fine},
		{name: "open_capability_code_alone", at: open, say: mailbox("{tag} OK ", "{tag} FOO [CAPABILITY(EVIL"), want: temp},
		{name: "open_plus", at: open, say: raw("+ EVIL\r\n"), want: temp},
		{name: "open_quoted_never_ends", at: open, say: raw("* LIST () \"/\" \"EVIL\r\n{tag} OK EVIL\r\n"), want: temp},
		{name: "open_quoted_many_MiB", at: open, say: seq(raw("* EVIL \""), times(mib, "x"), raw("\"\r\n"), ok), want: temp},

		// The list.
		{name: "list_fewer_than_exists", at: list, say: sizes(fetch(1, 1, 27)), want: temp},
		{name: "list_nothing", at: list, say: ok, want: temp},
		{name: "list_duplicates", at: list, say: sizes(fetch(1, 1, 27), fetch(2, 1, 27), fetch(3, 1, 27)), want: temp},
		{name: "list_uid_0", at: list, say: sizes(fetch(1, 0, 27), fetch(2, 2, 29), fetch(3, 3, 29)), want: temp},
		{name: "list_falling", at: list, say: sizes(fetch(3, 3, len(hostileMail[2])), fetch(2, 2, len(hostileMail[1])), fetch(1, 1, len(hostileMail[0]))), want: fine},
		{name: "list_uid_2_32", at: list, say: sizes(fetch(1, "4294967296", 27), fetch(2, 2, 29), fetch(3, 3, 29)), want: temp},
		{name: "list_size_2_63", at: list, say: sizes(fetch(1, 1, "9223372036854775808"), fetch(2, 2, 29), fetch(3, 3, 29)), want: temp},
		{name: "list_size_negative", at: list, say: sizes(fetch(1, 1, -1), fetch(2, 2, 29), fetch(3, 3, 29)), want: temp},
		{name: "list_size_10_30", at: list, say: sizes(fetch(1, 1, strings.Repeat("9", 30)), fetch(2, 2, 29), fetch(3, 3, 29)), want: temp},
		{name: "list_of_others", at: list, say: sizes(fetch(1, 71, 27), fetch(2, 72, 29), fetch(3, 73, 29)), want: temp},
		{name: "list_far_more", at: list, say: hostileCount(scale * 18_750), want: temp},
		{name: "list_endless", at: list, say: times(scale*31_250, "* 1 FETCH (UID 1 RFC822.SIZE 27)\r\n"), want: temp},
		{name: "list_with_bodies", at: list, say: seq(raw("* 1 FETCH (UID 1 BODY[] {1048576}\r\n"), times(1<<20, "x"), raw(" RFC822.SIZE 27)\r\n"), ok), want: temp},
		{name: "list_with_envelope_bomb", at: list, say: before(list, "* 1 FETCH (ENVELOPE "+strings.Repeat("(", 5000)+"\r\n"), want: temp},
		{name: "list_with_bodystructure_bomb", at: list, say: seq(raw("* 1 FETCH (BODYSTRUCTURE ("), times(mib/2, "x ("), raw("))\r\n"), ok), want: temp},
		{name: "list_no", at: list, say: raw("{tag} NO " + evilText + "\r\n"), want: temp},
		{name: "list_drips", at: list, say: hostileDrip(50*time.Second, "* OK EVIL\r\n"), want: temp},
		{name: "list_stall", at: list, say: seq(raw(fetch(1, 1, 27)+"\r\n"), hostileStall), want: temp},

		// A message.
		{name: "body_nil", at: body, say: hostileFetch("UID 1 BODY[] NIL"), want: gone},
		{name: "body_none", at: body, say: ok, want: gone},
		{name: "body_of_another", at: body, say: hostileFetch("UID 2 BODY[] {4}\r\nEVIL"), want: gone},
		{name: "body_then_another_uid", at: body, say: raw(strings.Replace(whole, "UID 1 ", "", 1) + " UID 2)\r\n{tag} OK EVIL\r\n"), want: cut},
		{name: "body_twice", at: body, say: raw(whole + " BODY[] {4}\r\nEVIL)\r\n{tag} OK EVIL\r\n"), want: cut},
		{name: "body_unasked_before_it", at: body, say: seq(raw("* 2 FETCH (UID 2 BODY[] {4}\r\nEVIL)\r\n"), polite(body)), want: fine},
		{name: "body_unasked_flood", at: body, say: times(scale*31_250, "* 2 FETCH (UID 2 FLAGS (EVIL))\r\n"), want: read},
		{name: "body_literal_2_32", at: body, say: raw("* 1 FETCH (UID 1 BODY[] {4294967295}\r\n" + hostileMail[0]), want: cut},
		{name: "body_literal_10_20", at: body, say: hostileFetch("UID 1 BODY[] {99999999999999999999}\r\nEVIL"), want: read},
		{name: "body_literal_negative", at: body, say: hostileFetch("UID 1 BODY[] {-1}\r\n"), want: read},
		{name: "body_literal_short", at: body, say: raw(whole[:len(whole)-100]), want: cut},
		{name: "body_then_no", at: body, say: raw(whole + ")\r\n{tag} NO EVIL\r\n"), want: cut},
		{name: "body_then_bad", at: body, say: raw(whole + ")\r\n{tag} BAD EVIL\r\n"), want: cut},
		{name: "body_then_bye", at: body, say: raw(whole + ")\r\n* BYE EVIL\r\n"), want: cut},
		{name: "body_then_nothing", at: body, say: seq(raw(whole+")\r\n"), hostileStall), want: cut},
		{name: "body_then_garbage", at: body, say: raw(whole + "EVIL\x00\r\n{tag} OK EVIL\r\n"), want: cut},
		{name: "body_then_foreign_tag", at: body, say: raw(whole + ")\r\nT99 OK EVIL\r\n"), want: cut},
		{name: "body_then_flood", at: body, say: seq(raw(whole+")\r\n"), times(scale*62_500, "* OK EVIL\r\n")), want: cut},
		{name: "body_then_parentheses", at: body, say: raw(whole + strings.Repeat("(", 5000) + "\r\n"), want: cut},
		{name: "body_quoted_many_MiB", at: body, say: seq(raw("* 1 FETCH (UID 1 BODY[] \""), times(10*mib, "x"), raw("\")\r\n"), ok), want: read},
		{name: "body_number", at: body, say: hostileFetch("UID 1 BODY[] 7"), want: read},
		{name: "body_list", at: body, say: hostileFetch("UID 1 BODY[] (EVIL)"), want: read},
		{name: "body_smuggles_a_terminator", at: body, say: raw(fmt.Sprintf("* 1 FETCH (UID 1 BODY[] {%d}\r\n%s)\r\n{tag} OK x\r\n", len(smuggler), smuggler)), want: fine,
			bodies: []string{"a\r\n.\r\n+OK EVIL\r\n.\r\n.\r\r\nxx\r\n", hostileMail[1], hostileMail[2]}},
		{name: "body_no", at: body, say: raw("{tag} NO [SERVERBUG] " + evilText + "\r\n"), want: "RETR 1 -ERR [SYS/PERM]"},
		{name: "body_bye", at: body, say: raw("* BYE EVIL\r\n"), want: read},
		{name: "body_stall", at: body, say: hostileStall, want: read},
		{name: "body_drips", at: body, say: seq(raw(whole[:5000]), hostileDrip(59*time.Second, "u")), want: cut},

		// UPDATE.
		{name: "quit_no", at: "STORE", say: raw("{tag} NO " + evilText + "\r\n"), want: quit},
		{name: "quit_bye", at: "EXPUNGE", say: raw("* BYE EVIL\r\n"), want: fine},
		{name: "quit_expunge_flood", at: "EXPUNGE", say: times(scale*125_000, "* 1 EXPUNGE\r\n"), want: fine},
		{name: "quit_still_there", at: "SEARCH", say: raw("* SEARCH 3\r\n{tag} OK EVIL\r\n"), want: quit},
		{name: "quit_search_bomb", at: "SEARCH", say: seq(raw("* SEARCH"), times(scale*25_000, " 3"), raw("\r\n"), ok), want: quit},
		{name: "quit_search_numbers", at: "SEARCH", say: raw("* SEARCH 4294967296 0 -1\r\n{tag} OK EVIL\r\n"), want: quit},
		{name: "quit_search_of_others", at: "SEARCH", say: raw("* SEARCH 1 2 900\r\n{tag} OK EVIL\r\n"), want: quit},
		{name: "quit_uidvalidity", at: "SELECT", say: raw(strings.Replace(hostilePolite()["SELECT"], "UIDVALIDITY 7", "UIDVALIDITY 8", 1)), want: quit},
		{name: "quit_read_only", at: "SELECT", say: raw(strings.Replace(hostilePolite()["SELECT"], "{tag} OK", "{tag} OK [READ-ONLY]", 1)), want: "QUIT -ERR [SYS/PERM]"},
		{name: "quit_copyuid_bomb", at: "MOVE", say: raw("* OK [COPYUID 7 1:4294967295 1:4294967295] EVIL\r\n{tag} OK [COPYUID 7 1:4294967295 1:4294967295] EVIL\r\n"), want: fine,
			also: map[string]hostileSay{"LIST": raw("* LIST (\\Trash) \"/\" Bin\r\n{tag} OK EVIL\r\n")}, options: trash},
		{name: "quit_list_flood", at: "LIST", say: times(scale*12_500, "* LIST (\\Trash) \"/\" Bin\r\n"), want: quit, options: trash},
		{name: "quit_list_bomb", at: "LIST", say: raw("* LIST (" + strings.Repeat("(", 1000) + "\r\n{tag} OK EVIL\r\n"), want: quit, options: trash},
		{name: "quit_stall", at: "EXPUNGE", say: hostileStall, want: quit, also: map[string]hostileSay{"SEARCH": raw("* SEARCH 3\r\n{tag} OK EVIL\r\n")}},
	}
}

// hostileCount lists n messages that nobody announced.
func hostileCount(n int) hostileSay {
	return func(w io.Writer, tag string) error {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "* %d FETCH (UID %d RFC822.SIZE 27)\r\n", i+1, i+1)
			if b.Len() > 32<<10 || i == n-1 {
				if _, err := io.WriteString(w, b.String()); err != nil {
					return err
				}
				b.Reset()
			}
		}
		return nil
	}
}
