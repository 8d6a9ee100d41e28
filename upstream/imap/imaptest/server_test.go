package imaptest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream/imap/imaptest"
)

const (
	hello = "Subject: a\r\n\r\nhello\r\n" // 21 octets
	world = "Subject: b\r\n\r\nworld\r\n"
)

// selected starts a server with three messages and selects its INBOX.
func selected(t *testing.T, p imaptest.Profile) (*imaptest.Server, *wire) {
	t.Helper()
	s := imaptest.New(t, p)
	s.INBOX().Append(hello)
	s.INBOX().Append(world, `\Seen`, "red")
	s.INBOX().Append(hello)
	s.Mailbox(imaptest.DefaultUser, "Trash", `\Trash`)
	w := login(t, s)
	w.do("SELECT INBOX", "OK")
	return s, w
}

func TestSelectTellsTheMailbox(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	s.INBOX().SetUIDNext(1000)
	want := func(permanent string) []string {
		return []string{`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft red)`,
			"* OK [PERMANENTFLAGS (" + permanent + ")] flags that last", "* 3 EXISTS", "* 0 RECENT",
			"* OK [UIDVALIDITY 3857529045] UIDs are valid", "* OK [UIDNEXT 1000] predicted next UID"}
	}
	w.expect("SELECT inbox", "OK [READ-WRITE]", want(`\Answered \Flagged \Deleted \Seen \Draft \*`)...)
	w.expect(`EXAMINE "INBOX"`, "OK [READ-ONLY]", want("")...)
	w.expect("STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)", "OK",
		`* STATUS "INBOX" (MESSAGES 3 UIDNEXT 1000 UIDVALIDITY 3857529045 UNSEEN 2)`)
	w.expect("SELECT Nowhere", "NO [NONEXISTENT]")
	w.expect("UID FETCH 1 (UID)", "BAD")
}

func TestList(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	s.Mailbox(imaptest.DefaultUser, `od"d`)
	const inbox, trash, odd = `* LIST (\HasNoChildren) "/" "INBOX"`, `* LIST (\HasNoChildren \Trash) "/" "Trash"`, `* LIST (\HasNoChildren) "/" "od\"d"`
	w.expect(`LIST "" "*"`, "OK", inbox, trash, odd)
	w.expect(`LIST "" T%h`, "OK", trash)
	w.expect(`LIST "" inbox`, "OK", inbox)
	w.expect(`LIST "" "*" RETURN (SPECIAL-USE)`, "OK", inbox, trash, odd)
	w.expect(`LIST (SPECIAL-USE) "" (INBOX Trash)`, "OK", trash)
	w.expect(`LIST "" ""`, "OK", `* LIST (\Noselect) "/" ""`)
	w.expect("NAMESPACE", "OK", `* NAMESPACE (("" "/")) NIL (("#shared/" "/"))`)
}

