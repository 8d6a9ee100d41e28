package imap_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/imap/listcache"
)

// a cached store tells how each of its sessions was listed.
type cached struct {
	*imap.Store
	srv *imaptest.Server

	mu         sync.Mutex
	how        []string
	renumbered int
}

func newCached(t testing.TB, srv *imaptest.Server, o imap.Options) *cached {
	t.Helper()
	c := &cached{srv: srv}
	if o.Cache == nil {
		o.Cache = newCache(t, listcache.Options{})
	}
	o.Trace.Listed = func(how string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.how = append(c.how, how)
	}
	o.Trace.Renumbered = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.renumbered++
	}
	c.Store = newStore(t, srv, o)
	return c
}

func newCache(t testing.TB, o listcache.Options) *listcache.Cache {
	t.Helper()
	cache, err := listcache.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	return cache
}

// visit opens a session and tells how it was listed and by which commands.
func (c *cached) visit(t testing.TB) (s *session, how, commands string) {
	t.Helper()
	before := c.srv.Journal().Len()
	s = open(t, c.Store)
	var lines []string
	for _, e := range c.srv.Journal().Since(before) {
		if e.Kind == imaptest.Received && slices.Contains([]string{"SELECT", "EXAMINE", "UID FETCH", "UID SEARCH", "NOOP"}, e.Command.Verb) {
			line := strings.TrimSuffix(e.Command.Line, " (UID RFC822.SIZE)")
			lines = append(lines, strings.TrimSuffix(line, " INBOX"))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.how) == 0 {
		t.Fatal("the session does not tell how it was listed")
	}
	return s, c.how[len(c.how)-1], strings.Join(lines, ", ")
}

// shows checks that a snapshot is exactly these messages of the mailbox.
func (s *session) shows(validity uint32, want []imaptest.Message) {
	s.t.Helper()
	var ids []string
	for _, m := range want {
		ids = append(ids, fmt.Sprintf("%d.%d", validity, m.UID))
	}
	if got := s.ids(); got != strings.Join(ids, " ") {
		s.t.Errorf("unique-ids %s, want %s", got, ids)
		return
	}
	for i, m := range want {
		if s.Size(i) != m.Size {
			s.t.Errorf("Size(%d) of UID %d = %d, want %d", i, m.UID, s.Size(i), m.Size)
		}
	}
}

func (s *session) showsINBOX(srv *imaptest.Server) {
	s.t.Helper()
	s.shows(srv.INBOX().UIDValidity(), srv.INBOX().Messages())
}

// What the second session asks for depends on what happened behind the first,
// and what it shows does not.
func TestOnlyWhatChangedIsListedAgain(t *testing.T) {
	noUIDNext := imaptest.Full().Named("no-uidnext")
	noUIDNext.NoUIDNext = true
	appends := func(n ...int) func(*imaptest.Mailbox) {
		return func(b *imaptest.Mailbox) {
			for _, n := range n {
				b.Append(message(n))
			}
		}
	}
	expunges := func(uids ...uint32) func(*imaptest.Mailbox) {
		return func(b *imaptest.Mailbox) { b.Expunge(uids...) }
	}
	both := func(list ...func(*imaptest.Mailbox)) func(*imaptest.Mailbox) {
		return func(b *imaptest.Mailbox) {
			for _, f := range list {
				f(b)
			}
		}
	}
	full := imaptest.Full()
	for _, tt := range []struct {
		name          string
		profile       imaptest.Profile
		first         int // messages in the first session
		change        func(*imaptest.Mailbox)
		how, commands string
	}{
		{"nothing", full, 5, both(), "unchanged", "EXAMINE"},
		{"nothing_in_an_empty_mailbox", full, 0, both(), "unchanged", "EXAMINE"},
		{"flags", full, 5, func(b *imaptest.Mailbox) { b.SetFlags(2, `\Seen`) }, "unchanged", "EXAMINE"},
		{"one_came", full, 5, appends(6), "added", "EXAMINE, UID FETCH 5:*"},
		{"three_came", full, 5, appends(60, 70, 80), "added", "EXAMINE, UID FETCH 5:*"},
		{"one_came_and_went", full, 5, both(appends(6), expunges(6)), "added", "EXAMINE, UID FETCH 5:*"},
		{"one_came_behind_a_gap", full, 5, both(appends(6), expunges(6), appends(7)), "added", "EXAMINE, UID FETCH 5:*"},
		{"uidnext_grew_alone", full, 5, func(b *imaptest.Mailbox) { b.SetUIDNext(100) }, "added", "EXAMINE, UID FETCH 5:*"},
		{"the_first_went", full, 5, expunges(1), "removed", "EXAMINE, UID SEARCH RETURN (ALL) ALL"},
		{"the_last_went", full, 5, expunges(5), "removed", "EXAMINE, UID SEARCH RETURN (ALL) ALL"},
		{"all_went", full, 5, expunges(1, 2, 3, 4, 5), "removed", "EXAMINE, UID SEARCH RETURN (ALL) ALL"},
		{"one_went_without_ESEARCH", full.Without("ESEARCH"), 5, expunges(2), "removed", "EXAMINE, UID SEARCH ALL"},
		{"one_went_and_one_came", full, 5, both(expunges(2), appends(6)), "removed", "EXAMINE, UID FETCH 5:*, UID SEARCH RETURN (ALL) ALL"},
		{"one_went_and_one_came_on_courier", imaptest.Courier(), 5, both(expunges(2), appends(6)), "removed", "SELECT, UID FETCH 5:*, UID SEARCH ALL"},
		{"two_went_and_one_came", full, 5, both(expunges(2, 5), appends(6)), "removed", "EXAMINE, UID FETCH 5:*, UID SEARCH RETURN (ALL) ALL"},
		{"the_last_went_and_one_came", full, 5, both(expunges(5), appends(6)), "removed", "EXAMINE, UID FETCH 5:*, UID SEARCH RETURN (ALL) ALL"},
		{"all_went_and_two_came", full, 3, both(expunges(1, 2, 3), appends(4, 5)), "removed", "EXAMINE, UID FETCH 3:*, UID SEARCH RETURN (ALL) ALL"},
		{"all_is_new_in_an_empty_mailbox", full, 0, appends(1, 2), "full", "EXAMINE, UID FETCH 1:*"},
		{"the_mailbox_was_made_anew", full, 3, both(func(b *imaptest.Mailbox) { b.Recreate() }, appends(4, 5, 6)), "full", "EXAMINE, UID FETCH 1:*"},
		{"uidnext_is_not_told", noUIDNext, 3, both(), "full", "EXAMINE, UID FETCH 1:*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			fill(srv, tt.first)
			store := newCached(t, srv, imap.Options{})
			s, how, _ := store.visit(t)
			if how != "full" {
				t.Errorf("the first session is listed as %s", how)
			}
			s.Close()
			tt.change(srv.INBOX())
			s, how, commands := store.visit(t)
			if how != tt.how || commands != tt.commands {
				t.Errorf("listed as %s by %q, want %s by %q", how, commands, tt.how, tt.commands)
			}
			s.showsINBOX(srv)
			s.Close()
			again := "EXAMINE"
			if !tt.profile.Has("MOVE") {
				again = "SELECT"
			}
			if renumbered := tt.name == "the_mailbox_was_made_anew"; (store.renumbered == 1) != renumbered || store.renumbered > 1 {
				t.Errorf("the trace tells %d times that the mailbox is another", store.renumbered)
			}
			if s, how, commands = store.visit(t); !tt.profile.NoUIDNext && (how != "unchanged" || commands != again) {
				t.Errorf("the session behind it is listed as %s by %q", how, commands)
			}
			s.showsINBOX(srv)
		})
	}
}

