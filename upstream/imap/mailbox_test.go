package imap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// in are alice's credentials for a mailbox.
func in(box string) upstream.Credentials {
	c := alice
	c.Mailbox = box
	return c
}

func TestAMailboxIsOpenedByTheNameThatTheServerHas(t *testing.T) {
	cyrus := imaptest.Full().Named("dots")
	cyrus.Separator = "."
	maildir := imaptest.Full().Without("NAMESPACE").Named("dots_without_namespace")
	maildir.Separator = "."
	for _, tt := range []struct {
		profile   imaptest.Profile
		hierarchy string
		box       string
		want      string // as the server names it, in modified UTF-7
	}{
		{imaptest.Full(), "", "Sent", "Sent"},
		{imaptest.Full(), "", "inbox", "INBOX"},
		{imaptest.Full(), "", "Entw\u00fcrfe/Gr\u00f6\u00dfe", "Entw&APw-rfe/Gr&APYA3w-e"},
		{imaptest.Full(), "", "\u53f0\u5317", "&U,BTFw-"},
		{imaptest.Full(), "", "R&D", "R&-D"},
		{imaptest.Full(), "", "a*b%c", "a*b%c"},
		{imaptest.Full(), "", `quote"back\slash`, `quote"back\slash`},
		{imaptest.Full(), "/", "Archive/2024", "Archive/2024"},
		{imaptest.Full(), ".", "Archive.2024", "Archive/2024"},
		{cyrus, "/", "Archive/2024", "Archive.2024"},
		{cyrus, "/", "Archive.2024", "Archive.2024"},
		{cyrus, "/", "#shared/news", "#shared.news"},
		{cyrus, "/", "Entw\u00fcrfe/2", "Entw&APw-rfe.2"},
		{cyrus, "/", "a*/b%", "a*.b%"},
		{maildir, "/", "Archive/2024", "Archive.2024"},
		{imaptest.Courier(), "", "INBOX.Sent", "INBOX.Sent"},
		{imaptest.Courier(), "/", "INBOX", "INBOX"},
		{imaptest.Courier(), "/", "Sent", "INBOX.Sent"},
		{imaptest.Courier(), "/", "Sent/2024", "INBOX.Sent.2024"},
		{imaptest.Courier(), "/", "inbox/Sent", "INBOX.Sent"},
		{imaptest.Courier(), "/", "INBOX.Sent", "INBOX.Sent"},
		{imaptest.Courier(), "/", "#shared/news", "#shared.news"},
		{imaptest.Courier(), "/", "INBOXES", "INBOX.INBOXES"},
	} {
		t.Run(tt.profile.Name+"/"+tt.hierarchy+"/"+tt.box, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			srv.Mailbox(imaptest.DefaultUser, tt.want).Append(message(1))
			store := newStore(t, srv, imap.Options{Hierarchy: tt.hierarchy})
			d, err := account(t, store, in(tt.box)).Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d.Len() != 1 {
				t.Errorf("%d messages, want 1", d.Len())
			}
			if rec, err := d.Update(t.Context(), upstream.Changes{Remove: []int{0}}); err != nil || rec.Removed != 1 {
				t.Errorf("Update() = %+v, %v", rec, err)
			}
			for _, c := range srv.Journal().Commands("LIST") {
				if c.Line != `LIST "" ""` {
					t.Errorf("the server was told %s", c.Line)
				}
			}
			// The same where a login names none.
			store = newStore(t, srv, imap.Options{Hierarchy: tt.hierarchy, Mailbox: tt.box})
			if _, err := account(t, store, alice).Open(t.Context()); err != nil {
				t.Errorf("as Options.Mailbox: %v", err)
			}
		})
	}
}

// RFC 9051 section 5.1; whoever has both is spoken to in the older one.
func TestNamesAreUTF8WhereThereIsNothingElse(t *testing.T) {
	for caps, name := range map[string]string{"IMAP4rev2": "Entw\u00fcrfe", "IMAP4rev2 IMAP4rev1 UTF8=ACCEPT": "Entw&APw-rfe"} {
		srv := imaptest.New(t, imaptest.Minimal())
		srv.Mailbox(imaptest.DefaultUser, name).Append(message(1))
		srv.Before("CAPABILITY", 0, imaptest.Raw("* CAPABILITY "+caps+"\r\n{tag} OK\r\n"))
		d, err := account(t, newStore(t, srv, imap.Options{}), in("Entw\u00fcrfe")).Open(t.Context())
		if err != nil || d.Len() != 1 {
			t.Fatalf("%s: Open() = %v, %v", caps, d, err)
		}
		if rec, err := d.Update(t.Context(), upstream.Changes{Remove: []int{0}}); err != nil || rec.Removed != 1 {
			t.Errorf("%s: Update() = %+v, %v", caps, rec, err)
		}
	}
}