func TestFetch(t *testing.T) {
	for _, tt := range []struct {
		name, command string
		dialect       imaptest.Dialect
		want          []string
	}{
		{"uid_and_size", "UID FETCH 1:2 (UID RFC822.SIZE)", imaptest.Dialect{},
			[]string{"* 1 FETCH (UID 1 RFC822.SIZE 21)", "* 2 FETCH (UID 2 RFC822.SIZE 21)"}},
		{"uid_is_always_told", "UID FETCH 2 FLAGS", imaptest.Dialect{}, []string{`* 2 FETCH (UID 2 FLAGS (\Seen red))`}},
		{"star_beyond_the_end", "UID FETCH 900:* UID", imaptest.Dialect{}, []string{"* 3 FETCH (UID 3)"}},
		{"by_number", "FETCH 2 RFC822.SIZE", imaptest.Dialect{}, []string{"* 2 FETCH (RFC822.SIZE 21)"}},
		{"unknown_uid", "UID FETCH 77 BODY.PEEK[]", imaptest.Dialect{}, nil},
		{"body", "UID FETCH 1 BODY.PEEK[]", imaptest.Dialect{}, []string{"* 1 FETCH (UID 1 BODY[] {21}", "Subject: a", "", "hello", ")"}},
		{"header", "UID FETCH 1 BODY.PEEK[HEADER]", imaptest.Dialect{}, []string{"* 1 FETCH (UID 1 BODY[HEADER] {14}", "Subject: a", "", ")"}},
		{"text", "UID FETCH 1 (BODY.PEEK[TEXT])", imaptest.Dialect{}, []string{"* 1 FETCH (UID 1 BODY[TEXT] {7}", "hello", ")"}},
		{"partial", "UID FETCH 1 BODY.PEEK[TEXT]<1.3>", imaptest.Dialect{}, []string{"* 1 FETCH (UID 1 BODY[TEXT]<1> {3}", "ell)"}},
		{"partial_beyond_the_end", "UID FETCH 1 BODY.PEEK[]<99.3>", imaptest.Dialect{}, []string{"* 1 FETCH (UID 1 BODY[]<99> {0}", ")"}},
		{"uid_last", "UID FETCH 1 (UID RFC822.SIZE BODY.PEEK[TEXT])", imaptest.Dialect{Order: imaptest.UIDLast},
			[]string{"* 1 FETCH (BODY[TEXT] {7}", "hello", " RFC822.SIZE 21 UID 1)"}},
		{"size_first", "UID FETCH 1 (UID RFC822.SIZE)", imaptest.Dialect{Order: imaptest.SizeFirst}, []string{"* 1 FETCH (RFC822.SIZE 21 UID 1)"}},
		{"extra_items", "UID FETCH 1 UID", imaptest.Dialect{ExtraFlags: true, ExtraItems: []string{"MODSEQ (8)"}}, []string{"* 1 FETCH (UID 1 FLAGS () MODSEQ (8))"}},
		{"lower_case", "UID FETCH 2 (FLAGS BODY.PEEK[]<0.8>)", imaptest.Dialect{LowerCase: true}, []string{`* 2 fetch (uid 2 flags (\seen red) body[]<0> {8}`, "Subject:)"}},
		{"quoted_where_legal", "UID FETCH 1 BODY.PEEK[]<0.10>", imaptest.Dialect{Body: imaptest.BodyQuoted}, []string{`* 1 FETCH (UID 1 BODY[]<0> "Subject: a")`}},
		{"literal_where_not", "UID FETCH 1 BODY.PEEK[TEXT]", imaptest.Dialect{Body: imaptest.BodyQuoted}, []string{"* 1 FETCH (UID 1 BODY[TEXT] {7}", "hello", ")"}},
		{"nil", "UID FETCH 1 BODY.PEEK[]", imaptest.Dialect{Body: imaptest.BodyNIL}, []string{"* 1 FETCH (UID 1 BODY[] NIL)"}},
		{"flags_before_the_body", "UID FETCH 1 BODY.PEEK[TEXT]", imaptest.Dialect{FlagsFirst: true},
			[]string{"* 1 FETCH (UID 1 FLAGS ())", "* 1 FETCH (UID 1 BODY[TEXT] {7}", "hello", ")"}},
		{"noise", "UID FETCH 1 UID", imaptest.Dialect{Noise: []string{"* VANISHED 41", "* X-ANY thing"}},
			[]string{"* VANISHED 41", "* X-ANY thing", "* 1 FETCH (UID 1)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := imaptest.Full()
			p.Dialect = tt.dialect
			s, w := selected(t, p)
			w.expect(tt.command, "OK", tt.want...)
			if m := s.Journal().Mutations(); len(m) > 0 {
				t.Errorf("a FETCH with PEEK changed %v", m)
			}
		})
	}
}

func TestFetchWithoutPeekSetsSeen(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	w.do("UID FETCH 1 BODY[]", "OK")
	w.do("EXAMINE INBOX", "OK")
	w.do("UID FETCH 3 BODY[]", "OK")
	if m := s.Journal().Mutations(); len(m) != 1 || m[0].UID != 1 || !slices.Equal(m[0].Added, []string{`\Seen`}) {
		t.Errorf("mutations: %v", m)
	}
}