// One of the known messages is gone, and a new one goes while it is listed: the
// number of messages is right at every moment, and tells nothing.
func TestTheNumberOfMessagesProvesNothing(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 3)
	store := newCached(t, srv, imap.Options{})
	s, _, _ := store.visit(t)
	s.Close()
	srv.INBOX().Expunge(1)
	srv.INBOX().Append(message(4))
	srv.Before("UID FETCH", 2, imaptest.Do(func(imaptest.Command) { srv.INBOX().Expunge(4) }))
	s, how, commands := store.visit(t)
	s.showsINBOX(srv)
	if want := "EXAMINE, UID FETCH 3:*, UID SEARCH RETURN (ALL) ALL, EXAMINE, UID FETCH 1:*"; how != "full" || commands != want {
		t.Errorf("listed as %s by %q, want %q", how, commands, want)
	}
}

func TestWhatArrivesBesideAKnownListIsLeftForTheNextSession(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 2)
	store := newCached(t, srv, imap.Options{})
	s, _, _ := store.visit(t)
	s.Close()
	srv.INBOX().Append(message(3))
	want := srv.INBOX().Messages()
	srv.Before("UID FETCH", 2, imaptest.Do(func(imaptest.Command) { srv.INBOX().Append(message(4)) }))
	s, _, _ = store.visit(t)
	s.shows(srv.INBOX().UIDValidity(), want)
	s.Close()
	s, how, _ := store.visit(t)
	s.showsINBOX(srv)
	if how != "added" {
		t.Errorf("the next session is listed as %s", how)
	}
}

