package imap_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/imap/uidl"
)

func TestUniqueIDsAreAFileFormat(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 2)
	srv.INBOX().SetUIDNext(math.MaxUint32)
	srv.INBOX().Append(message(3))
	v := srv.INBOX().UIDValidity()
	want := fmt.Sprintf("%d.1 %d.2 %d.4294967295", v, v, v)
	if got := open(t, newStore(t, srv, imap.Options{})).ids(); got != want || v <= math.MaxInt32 {
		t.Errorf("unique-ids %s, want %s", got, want)
	}
	form, err := uidl.Parse("%08Xu%08Xv")
	if err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprintf("00000001%08[1]x 00000002%08[1]x ffffffff%08[1]x", v)
	if got := open(t, newStore(t, srv, imap.Options{UniqueIDs: form})).ids(); got != want {
		t.Errorf("unique-ids %s, want %s", got, want)
	}
}

func TestListingTakesEveryDialect(t *testing.T) {
	for name, d := range map[string]imaptest.Dialect{
		"plain":       {},
		"size_first":  {Order: imaptest.SizeFirst},
		"uid_last":    {Order: imaptest.UIDLast},
		"extra_items": {ExtraItems: []string{"MODSEQ (8)", `X-THING "a)b"`, "X-LIST (a (b c) {d)"}, ExtraFlags: true},
		"lower_case":  {LowerCase: true},
		"no_text":     {Text: imaptest.TextNone},
		"empty_text":  {Text: imaptest.TextEmpty},
		"noise":       {Noise: []string{"* VANISHED 41", "* X-ANY thing", "* OK [X-NEW (a b)] hm", "* 5 FETCH (FLAGS (\\Seen))", "* 5 FETCH (UID 5 FLAGS ())", "* ESEARCH UID ALL 1:4294967295", "* THREAD (1)"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := imaptest.Full()
			p.Dialect = d
			srv := imaptest.New(t, p)
			fill(srv, 5)
			srv.INBOX().Expunge(2)
			s := open(t, newStore(t, srv, imap.Options{}))
			v := srv.INBOX().UIDValidity()
			if got, want := s.ids(), fmt.Sprintf("%d.1 %d.3 %d.4 %d.5", v, v, v, v); got != want {
				t.Errorf("unique-ids %s, want %s", got, want)
			}
			for i := range s.Len() {
				if got, want := s.Size(i), int64(len(message(i))); got != want {
					t.Errorf("Size(%d) = %d, want %d", i, got, want)
				}
			}
		})
	}
}

func TestEXAMINEIsTrustedOnlyWhereItFixesUIDs(t *testing.T) {
	for _, tt := range []struct {
		profile imaptest.Profile
		want    string
	}{
		{imaptest.Full(), "EXAMINE"},
		{imaptest.WithoutMOVE().With("CONDSTORE"), "EXAMINE"},
		{imaptest.Courier(), "SELECT"},
		{imaptest.Minimal(), "SELECT"},
	} {
		srv := imaptest.New(t, tt.profile)
		fill(srv, 1)
		open(t, newStore(t, srv, imap.Options{}))
		if c := srv.Journal().Commands("SELECT", "EXAMINE"); len(c) != 1 || c[0].Verb != tt.want {
			t.Errorf("%s: sent %v, want one %s", tt.profile.Name, c, tt.want)
		}
	}
}

func TestAListThatIsShortFailsTheLogin(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 3)
	srv.Before("UID FETCH", 0, imaptest.Raw("* 1 FETCH (UID 1 RFC822.SIZE 60)\r\n* 2 FETCH (UID 2 RFC822.SIZE 60)\r\n{tag} OK\r\n"))
	a, err := newStore(t, srv, imap.Options{}).Login(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	_, err = a.Open(t.Context())
	wantKind(t, err, upstream.Unavailable)
}

func TestWhatChangesWhileItIsListedIsListedAgain(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 5)
	srv.Before("UID FETCH", 1, imaptest.Do(func(imaptest.Command) {
		srv.INBOX().Expunge(2, 4)
		srv.INBOX().Append(message(6))
	}))
	s := open(t, newStore(t, srv, imap.Options{}))
	v := srv.INBOX().UIDValidity()
	if got, want := s.ids(), fmt.Sprintf("%d.1 %d.3 %d.5 %d.6", v, v, v, v); got != want {
		t.Errorf("unique-ids %s, want %s", got, want)
	}
}

func TestWhatArrivesWhileListingIsLeftForTheNextSession(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 2)
	srv.Before("UID FETCH", 1, imaptest.Do(func(imaptest.Command) { srv.INBOX().Append(message(3)) }))
	store := newStore(t, srv, imap.Options{})
	if got := open(t, store).Len(); got != 2 {
		t.Errorf("the snapshot has %d messages, want the 2 that EXAMINE announced", got)
	}
	if got := open(t, store).Len(); got != 3 {
		t.Errorf("the next snapshot has %d messages, want 3", got)
	}
}