func TestBadCommands(t *testing.T) {
	p := imaptest.Minimal()
	_, w := selected(t, p)
	for _, c := range []string{
		"", "XYZZY", "UID", "UID XYZZY 1", "UID EXPUNGE 1", "UID MOVE 1 Trash", "UNSELECT", "ID NIL", "NAMESPACE", "ENABLE X",
		"UID FETCH 0 UID", "UID FETCH 1,a UID", "UID FETCH +1 UID", "UID FETCH 1 ENVELOPE", "UID FETCH 1 ()", "UID FETCH 1 (UID",
		"UID FETCH 1 BODY[HEADER.FIELDS (TO)]", "UID FETCH 1  UID", "UID SEARCH", "UID SEARCH RETURN (ALL) ALL", "UID SEARCH KEYWORD",
		"UID SEARCH NOT", "UID SEARCH WHATEVER", "UID STORE 1 FLAGS", `UID STORE 1 +X (\Deleted)`, "LOGIN a b", `SELECT "x`, `SELECT "a\b"`,
		"STATUS INBOX (SIZE)", "UID COPY 1", "UID FETCH " + strings.Repeat("(", 40),
	} {
		w.expect(c, "BAD")
	}
	w.expect("NOOP", "OK")
}

func TestSearch(t *testing.T) {
	for _, tt := range []struct{ command, want string }{
		{"UID SEARCH ALL", "* SEARCH 1 2 3"},
		{"UID SEARCH UID 2:*", "* SEARCH 2 3"},
		{"UID SEARCH UID 9:*", "* SEARCH 3"},
		{"UID SEARCH UID 7", "* SEARCH"},
		{"UID SEARCH SEEN", "* SEARCH 2"},
		{"UID SEARCH UNSEEN UNDELETED", "* SEARCH 1 3"},
		{"UID SEARCH KEYWORD Red", "* SEARCH 2"},
		{"UID SEARCH UID 1:2 UNKEYWORD red", "* SEARCH 1"},
		{"UID SEARCH CHARSET UTF-8 NOT (SEEN KEYWORD red)", "* SEARCH 1 3"},
		{"SEARCH 2:3 UNSEEN", "* SEARCH 3"},
		{"UID SEARCH RETURN (ALL) UNSEEN", `* ESEARCH (TAG "A3") UID ALL 1,3`},
		{"UID SEARCH RETURN () ALL", `* ESEARCH (TAG "A3") UID ALL 1:3`},
		{"UID SEARCH RETURN (MIN MAX COUNT) ALL", `* ESEARCH (TAG "A3") UID MIN 1 MAX 3 COUNT 3`},
		{"UID SEARCH RETURN (ALL) DELETED", `* ESEARCH (TAG "A3") UID`},
	} {
		t.Run(tt.command, func(t *testing.T) {
			_, w := selected(t, imaptest.Full())
			w.expect(tt.command, "OK", tt.want)
		})
	}
}

func TestStoreAndExpunge(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	s.INBOX().SetFlags(3, `\Deleted`) // another client's
	w.expect("NOOP", "OK", `* 3 FETCH (FLAGS (\Deleted))`)
	w.expect(`UID STORE 1 +FLAGS (\Deleted)`, "OK", `* 1 FETCH (UID 1 FLAGS (\Deleted))`)
	w.expect(`UID STORE 2 -FLAGS.SILENT (RED \Seen)`, "OK")
	w.expect(`UID STORE 2 FLAGS.SILENT \Deleted`, "OK")
	w.expect("UID EXPUNGE 1:2,500", "OK", "* 1 EXPUNGE", "* 1 EXPUNGE")
	if got := s.INBOX().UIDs(); !slices.Equal(got, []uint32{3}) {
		t.Errorf("left: %v", got)
	}
	w.expect("CLOSE", "OK") // expunges what another client marked
	if got := s.INBOX().UIDs(); got != nil {
		t.Errorf("left after CLOSE: %v", got)
	}
}