// What the server says must agree with what is known, or nothing of that counts.
// Known are UID 1 and 3, below UIDNEXT 4.
func TestAKnownListThatIsContradictedIsDropped(t *testing.T) {
	head := func(exists, next int) string {
		return fmt.Sprintf("* FLAGS (\\Deleted)\r\n* %d EXISTS\r\n* OK [UIDVALIDITY 4242] x\r\n* OK [UIDNEXT %d] x\r\n{tag} OK [READ-ONLY] x\r\n", exists, next)
	}
	list := func(number, uid, octets int) string {
		return fmt.Sprintf("* %d FETCH (UID %d RFC822.SIZE %d)\r\n", number, uid, octets)
	}
	const ok, again = "{tag} OK\r\n", "EXAMINE, UID FETCH 1:*"
	truth := list(1, 2, 70) + list(2, 6, 71) + ok // below UIDNEXT 7
	for _, tt := range []struct {
		name                     string
		examines, fetches, finds []string // replies in the second session
		commands                 string
	}{
		{"another_size", []string{head(2, 7)}, []string{list(2, 3, 64) + ok, truth}, nil, "EXAMINE, UID FETCH 3:*, UID FETCH 1:*"},
		{"another_size_beside_the_right_one", []string{head(2, 7)}, []string{list(2, 3, 63) + list(2, 3, 64) + ok, truth}, nil, "EXAMINE, UID FETCH 3:*, UID FETCH 1:*"},
		{"uidvalidity_alone_changed", []string{strings.ReplaceAll(head(2, 4), "4242", "4243"), head(2, 7)}, []string{ok, truth}, nil, "EXAMINE, UID FETCH 1:*, " + again},
		{"uidnext_fell", []string{head(2, 3), head(2, 7)}, []string{ok, truth}, nil, "EXAMINE, UID FETCH 1:*, " + again},
		{"more_with_the_same_uidnext", []string{head(3, 4), head(2, 7)}, []string{truth}, []string{"* SEARCH 1 2 3\r\n" + ok}, "EXAMINE, UID SEARCH RETURN (ALL) ALL, " + again},
		{"a_new_one_below_the_known_uidnext", []string{head(3, 5), head(2, 7)}, []string{list(2, 3, 63) + list(3, 2, 1) + ok, truth}, nil, "EXAMINE, UID FETCH 3:*, " + again},
		{"a_new_one_is_announced_and_not_listed", []string{head(3, 5), head(2, 7)}, []string{list(2, 3, 63) + ok, truth}, nil, "EXAMINE, UID FETCH 3:*, " + again},
		{"a_new_one_is_listed_and_not_announced", []string{head(2, 5), head(2, 7)}, []string{list(2, 3, 63) + list(3, 4, 1) + ok, truth}, nil, "EXAMINE, UID FETCH 3:*, " + again},
		{"more_new_ones_than_there_can_be", []string{head(2, 5000), head(2, 7)}, []string{list(2, 3, 63) + flood(list) + ok, truth}, nil, "EXAMINE, UID FETCH 3:*, " + again},
		{"no_witness_and_nothing_found", []string{head(2, 5), head(2, 7)}, []string{ok, truth}, []string{ok}, "EXAMINE, UID FETCH 3:*, UID SEARCH RETURN (ALL) ALL, " + again},
		{"a_search_that_finds_all_there_can_be", []string{head(1, 4), head(2, 7)}, []string{truth}, []string{"* ESEARCH (TAG \"x\") UID ALL 1:4294967295\r\n" + ok}, "EXAMINE, UID SEARCH RETURN (ALL) ALL, " + again},
		{"a_search_that_finds_message_numbers", []string{head(1, 4), head(2, 7)}, []string{truth}, []string{"* ESEARCH (TAG \"x\") ALL 1\r\n" + ok}, "EXAMINE, UID SEARCH RETURN (ALL) ALL, " + again},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			for verb, replies := range map[string][]string{
				"EXAMINE": append([]string{head(2, 4)}, tt.examines...), "UID FETCH": append([]string{list(1, 1, 61) + list(2, 3, 63) + ok}, tt.fetches...), "UID SEARCH": tt.finds,
			} {
				for i, reply := range replies {
					srv.Before(verb, i+1, imaptest.Raw(reply))
				}
			}
			store := newCached(t, srv, imap.Options{})
			s, _, _ := store.visit(t)
			s.Close()
			s, how, commands := store.visit(t)
			if how != "full" || commands != tt.commands {
				t.Errorf("listed as %s by %q, want full by %q", how, commands, tt.commands)
			}
			if got := s.ids(); got != "4242.2 4242.6" || s.Size(0) != 70 || s.Size(1) != 71 {
				t.Errorf("shows %s", got)
			}
		})
	}
}