func TestTwoNamesOfOneMailboxHaveOneKey(t *testing.T) {
	store := newStore(t, imaptest.New(t, imaptest.Courier()), imap.Options{Hierarchy: "/"})
	want := account(t, store, in("Sent/2024")).Key()
	for _, box := range []string{"INBOX/Sent/2024", "inbox/Sent/2024", "INBOX.Sent.2024", "Sent.2024"} {
		if got := account(t, store, in(box)).Key(); got != want {
			t.Errorf("%s: %q, want %q", box, got, want)
		}
	}
}

func TestWhatIsNoMailboxNameIsNotSent(t *testing.T) {
	for _, box := range []string{"a\r\nA1 LOGOUT", "a\x00", "a\tb", "a\u0085", "\xff", strings.Repeat("x", 1025), strings.Repeat("\u00fc", 513)} {
		srv := imaptest.New(t, imaptest.Full())
		wantKind(t, login(t, newStore(t, srv, imap.Options{}), in(box)), upstream.Internal)
		if n := srv.Journal().Connections(); n != 0 {
			t.Errorf("%.10q: %d connections were made", box, n)
		}
		if _, err := imap.New(imap.Options{Host: "h", Mailbox: box}); err == nil {
			t.Errorf("%.10q is taken as the mailbox of all", box)
		}
	}
	srv := imaptest.New(t, imaptest.Full())
	long := strings.Repeat("\u00fc", 512)
	a := account(t, newStore(t, srv, imap.Options{}), in(long))
	if _, err := a.Open(t.Context()); upstream.KindOf(err) != upstream.Internal || !strings.Contains(err.Error(), "no such mailbox") {
		t.Errorf("the longest name: %v", err)
	}
	// The server's prefix counts.
	store := newStore(t, imaptest.New(t, imaptest.Courier()), imap.Options{Hierarchy: "/"})
	wantKind(t, login(t, store, in(strings.Repeat("x", 1024))), upstream.Internal)
}

// A name that leads nowhere is no wrong password, and waiting does not help.
func TestAMailboxThatIsNotThereIsNoGuess(t *testing.T) {
	for _, tt := range []struct {
		reply string
		want  upstream.Kind
	}{
		{"", upstream.Internal},
		{"NO Unable to open this mailbox.", upstream.Internal},
		{"NO Mailbox does not exist", upstream.Internal},
		{"NO [NOPERM] Permission denied", upstream.Internal},
		{"NO [CANNOT] Invalid mailbox name", upstream.Internal},
		{"NO [UNAVAILABLE] x", upstream.Unavailable},
		{"NO Temporary failure", upstream.Unavailable},
		{"NO [INUSE] x", upstream.Busy},
		{"BAD x", upstream.Unavailable},
	} {
		srv := imaptest.New(t, imaptest.Full())
		if tt.reply != "" {
			srv.Before("EXAMINE", 0, imaptest.Raw("{tag} "+tt.reply+"\r\n"))
			srv.Before("SELECT", 0, imaptest.Raw("{tag} "+tt.reply+"\r\n"))
		}
		store := newStore(t, srv, imap.Options{})
		_, err := account(t, store, in("Nowhere")).Open(t.Context())
		wantKind(t, err, tt.want)
		if err != nil && !strings.Contains(err.Error(), `"Nowhere"`) {
			t.Errorf("%q: the cause is %q, without the name", tt.reply, err)
		}
		if tt.reply == "NO Unable to open this mailbox." {
			_, err := account(t, store, alice).Open(t.Context()) // INBOX is always there
			wantKind(t, err, upstream.Unavailable)
		}
	}
}