func TestProfilesThatKeepMessages(t *testing.T) {
	with := func(f func(*imaptest.Profile)) imaptest.Profile { p := imaptest.Full(); f(&p); return p }
	for _, tt := range []struct {
		name   string
		p      imaptest.Profile
		store  string
		expect string
		left   int
	}{
		{"plain", imaptest.Full(), "OK", "OK", 2},
		{"read_only", with(func(p *imaptest.Profile) { p.ReadOnly = true }), "OK", "NO [READ-ONLY]", 3},
		{"read_only_says_no", with(func(p *imaptest.Profile) { p.ReadOnly, p.ExamineNO = true, true }), "NO [READ-ONLY]", "NO", 3},
		{"ignores_store", with(func(p *imaptest.Profile) { p.IgnoreStore = true }), "OK", "OK", 3},
		{"ignores_expunge", with(func(p *imaptest.Profile) { p.IgnoreExpunge = true }), "OK", "OK", 3},
		{"flag_not_permanent", with(func(p *imaptest.Profile) { p.PermanentFlags = []string{`\Seen`} }), "OK", "OK", 3},
		{"auto_expunge", with(func(p *imaptest.Profile) { p.AutoExpunge = true }), "OK", "OK", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, w := selected(t, tt.p)
			w.do(`UID STORE 2 +FLAGS.SILENT (\Deleted)`, tt.store)
			if n := len(s.INBOX().UIDs()); tt.p.AutoExpunge && n != 2 {
				t.Errorf("%d messages after STORE", n)
			}
			w.do("UID EXPUNGE 2", tt.expect)
			if n := len(s.INBOX().UIDs()); n != tt.left {
				t.Errorf("%d messages left, want %d", n, tt.left)
			}
		})
	}
}

func TestPipelinedExpungeIsDeaf(t *testing.T) {
	p := imaptest.Full()
	p.DeafPipelined = true
	s, w := selected(t, p)
	go w.conn.Write([]byte("X UID STORE 2 +FLAGS.SILENT (\\Deleted)\r\nY UID EXPUNGE 2\r\n"))
	w.until("X", "UID STORE", "OK")
	w.until("Y", "UID EXPUNGE", "OK")
	if n := len(s.INBOX().UIDs()); n != 3 {
		t.Errorf("%d messages left, want 3", n)
	}
	w.expect("UID EXPUNGE 2", "OK", "* 2 EXPUNGE")
}

func TestCopyAndMove(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	w.expect("UID COPY 1:2 Trash", "OK [COPYUID 3857530045 1:2 1:2]")
	w.expect("UID MOVE 2:3 Trash", "OK", "* OK [COPYUID 3857530045 2:3 3:4] moved", "* 2 EXPUNGE", "* 2 EXPUNGE")
	w.expect("UID COPY 1 Nowhere", "NO [TRYCREATE]")
	trash := s.Mailbox(imaptest.DefaultUser, "Trash").Messages()
	if got := s.INBOX().UIDs(); !slices.Equal(got, []uint32{1}) || len(trash) != 4 || !trash[1].Has("red") {
		t.Errorf("INBOX %v, Trash %v", got, trash)
	}
}

func TestOtherClientsAreToldAtLegalMoments(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	s.INBOX().Expunge(1)
	s.INBOX().Append(hello)
	w.expect("FETCH 2 UID", "OK", "* 2 FETCH (UID 2)", "* 4 EXISTS") // no EXPUNGE in FETCH by number
	w.expect("SEARCH 2", "OK", "* SEARCH 2")
	w.expect("UID FETCH 4 UID", "OK", "* 4 FETCH (UID 4)", "* 1 EXPUNGE")
	s.INBOX().SetFlags(4, `\Flagged`)
	w.expect("NOOP", "OK", `* 3 FETCH (FLAGS (\Flagged))`)
	w.expect("NOOP", "OK")
	s.INBOX().Recreate()
	s.INBOX().Append(world)
	w.expect("NOOP", "OK", "* 1 EXPUNGE", "* 1 EXPUNGE", "* 1 EXPUNGE")
	w.expect("UID STORE 1 +FLAGS (\\Deleted)", "OK")
	w.do("SELECT INBOX", "OK")
	w.expect("UID FETCH 1 FLAGS", "OK", "* 1 FETCH (UID 1 FLAGS ())")
	if got := s.INBOX().UIDValidity(); got != 3857529046 {
		t.Errorf("UIDVALIDITY %d", got)
	}
}

func TestSyncInsideFetch(t *testing.T) {
	p := imaptest.Full()
	p.Dialect.SyncInside = true
	s, w := selected(t, p)
	s.INBOX().Expunge(1)
	w.expect("UID FETCH 1:2 (UID)", "OK", "* 1 EXPUNGE", "* 1 FETCH (UID 2)")
}