// flood lists thousands of messages.
func flood(list func(number, uid, octets int) string) string {
	var b strings.Builder
	for uid := 4; uid < 4000; uid++ {
		b.WriteString(list(uid, uid, 1))
	}
	return b.String()
}

// A search that goes wrong fails the login: it never makes an empty maildrop.
func TestASearchThatFailsFailsTheLogin(t *testing.T) {
	for name, action := range map[string]imaptest.Action{
		"no": imaptest.NO("trouble"), "bad": imaptest.BAD("what"), "lost": imaptest.End(imaptest.FIN),
		"too_many_ranges": imaptest.Raw("* ESEARCH (TAG \"x\") UID ALL " + strings.Repeat("1,3,", 3000) + "5\r\n{tag} OK\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			fill(srv, 3)
			store := newCached(t, srv, imap.Options{})
			s, _, _ := store.visit(t)
			s.Close()
			srv.INBOX().Expunge(2)
			srv.Before("UID SEARCH", 1, action)
			a, err := store.Login(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			_, err = a.Open(t.Context())
			wantKind(t, err, upstream.Unavailable)
			s, _, _ = store.visit(t)
			s.showsINBOX(srv)
		})
	}
}

// What is left out of a maildrop is asked for at each login, and known all the
// same.
func TestWhatIsHiddenIsKnown(t *testing.T) {
	for _, tt := range []struct {
		profile imaptest.Profile
		flag    string
		search  string
	}{
		{imaptest.Full(), imap.HiddenKeyword, "EXAMINE, UID SEARCH KEYWORD popgate-hidden"},
		{imaptest.Minimal(), `\Deleted`, "SELECT, UID SEARCH DELETED"},
	} {
		t.Run(tt.profile.Name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			fill(srv, 4)
			box := srv.INBOX()
			box.SetFlags(2, tt.flag)
			box.SetFlags(4, tt.flag)
			store := newCached(t, srv, imap.Options{})
			all := box.Messages()
			first, _, _ := store.visit(t)
			first.shows(box.UIDValidity(), []imaptest.Message{all[0], all[2]})
			for _, step := range []struct {
				hide, show uint32
				want       []imaptest.Message
			}{
				{0, 0, []imaptest.Message{all[0], all[2]}},
				{0, 2, all[:3]},
				{1, 0, all[1:3]},
			} {
				box.SetFlags(step.hide, tt.flag)
				box.SetFlags(step.show)
				s, how, commands := store.visit(t)
				s.shows(box.UIDValidity(), step.want)
				if how != "unchanged" || commands != tt.search {
					t.Errorf("listed as %s by %q, want %q", how, commands, tt.search)
				}
				s.Close()
			}
			first.shows(box.UIDValidity(), []imaptest.Message{all[0], all[2]}) // as it was
		})
	}
}