func TestHowMailboxesAreNamedMustBeTold(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reply string
		want  upstream.Kind
	}{
		{"refused", "{tag} NO not now\r\n", upstream.Unavailable},
		{"garbage", "* NAMESPACE what\r\n{tag} OK\r\n", upstream.Unavailable},
		{"bye", "* BYE x\r\n", upstream.Unavailable},
	} {
		srv := imaptest.New(t, imaptest.Courier())
		srv.Before("NAMESPACE", 0, imaptest.Raw(tt.reply))
		wantKind(t, login(t, newStore(t, srv, imap.Options{Hierarchy: "/"}), in("Sent")), tt.want)
	}
	for name, reply := range map[string]string{"nil": "* NAMESPACE NIL NIL NIL\r\n{tag} OK\r\n", "nothing": "{tag} OK\r\n", "flat": "* NAMESPACE ((\"\" NIL)) NIL NIL\r\n{tag} OK\r\n"} {
		srv := imaptest.New(t, imaptest.Courier())
		srv.Mailbox(imaptest.DefaultUser, "a/b").Append(message(1))
		srv.Before("NAMESPACE", 0, imaptest.Raw(reply))
		if _, err := account(t, newStore(t, srv, imap.Options{Hierarchy: "/"}), in("a/b")).Open(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// INBOX is INBOX: nothing is asked for it.
func TestINBOXCostsNoRoundTripMore(t *testing.T) {
	srv := imaptest.New(t, imaptest.Courier())
	account(t, newStore(t, srv, imap.Options{Hierarchy: "/"}), in("inbox"))
	if n := len(srv.Journal().Commands("NAMESPACE", "LIST")); n != 0 {
		t.Errorf("%d commands about names, want none", n)
	}
}

// A connection that has waited serves every mailbox of its account, and only
// what was asked for.
func TestAWaitingConnectionServesOtherMailboxes(t *testing.T) {
	srv := imaptest.New(t, imaptest.Courier())
	srv.Mailbox(imaptest.DefaultUser, "INBOX.Sent").Append(message(7))
	fill(srv, 2)
	store := newStore(t, srv, imap.Options{Hierarchy: "/", Reuse: time.Hour})
	for i, box := range []string{"Sent", "INBOX", "Sent", "Sent"} {
		a := account(t, store, in(box))
		d, err := a.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"Sent": 1, "INBOX": 2}[box]; d.Len() != want {
			t.Errorf("visit %d, %s: %d messages, want %d", i, box, d.Len(), want)
		}
		a.Close()
	}
	if n := srv.Journal().Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if n := len(srv.Journal().Commands("NAMESPACE")); n != 1 {
		t.Errorf("asked %d times how mailboxes are named, want once", n)
	}
	// One that is lost when the name is looked up is made anew.
	srv.Disconnect(imaptest.FIN)
	if _, err := account(t, store, in("Sent")).Open(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheTrashIsNotTheMailboxItself(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`).Append(message(1))
	d, err := account(t, newStore(t, srv, imap.Options{Delete: imap.Trash}), in("Bin")).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Update(t.Context(), upstream.Changes{Remove: []int{0}})
	wantKind(t, err, upstream.Internal)
}

// Whatever a client calls a mailbox is one argument of one command.
func FuzzMailbox(f *testing.F) {
	for _, name := range []string{"INBOX", "a/b", `"`, `\`, "*", "%", "&", "&-", "{5}", "{5+}\r\n", "\u00fc/\u53f0", "", "//", "a.b", " ", "INBOX/", "\xff"} {
		f.Add(name, true)
		f.Add(name, false)
	}
	f.Fuzz(func(t *testing.T, name string, path bool) {
		srv := imaptest.New(t, imaptest.Courier())
		o := imap.Options{}
		if path {
			o.Hierarchy = "/"
		}
		a, err := newStore(t, srv, o).Login(t.Context(), in(name))
		if err == nil {
			_, err = a.Open(t.Context())
			a.Close()
		}
		if err != nil && upstream.KindOf(err) != upstream.Internal {
			t.Errorf("%q: %v, want an internal error", name, err)
		}
		opened := 0
		for _, e := range srv.Journal().Entries() {
			switch e.Kind {
			case imaptest.Broken:
				t.Errorf("%q: the server could not read a command", name)
			case imaptest.Received:
				switch e.Command.Verb {
				case "SELECT", "EXAMINE":
					opened++
				case "LOGIN", "NAMESPACE", "LOGOUT", "CAPABILITY", "UID FETCH":
				default:
					t.Errorf("%q: the server got %q", name, e.Command.Line)
				}
			}
		}
		if opened > 1 {
			t.Errorf("%q: %d mailboxes were opened", name, opened)
		}
	})
}