func TestGoneForms(t *testing.T) {
	for _, tt := range []struct {
		name, tagged string
		form         imaptest.GoneForm
		want         []string
	}{
		{"nothing", "OK fetch", imaptest.GoneNothing, nil},
		{"nil", "OK fetch", imaptest.GoneNIL, []string{"* 2 FETCH (UID 2 BODY[] NIL)"}},
		{"no", "NO", imaptest.GoneNO, nil},
		{"expungeissued", "OK [EXPUNGEISSUED]", imaptest.GoneExpungeIssued, []string{"* 2 FETCH (UID 2 BODY[] NIL)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := imaptest.Full()
			p.Dialect.Gone = tt.form
			s, w := selected(t, p)
			s.INBOX().Expunge(2)
			w.expect("UID FETCH 2 BODY.PEEK[]", tt.tagged, append(tt.want, "* 2 EXPUNGE")...)
			w.expect("UID FETCH 2 BODY.PEEK[]", "OK fetch")
		})
	}
}

func TestLogin(t *testing.T) {
	const user, pw = `b"o\b x`, `p{3}" \w`
	quoted := `LOGIN "b\"o\\b x" "p{3}\" \\w"`
	b64 := base64.StdEncoding.EncodeToString
	plain := b64([]byte("\x00" + user + "\x00" + pw))
	oauth := b64([]byte("user=" + user + "\x01auth=Bearer " + pw + "\x01\x01"))
	for _, tt := range []struct {
		name string
		talk []string // what the client sends; between two, a continuation is read
		want string
	}{
		{"quoted", []string{quoted}, "OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID ENABLE UIDPLUS"},
		{"literals", []string{"LOGIN {7}", user + " {8}", pw}, "OK"},
		{"literal_plus", []string{"LOGIN {7+}\r\n" + user + " {8+}\r\n" + pw}, "OK"},
		{"wrong", []string{"LOGIN a b"}, "NO [AUTHENTICATIONFAILED]"},
		{"plain_initial", []string{"AUTHENTICATE PLAIN " + plain}, "OK"},
		{"plain", []string{"AUTHENTICATE PLAIN", plain}, "OK"},
		{"plain_cancelled", []string{"AUTHENTICATE PLAIN", "*"}, "BAD"},
		{"login", []string{"AUTHENTICATE LOGIN", b64([]byte(user)), b64([]byte(pw))}, "OK"},
		{"xoauth2_initial", []string{"AUTHENTICATE XOAUTH2 " + oauth}, "OK"},
		{"xoauth2", []string{"AUTHENTICATE XOAUTH2", oauth}, "OK"},
		{"xoauth2_refused", []string{"AUTHENTICATE XOAUTH2 " + b64([]byte("user=x\x01auth=Bearer y\x01\x01")), ""}, "NO [AUTHENTICATIONFAILED]"},
		{"unknown_mechanism", []string{"AUTHENTICATE NTLM"}, "NO"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := imaptest.New(t, imaptest.Full(), imaptest.User(user, pw))
			w := dial(t, s)
			if got := w.line(); got != "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID ENABLE AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2] ready" {
				t.Fatalf("greeting %q", got)
			}
			for i, text := range tt.talk {
				if i == 0 {
					text = "X " + text
				} else if got := w.line(); !strings.HasPrefix(got, "+ ") {
					t.Fatalf("turn %d: %q", i, got)
				}
				w.send(text + "\r\n")
			}
			w.until("X", tt.name, tt.want)
			log := s.Journal().String()
			if strings.Contains(log, pw) || strings.Contains(log, plain) || strings.Contains(log, oauth) {
				t.Errorf("the journal prints the secret:\n%s", log)
			}
			if tt.want[:2] == "OK" && !slices.Equal(s.Journal().Secrets(), []string{pw}) {
				t.Errorf("secrets: %q", s.Journal().Secrets())
			}
		})
	}
}

func TestLiteralPlusWithoutTheCapabilityIsACommand(t *testing.T) {
	s := imaptest.New(t, imaptest.Minimal())
	w := dial(t, s)
	w.line()
	go w.conn.Write([]byte("X LOGIN alice {12+}\r\nY CAPABILITY\r\n"))
	w.until("X", "LOGIN", "BAD")
	w.until("Y", "the literal", "OK")
}