// After a deletion of its own the next session finds what it knows.
func TestOwnDeletionsAreKnown(t *testing.T) {
	for _, tt := range []struct {
		name          string
		profile       imaptest.Profile
		policy        imap.Policy
		during        func(*imaptest.Server) // behind the list of the first session
		how, commands string
	}{
		{"expunge", imaptest.Full(), imap.Expunge, nil, "unchanged", "EXAMINE"},
		{"expunge_on_courier", imaptest.Courier(), imap.Expunge, nil, "unchanged", "SELECT"},
		{"move", imaptest.Full(), imap.Trash, nil, "unchanged", "EXAMINE"},
		{"copy_and_expunge", imaptest.WithoutMOVE(), imap.Trash, nil, "unchanged", "SELECT"},
		{"hide", imaptest.Full(), imap.Hide, nil, "unchanged", "EXAMINE, UID SEARCH KEYWORD popgate-hidden"},
		{"flag", imaptest.Minimal(), imap.Expunge, nil, "unchanged", "SELECT, UID SEARCH DELETED"},
		{"marked_ones_were_gone", imaptest.Full(), imap.Expunge, func(s *imaptest.Server) { s.INBOX().Expunge(2, 4) }, "unchanged", "EXAMINE"},
		{"another_was_gone", imaptest.Full(), imap.Expunge, func(s *imaptest.Server) { s.INBOX().Expunge(1) }, "removed", "EXAMINE, UID SEARCH RETURN (ALL) ALL"},
		{"another_came", imaptest.Full(), imap.Expunge, func(s *imaptest.Server) { s.INBOX().Append(message(6)) }, "added", "EXAMINE, UID FETCH 5:*"},
		{"one_came_behind_SELECT", imaptest.Full(), imap.Expunge, func(s *imaptest.Server) {
			s.After("SELECT", 1, imaptest.Do(func(imaptest.Command) { s.INBOX().Append(message(6)) }))
		}, "added", "EXAMINE, UID FETCH 5:*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
			fill(srv, 5)
			store := newCached(t, srv, imap.Options{Delete: tt.policy, Trash: "Bin"})
			s, _, _ := store.visit(t)
			if tt.during != nil {
				tt.during(srv)
			}
			if r, err := s.update(1, 3); err != nil || r.Kept != 0 {
				t.Fatalf("Update() = %+v, %v", r, err)
			}
			s.Close()
			s, how, commands := store.visit(t)
			if how != tt.how || commands != tt.commands {
				t.Errorf("listed as %s by %q, want %s by %q", how, commands, tt.how, tt.commands)
			}
			want := slices.DeleteFunc(srv.INBOX().Messages(), func(m imaptest.Message) bool {
				return m.Has(imap.HiddenKeyword) || !tt.profile.Has("UIDPLUS") && m.Has(`\Deleted`)
			})
			s.shows(srv.INBOX().UIDValidity(), want)
		})
	}
}

// A removal that was not proved leaves what is known as it is.
func TestUnprovedDeletionsAreNotForgotten(t *testing.T) {
	deaf := imaptest.Full().Named("deaf")
	deaf.IgnoreExpunge = true
	for _, tt := range []struct {
		name    string
		profile imaptest.Profile
		during  func(*imaptest.Server)
	}{
		{"nothing_is_removed", deaf, func(*imaptest.Server) {}},
		{"the_removal_is_refused", imaptest.Full(), func(s *imaptest.Server) { s.Before("UID EXPUNGE", 0, imaptest.NO("trouble")) }},
		{"the_proof_is_refused", imaptest.Full(), func(s *imaptest.Server) {
			s.Before("UID EXPUNGE", 0, imaptest.OK("lie"))
			s.Before("UID SEARCH", 2, imaptest.NO("trouble"))
		}},
		{"the_proof_is_lost", imaptest.Full(), func(s *imaptest.Server) {
			s.Before("UID EXPUNGE", 0, imaptest.OK("lie"))
			s.Before("UID SEARCH", 2, imaptest.End(imaptest.FIN))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			fill(srv, 5)
			store := newCached(t, srv, imap.Options{})
			s, _, _ := store.visit(t)
			tt.during(srv)
			if r, err := s.update(1, 3); err == nil || r.Kept == 0 {
				t.Fatalf("Update() = %+v, %v", r, err)
			}
			s.Close()
			s, how, commands := store.visit(t)
			if how != "unchanged" || commands != "EXAMINE" {
				t.Errorf("listed as %s by %q", how, commands)
			}
			s.showsINBOX(srv)
		})
	}
}

// Two spellings of a user name may be two users.
func TestEachUserNameHasItsOwnList(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full(), imaptest.User("Alice", imaptest.DefaultPassword))
	fill(srv, 3)
	other := srv.Mailbox("Alice", "INBOX")
	for range 3 {
		other.Append(strings.Repeat("x", 500))
	}
	store := newCached(t, srv, imap.Options{})
	s, _, _ := store.visit(t)
	s.Close()
	a, err := store.Login(t.Context(), upstream.Credentials{User: "Alice", Secret: alice.Secret})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	d, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d.Size(0) != 500 {
		t.Errorf("Size(0) = %d: the list of another user", d.Size(0))
	}
}

// A store that begins anew knows what one before it wrote to the file.
func TestListsOutliveTheProcess(t *testing.T) {
	file := t.TempDir() + "/lists"
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 100)
	for i, want := range []string{"full", "unchanged", "unchanged"} {
		cache := newCache(t, listcache.Options{File: file})
		store := newCached(t, srv, imap.Options{Cache: cache})
		s, how, _ := store.visit(t)
		if how != want {
			t.Errorf("session %d is listed as %s, want %s", i+1, how, want)
		}
		s.showsINBOX(srv)
		if r, err := s.update(i); err != nil || r.Removed != 1 {
			t.Fatal(r, err)
		}
		s.Close()
		if err := cache.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