func TestMailboxesThatCannotBeServedFailTheLogin(t *testing.T) {
	const head = "* FLAGS (\\Deleted)\r\n* 0 EXISTS\r\n"
	for _, tt := range []struct {
		name, raw string
		want      upstream.Kind
	}{
		{"no_uidvalidity", head + "* OK [UIDNEXT 5] x\r\n{tag} OK [READ-ONLY] done\r\n", upstream.Internal},
		{"no_exists", "* OK [UIDVALIDITY 5] x\r\n{tag} OK [READ-ONLY] done\r\n", upstream.Unavailable},
		{"exists_negative", "* -3 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n{tag} OK [READ-ONLY] done\r\n", upstream.Unavailable},
		{"uidvalidity_zero", head + "* OK [UIDVALIDITY 0] x\r\n{tag} OK [READ-ONLY] done\r\n", upstream.Internal},
		{"uids_not_sticky", head + "* OK [UIDVALIDITY 5] x\r\n* NO [UIDNOTSTICKY] x\r\n{tag} OK [READ-ONLY] done\r\n", upstream.Internal},
		{"over_the_limit", "* 101 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n{tag} OK [READ-ONLY] done\r\n", upstream.TooBig},
		{"exists_2^32-1", "* 4294967295 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n{tag} OK [READ-ONLY] done\r\n", upstream.TooBig},
		{"in_use", "{tag} NO [INUSE] locked\r\n", upstream.Busy},
		{"no_permission", "{tag} NO [NOPERM] not yours\r\n", upstream.Internal},
		{"no_mailbox", "{tag} NO [NONEXISTENT] none\r\n", upstream.Internal},
		{"trouble", "{tag} NO trouble\r\n", upstream.Unavailable},
		{"bad", "{tag} BAD what\r\n", upstream.Unavailable},
		{"bye", "* BYE shutting down\r\n{tag} OK\r\n", upstream.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			srv.Before("EXAMINE", 0, imaptest.Raw(tt.raw))
			a, err := newStore(t, srv, imap.Options{MaxMessages: 100}).Login(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			_, err = a.Open(t.Context())
			wantKind(t, err, tt.want)
		})
	}
}

func TestDeletedMessagesAreLeftOutOnlyWithoutUIDPLUS(t *testing.T) {
	for _, tt := range []struct {
		profile imaptest.Profile
		want    int
	}{{imaptest.Full(), 3}, {imaptest.WithoutUIDPLUS(), 2}, {imaptest.Minimal(), 2}} {
		t.Run(tt.profile.Name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			fill(srv, 3)
			srv.INBOX().SetFlags(2, `\Deleted`)
			s := open(t, newStore(t, srv, imap.Options{}))
			if s.Len() != tt.want {
				t.Errorf("%d messages, want %d", s.Len(), tt.want)
			}
			if v := srv.INBOX().UIDValidity(); tt.want == 2 && s.ids() != fmt.Sprintf("%d.1 %d.3", v, v) {
				t.Errorf("unique-ids %s", s.ids())
			}
		})
	}
}

func TestHiddenMessagesAreLeftOutUnderEveryPolicy(t *testing.T) {
	for _, policy := range []imap.Policy{imap.Expunge, imap.Trash, imap.Hide} {
		srv := imaptest.New(t, imaptest.Full())
		fill(srv, 3)
		srv.INBOX().SetFlags(2, strings.ToUpper(imap.HiddenKeyword))
		if s := open(t, newStore(t, srv, imap.Options{Delete: policy})); s.Len() != 2 {
			t.Errorf("policy %d: %d messages, want 2", policy, s.Len())
		}
	}
}

func TestReadingChangesNothing(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 3)
	before := len(srv.Journal().Mutations())
	s := open(t, newStore(t, srv, imap.Options{}))
	for i := range s.Len() {
		if _, err := s.retrieve(i, upstream.Extent{}); err != nil {
			t.Error(err)
		}
	}
	s.Close()
	if got := srv.Journal().Mutations()[before:]; len(got) != 0 {
		t.Errorf("reading changed the mailbox: %v", got)
	}
	if c := srv.Journal().Commands("SELECT", "CLOSE", "EXPUNGE", "UID STORE"); len(c) != 0 {
		t.Errorf("reading sent %v", c)
	}
}

func BenchmarkOpen10k(b *testing.B) {
	srv := imaptest.New(b, imaptest.Full())
	fill(srv, 10_000)
	store := newStore(b, srv, imap.Options{})
	b.ReportAllocs()
	for b.Loop() {
		if s := open(b, store); s.Len() != 10_000 {
			b.Fatal(s.Len())
		} else {
			s.Close()
		}
	}
}