func TestCourierLosesInputBehindLogin(t *testing.T) {
	s := imaptest.New(t, imaptest.Courier())
	w := dial(t, s)
	w.line()
	go w.conn.Write([]byte("X LOGIN alice wonderland\r\nY SELECT INBOX\r\n"))
	w.until("X", "LOGIN", "OK logged in")
	w.do("NOOP", "OK")
	if c := s.Journal().Commands("SELECT"); len(c) != 0 {
		t.Errorf("SELECT was not lost")
	}
}

func TestConnectionLimit(t *testing.T) {
	for _, tt := range []struct {
		reply           imaptest.LimitReply
		greeting, login string
	}{
		{imaptest.LimitBYE, "* BYE", ""},
		{imaptest.LimitNO, "* OK", "NO [LIMIT]"},
		{imaptest.LimitUnavailable, "* OK", "NO [UNAVAILABLE]"},
	} {
		t.Run(tt.greeting+tt.login, func(t *testing.T) {
			p := imaptest.Full()
			p.MaxConnections, p.LimitReply = 1, tt.reply
			s := imaptest.New(t, p)
			login(t, s)
			w := dial(t, s)
			if got := w.line(); !strings.HasPrefix(got, tt.greeting) {
				t.Fatalf("greeting %q", got)
			}
			if tt.login == "" {
				w.ends()
				return
			}
			w.do("LOGIN alice wonderland", tt.login)
		})
	}
}

func TestTLS(t *testing.T) {
	ca := imaptest.NewCA(t)
	for _, tt := range []struct {
		name string
		opts []imaptest.Option
	}{
		{"starttls_pipe", []imaptest.Option{imaptest.StartTLS(ca)}},
		{"starttls_tcp", []imaptest.Option{imaptest.StartTLS(ca), imaptest.TCP()}},
		{"implicit_pipe", []imaptest.Option{imaptest.ImplicitTLS(ca)}},
		{"implicit_tcp", []imaptest.Option{imaptest.ImplicitTLS(ca), imaptest.TCP()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := imaptest.Full()
			p.LoginDisabled = true
			s := imaptest.New(t, p, tt.opts...)
			w := dial(t, s)
			if strings.HasPrefix(tt.name, "starttls") {
				if got := w.line(); !strings.Contains(got, "STARTTLS LOGINDISABLED") {
					t.Fatalf("greeting %q", got)
				}
				w.do("LOGIN alice wonderland", "NO [PRIVACYREQUIRED]")
				w.do("STARTTLS", "OK")
				w = onto(t, client(w.conn, ca))
				w.expect("CAPABILITY", "OK", "* CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID ENABLE AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2")
			} else {
				w = onto(t, client(w.conn, ca))
				w.line()
			}
			w.do("LOGIN alice wonderland", "OK")
			w.do("LOGOUT", "OK")
		})
	}
}

func TestAutologout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := imaptest.New(t, imaptest.Full())
		c, err := s.Dial(t.Context(), "tcp", "x:143")
		if err != nil {
			t.Fatal(err)
		}
		w := &wire{t: t, conn: c}
		w.br = reader(c)
		defer c.Close()
		w.line()
		for range 3 { // each command starts the clock again
			time.Sleep(29 * time.Minute)
			w.do("NOOP", "OK")
		}
		start := time.Now()
		if got := w.line(); got != "* BYE autologout" {
			t.Errorf("got %q", got)
		}
		if d := time.Since(start); d != 30*time.Minute {
			t.Errorf("after %v", d)
		}
		w.ends()
	})
}

func TestLongLineEndsTheConnection(t *testing.T) {
	s := imaptest.New(t, imaptest.Full(), imaptest.TCP())
	w := login(t, s)
	w.send("X UID FETCH " + strings.Repeat("1,", 5000) + "1 UID\r\n")
	if got := w.line(); !strings.HasPrefix(got, "* BAD") {
		t.Errorf("got %q", got)
	}
	w.ends()
}

func TestProfilesAreWhatTheySay(t *testing.T) {
	for _, p := range imaptest.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			s, w := selected(t, p)
			w.do(`UID STORE 1 +FLAGS.SILENT (\Deleted)`, "OK")
			for verb, c := range map[string]string{"UID EXPUNGE 1": "UIDPLUS", "UID MOVE 2 Trash": "MOVE", "UID SEARCH RETURN (ALL) ALL": "ESEARCH"} {
				w.do(verb, map[bool]string{true: "OK", false: "BAD"}[p.Has(c)])
			}
			w.do("LOGOUT", "OK")
			w.ends()
			if s.Journal().Connections() != 1 {
				t.Error("connections")
			}
		})
	}
}

func TestMalformedLoginShowsNoSecret(t *testing.T) {
	for _, line := range []string{
		"LOGIN alice open sesame", `login alice "sesame`, "LOGIN (alice) sesame", "LOGIN\talice sesame", "AUTHENTICATE PLAIN sesame x", "LOGIN {6}x sesame",
	} {
		s := imaptest.New(t, imaptest.Full())
		w := dial(t, s)
		w.line()
		w.do(line, "BAD")
		if log := s.Journal().String(); strings.Contains(log, "sesame") {
			t.Errorf("%q shows in:\n%s", line, log)
		}
	}
}

func TestSmallCommands(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	w.expect("NOOP", "OK")
	w.expect(`ID ("name" "x")`, "OK", `* ID ("name" "imaptest")`)
	w.expect("ENABLE CONDSTORE", "OK", "* ENABLED")
	w.expect("UNSELECT", "OK")
	w.expect("UID SEARCH ALL", "BAD not in this state")
	w.expect("LOGIN alice wonderland", "BAD already")
	w.expect("STARTTLS", "BAD")
	s.SetPassword(imaptest.DefaultUser, "new")
	w = dial(t, s)
	w.line()
	w.do("LOGIN alice wonderland", "NO")
	w.do("LOGIN alice new", "OK")
}

func TestDialectOfTaggedOK(t *testing.T) {
	for text, want := range map[imaptest.TextForm]string{imaptest.TextPlain: "X OK noop completed\r\n", imaptest.TextEmpty: "X OK \r\n", imaptest.TextNone: "X OK\r\n"} {
		p := imaptest.Full()
		p.Dialect.Text = text
		_, w := selected(t, p)
		w.send("X NOOP\r\n")
		if got, err := w.br.ReadString('\n'); got != want || err != nil {
			t.Errorf("got %q, want %q", got, want)
		}
		w.do("EXAMINE INBOX", "OK [READ-ONLY]") // a code is never left out
	}
}

func TestBadCertificate(t *testing.T) {
	ca := imaptest.NewCA(t)
	expired := ca.Issue(func(c *x509.Certificate) { c.NotAfter = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) })
	s := imaptest.New(t, imaptest.Full(), imaptest.TCP(), imaptest.ImplicitTLS(ca),
		imaptest.TLSConfig(&tls.Config{Certificates: []tls.Certificate{expired}}))
	c := client(dial(t, s).conn, ca).(*tls.Conn)
	var invalid x509.CertificateInvalidError
	if err := c.Handshake(); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("handshake: %v", err)
	}
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(ca.PEM()) || !pool.Equal(ca.Pool()) {
		t.Error("PEM() is not the authority")
	}
}

func TestNothingMayFollowSTARTTLS(t *testing.T) {
	s := imaptest.New(t, imaptest.Full(), imaptest.StartTLS(imaptest.NewCA(t)))
	w := dial(t, s)
	w.line()
	go w.conn.Write([]byte("X STARTTLS\r\nY NOOP\r\n"))
	w.until("X", "STARTTLS", "BAD")
	w.until("Y", "NOOP", "OK")
}

func TestLargeMailboxAndComputedBody(t *testing.T) {
	s, w := selected(t, imaptest.Full())
	for range 20_000 {
		s.INBOX().Append(hello)
	}
	s.INBOX().AppendBody(strings.NewReader(hello), 99)
	w.expect("NOOP", "OK", "* 20004 EXISTS")
	w.expect("UID FETCH 20004 (RFC822.SIZE BODY.PEEK[]<0.2>)", "OK", "* 20004 FETCH (UID 20004 RFC822.SIZE 99 BODY[]<0> {2}", "Su)")
	if got := strings.Count(w.do("UID FETCH 1:* (UID RFC822.SIZE)", "OK"), "FETCH (UID"); got != 20_004 {
		t.Errorf("%d lines", got)
	}
	w.expect("UID SEARCH RETURN (ALL) ALL", "OK", `* ESEARCH (TAG "A6") UID ALL 1:20004`)
}
