package imap_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

func (s *session) update(remove ...int) (upstream.Receipt, error) {
	return s.Update(s.t.Context(), upstream.Changes{Remove: remove})
}

// state shows a mailbox: UIDs, with D, S and H for \Deleted, \Seen and hidden.
func state(box *imaptest.Mailbox) string {
	var out []string
	for _, m := range box.Messages() {
		s := fmt.Sprint(m.UID)
		for flag, letter := range map[string]string{`\Deleted`: "D", `\Seen`: "S", imap.HiddenKeyword: "H"} {
			if m.Has(flag) {
				s += letter
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestPolicies(t *testing.T) {
	for _, tt := range []struct {
		profile     imaptest.Profile
		policy      imap.Policy
		inbox, bin  string
		commands    string
		nextSession int
	}{
		{imaptest.Full(), imap.Expunge, "2D 3 5", "", "SELECT, UID SEARCH, UID STORE, UID EXPUNGE, UID SEARCH", 3},
		{imaptest.WithoutMOVE(), imap.Expunge, "2D 3 5", "", "SELECT, UID SEARCH, UID STORE, UID EXPUNGE, UID SEARCH", 3},
		{imaptest.Courier(), imap.Expunge, "2D 3 5", "", "SELECT, UID SEARCH, UID STORE, UID EXPUNGE, UID SEARCH", 3},
		{imaptest.WithoutUIDPLUS(), imap.Expunge, "1D 2D 3 4D 5", "", "SELECT, UID SEARCH, UID STORE, UID SEARCH", 2},
		{imaptest.WithoutUIDPLUS().With("MOVE"), imap.Expunge, "1D 2D 3 4D 5", "", "SELECT, UID SEARCH, UID STORE, UID SEARCH", 2},
		{imaptest.Minimal(), imap.Expunge, "1D 2D 3 4D 5", "", "SELECT, UID SEARCH, UID STORE, UID SEARCH", 2},
		{imaptest.Full(), imap.Trash, "2D 3 5", "1 2", "SELECT, LIST, UID SEARCH, UID MOVE, UID SEARCH", 3},
		{imaptest.WithoutMOVE(), imap.Trash, "2D 3 5", "1 2", "SELECT, LIST, UID SEARCH, UID COPY, UID STORE, UID EXPUNGE, UID SEARCH", 3},
		{imaptest.WithoutUIDPLUS(), imap.Trash, "1D 2D 3 4D 5", "1 2", "SELECT, LIST, UID SEARCH, UID COPY, UID STORE, UID SEARCH", 2},
		{imaptest.Full(), imap.Hide, "1H 2D 3 4H 5", "", "SELECT, UID SEARCH, UID STORE, UID SEARCH", 3},
		{imaptest.Minimal(), imap.Hide, "1H 2D 3 4H 5", "", "SELECT, UID SEARCH, UID STORE, UID SEARCH", 2},
	} {
		t.Run(fmt.Sprintf("%s_%v_%d", tt.profile.Name, tt.profile.Has("MOVE"), tt.policy), func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			fill(srv, 5)
			bin := srv.Mailbox(imaptest.DefaultUser, "Bin", `\trash`)
			store := newStore(t, srv, imap.Options{Delete: tt.policy})
			s := open(t, store)
			srv.INBOX().SetFlags(2, `\Deleted`) // another client's, and not ours to expunge
			r, err := s.update(0, 3)            // UIDs 1 and 4
			if tt.profile.Has("UIDPLUS") || s.Len() == 5 {
				if err != nil || r != (upstream.Receipt{Removed: 2}) {
					t.Errorf("Update: %+v, %v", r, err)
				}
			}
			s.Close()
			if got := state(srv.INBOX()); got != tt.inbox {
				t.Errorf("INBOX holds %q, want %q", got, tt.inbox)
			}
			if got := uids(bin); got != tt.bin {
				t.Errorf("the trash holds %q, want %q", got, tt.bin)
			}
			var verbs []string
			all := srv.Journal().Commands()
			for _, c := range all {
				verbs = append(verbs, c.Verb)
			}
			slices.Reverse(verbs)
			verbs = verbs[:slices.Index(verbs, "SELECT")+1] // that of UPDATE
			slices.Reverse(verbs)
			if got := strings.TrimSuffix(strings.Join(verbs, ", "), ", LOGOUT"); got != tt.commands {
				t.Errorf("sent %s, want %s", got, tt.commands)
			}
			if next := open(t, store); next.Len() != tt.nextSession {
				t.Errorf("the next session shows %d messages, want %d", next.Len(), tt.nextSession)
			}
		})
	}
}

func TestARangeIsWrittenOnlyWithoutGaps(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 12)
	srv.INBOX().Expunge(2) // a gap of the mailbox
	s := open(t, newStore(t, srv, imap.Options{}))
	if _, err := s.update(0, 1, 2, 4, 5, 6, 10); err != nil { // UIDs 1 3 4 6 7 8 12
		t.Fatal(err)
	}
	for _, c := range srv.Journal().Commands("UID STORE", "UID EXPUNGE") {
		if !strings.Contains(fmt.Sprint(c), "1,3:4,6:8,12") {
			t.Errorf("sent %v", c)
		}
	}
	if got := uids(srv.INBOX()); got != "5 9 10 11" {
		t.Errorf("INBOX holds %s", got)
	}
}

func TestManyDeletionsGoInSeveralCommands(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 4000)
	s := open(t, newStore(t, srv, imap.Options{}))
	var odd []int
	for i := range 2000 {
		odd = append(odd, 2*i)
	}
	if r, err := s.update(odd...); err != nil || r.Removed != 2000 {
		t.Fatalf("Update: %+v, %v", r, err)
	}
	if got := srv.INBOX().UIDs(); len(got) != 2000 || slices.ContainsFunc(got, func(u uint32) bool { return u%2 == 1 }) {
		t.Errorf("INBOX holds %d messages", len(got))
	}
	if n := len(srv.Journal().Commands("UID STORE")); n != 7 {
		t.Errorf("%d STOREs, want 7", n)
	}
}

func TestNothingChangesWhereThePolicyCannotBeFollowed(t *testing.T) {
	readOnly, noHide, noDelete := imaptest.Full(), imaptest.Full(), imaptest.Full()
	readOnly.ReadOnly = true
	noHide.PermanentFlags = []string{`\Deleted`, `\Seen`}
	noDelete.PermanentFlags = []string{`\Seen`, `\*`}
	for _, tt := range []struct {
		name    string
		profile imaptest.Profile
		o       imap.Options
		prepare func(*imaptest.Server)
		want    upstream.Kind
	}{
		{"read_only", readOnly, imap.Options{}, nil, upstream.Internal},
		{"read_only_hide", readOnly, imap.Options{Delete: imap.Hide}, nil, upstream.Internal},
		{"keyword_not_taken", noHide, imap.Options{Delete: imap.Hide}, nil, upstream.Internal},
		{"deleted_not_taken", noDelete, imap.Options{}, nil, upstream.Internal},
		{"no_trash", imaptest.Full(), imap.Options{Delete: imap.Trash}, nil, upstream.Internal},
		{"trash_is_the_mailbox", imaptest.Full(), imap.Options{Delete: imap.Trash, Trash: "INBOX"}, nil, upstream.Internal},
		{"trash_missing", imaptest.Full(), imap.Options{Delete: imap.Trash, Trash: "No Such"}, nil, upstream.Internal},
		{"trash_missing_without_move", imaptest.WithoutMOVE(), imap.Options{Delete: imap.Trash, Trash: "No Such"}, nil, upstream.Internal},
		{"over_quota", imaptest.WithoutMOVE(), imap.Options{Delete: imap.Trash, Trash: "Bin"}, func(s *imaptest.Server) {
			s.Mailbox(imaptest.DefaultUser, "Bin")
			s.Before("UID COPY", 0, imaptest.NO("[OVERQUOTA] full"))
		}, upstream.Internal},
		{"copied_too_little", imaptest.WithoutMOVE(), imap.Options{Delete: imap.Trash, Trash: "Bin"}, func(s *imaptest.Server) {
			s.Mailbox(imaptest.DefaultUser, "Bin")
			s.Before("UID COPY", 0, imaptest.Raw("{tag} OK [COPYUID 7 1 1] copied\r\n"))
		}, upstream.Unavailable},
		{"uidvalidity_changed", imaptest.Full(), imap.Options{}, func(s *imaptest.Server) { s.INBOX().Recreate(); fill(s, 3) }, upstream.Changed},
		{"uidvalidity_changed_on_reconnect", imaptest.Full(), imap.Options{}, func(s *imaptest.Server) {
			s.INBOX().Recreate()
			fill(s, 3)
			s.Disconnect(imaptest.FIN)
		}, upstream.Changed},
		{"size_changed_on_reconnect", imaptest.Full(), imap.Options{}, func(s *imaptest.Server) {
			s.Before("UID FETCH", 2, imaptest.Raw("* 1 FETCH (UID 1 RFC822.SIZE 7)\r\n{tag} OK\r\n"))
			s.Disconnect(imaptest.FIN)
		}, upstream.Changed},
		{"down", imaptest.Full(), imap.Options{}, func(s *imaptest.Server) { s.Refuse(9); s.Disconnect(imaptest.FIN) }, upstream.Unavailable},
		{"select_refused", imaptest.Full(), imap.Options{}, func(s *imaptest.Server) { s.Before("SELECT", 0, imaptest.NO("no")) }, upstream.Unavailable},
		{"store_refused", imaptest.Full(), imap.Options{}, func(s *imaptest.Server) { s.Before("UID STORE", 0, imaptest.NO("[NOPERM] no")) }, upstream.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			fill(srv, 3)
			s := open(t, newStore(t, srv, tt.o))
			if tt.prepare != nil {
				tt.prepare(srv)
			}
			before := len(srv.Journal().Mutations())
			r, err := s.update(0, 2)
			wantKind(t, err, tt.want)
			if r != (upstream.Receipt{Kept: 2}) {
				t.Errorf("the receipt is %+v, want 2 kept", r)
			}
			if m := srv.Journal().Mutations()[before:]; len(m) != 0 {
				t.Errorf("the mailbox changed: %v", m)
			}
			s.Close()
		})
	}
}

func TestAServerThatConfirmsAndDoesNothingIsNotBelieved(t *testing.T) {
	for name, p := range map[string]func(*imaptest.Profile){
		"expunge": func(p *imaptest.Profile) { p.IgnoreExpunge = true },
		"store":   func(p *imaptest.Profile) { p.IgnoreStore = true },
	} {
		for _, policy := range []imap.Policy{imap.Expunge, imap.Hide, imap.Trash} {
			if name == "expunge" && policy == imap.Hide {
				continue
			}
			profile := imaptest.WithoutMOVE()
			p(&profile)
			srv := imaptest.New(t, profile)
			srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
			fill(srv, 2)
			s := open(t, newStore(t, srv, imap.Options{Delete: policy}))
			if r, err := s.update(0); err == nil || r != (upstream.Receipt{Kept: 1}) {
				t.Errorf("%s, policy %d: %+v, %v; want one kept and an error", name, policy, r, err)
			}
			if n := len(srv.Mailbox(imaptest.DefaultUser, "Bin").UIDs()); n > 1 {
				t.Errorf("%s, policy %d: copied %d times", name, policy, n)
			}
		}
	}
}

// TestASearchWithoutAnAnswerIsNoProof has servers that say nothing but OK to
// UID SEARCH: always, or where nothing is found, as iCloud does.
func TestASearchWithoutAnAnswerIsNoProof(t *testing.T) {
	for _, tt := range []struct {
		name  string
		quiet func(srv *imaptest.Server)
		want  upstream.Receipt
		left  string
	}{
		{"never_an_answer", func(srv *imaptest.Server) { srv.Before("UID SEARCH", 0, imaptest.OK("done")) }, upstream.Receipt{Kept: 1}, "1 2"},
		{"none_for_nothing", func(srv *imaptest.Server) { srv.Before("UID SEARCH", 2, imaptest.OK("done")) }, upstream.Receipt{Removed: 1}, "2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, imaptest.Full())
			fill(srv, 2)
			s := open(t, newStore(t, srv, imap.Options{}))
			tt.quiet(srv)
			r, err := s.update(0)
			if r != tt.want || (err == nil) != (tt.want.Kept == 0) {
				t.Errorf("%+v, %v; want %+v", r, err, tt.want)
			}
			if got := uids(srv.INBOX()); got != tt.left {
				t.Errorf("INBOX holds %s, want %s", got, tt.left)
			}
		})
	}
}

func TestAnAutoExpungingServerIsFine(t *testing.T) {
	p := imaptest.Full()
	p.AutoExpunge = true
	srv := imaptest.New(t, p)
	fill(srv, 3)
	s := open(t, newStore(t, srv, imap.Options{}))
	if r, err := s.update(1); err != nil || r != (upstream.Receipt{Removed: 1}) {
		t.Errorf("Update: %+v, %v", r, err)
	}
	if got := uids(srv.INBOX()); got != "1 3" {
		t.Errorf("INBOX holds %s", got)
	}
}

// TestUpdateSurvivesTheLossOfItsConnection loses the connection at every
// command of UPDATE, before and after its execution.
func TestUpdateSurvivesTheLossOfItsConnection(t *testing.T) {
	for _, p := range []imaptest.Profile{imaptest.Full(), imaptest.WithoutMOVE(), imaptest.WithoutUIDPLUS()} {
		for _, policy := range []imap.Policy{imap.Expunge, imap.Trash, imap.Hide} {
			for _, verb := range []string{"SELECT", "LIST", "UID SEARCH", "UID STORE", "UID EXPUNGE", "UID MOVE", "UID COPY"} {
				for _, after := range []bool{false, true} {
					for nth := 1; nth <= 3; nth++ {
						srv := imaptest.New(t, p)
						fill(srv, 4)
						bin := srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
						s := open(t, newStore(t, srv, imap.Options{Delete: policy}))
						nth := nth + len(srv.Journal().Commands(verb))
						if after {
							srv.After(verb, nth, imaptest.End(imaptest.FIN))
						} else {
							srv.Before(verb, nth, imaptest.End(imaptest.FIN))
						}
						r, err := s.update(0, 2)
						name := fmt.Sprintf("%s, policy %d, %s %d, executed %v", p.Name, policy, verb, nth, after)
						if err != nil || r.Removed != 2 {
							t.Errorf("%s: %+v, %v", name, r, err)
						}
						s.Close()
						left := map[imap.Policy]string{imap.Expunge: "2 4", imap.Trash: "2 4", imap.Hide: "1H 2 3H 4"}[policy]
						if !p.Has("UIDPLUS") && policy != imap.Hide {
							left = "1D 2 3D 4"
						}
						if got := state(srv.INBOX()); got != left {
							t.Errorf("%s: INBOX holds %q, want %q", name, got, left)
						}
						if n := len(bin.UIDs()); policy == imap.Trash && n < 2 || policy != imap.Trash && n != 0 {
							t.Errorf("%s: the trash holds %d", name, n)
						}
					}
				}
			}
		}
	}
}

func TestWhatIsNotProvedIsKept(t *testing.T) {
	srv := imaptest.New(t, imaptest.Full())
	fill(srv, 3)
	s := open(t, newStore(t, srv, imap.Options{}))
	srv.After("UID EXPUNGE", 1, imaptest.Do(func(imaptest.Command) { srv.Refuse(9) }))
	srv.After("UID EXPUNGE", 1, imaptest.End(imaptest.FIN))
	r, err := s.update(0, 1)
	wantKind(t, err, upstream.Unavailable)
	if r != (upstream.Receipt{Kept: 2}) {
		t.Errorf("the receipt is %+v, want 2 kept: nobody proved otherwise", r)
	}
}

func TestASilentServerInUpdateIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := imaptest.New(t, imaptest.Full())
		fill(srv, 3)
		s := open(t, newStore(t, srv, imap.Options{}))
		srv.Before("UID EXPUNGE", 0, imaptest.End(imaptest.Stall))
		start := time.Now()
		r, err := s.update(0)
		if err == nil || r.Kept != 1 {
			t.Errorf("Update: %+v, %v", r, err)
		}
		if d := time.Since(start); d > 3*time.Minute {
			t.Errorf("given up after %v", d)
		}
		s.Close()
	})
}

func TestSeen(t *testing.T) {
	noSeen := imaptest.Full()
	noSeen.PermanentFlags = []string{`\Deleted`, `\*`}
	for _, tt := range []struct {
		name    string
		profile imaptest.Profile
		policy  imap.Policy
		remove  []int
		seen    []int
		prepare func(*imaptest.Server)
		inbox   string
		failed  int
	}{
		{"alone", imaptest.Full(), imap.Expunge, nil, []int{0, 2}, nil, "1S 2 3S", 0},
		{"beside_a_removal", imaptest.Full(), imap.Expunge, []int{0}, []int{0, 1}, nil, "2S 3", 0},
		{"of_hidden_ones", imaptest.Full(), imap.Hide, []int{0}, []int{0}, nil, "1HS 2 3", 0},
		{"refused", imaptest.Full(), imap.Expunge, []int{0}, []int{1}, func(s *imaptest.Server) { s.Before("UID STORE", 1, imaptest.NO("no")) }, "2 3", 1},
		{"not_taken", noSeen, imap.Expunge, []int{0}, []int{1, 2}, nil, "2 3", 2},
		{"lost", imaptest.Full(), imap.Expunge, []int{0}, []int{1}, func(s *imaptest.Server) { s.Before("UID STORE", 1, imaptest.End(imaptest.FIN)) }, "2 3", 1},
		{"alone_and_down", imaptest.Full(), imap.Expunge, nil, []int{1}, func(s *imaptest.Server) { s.Refuse(9); s.Disconnect(imaptest.FIN) }, "1 2 3", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := imaptest.New(t, tt.profile)
			fill(srv, 3)
			failed := 0
			s := open(t, newStore(t, srv, imap.Options{Delete: tt.policy, Trace: imap.Trace{SeenFailed: func(n int) { failed += n }}}))
			if tt.prepare != nil {
				tt.prepare(srv)
			}
			r, err := s.Update(t.Context(), upstream.Changes{Remove: tt.remove, Seen: tt.seen})
			if err != nil || r.Removed != len(tt.remove) {
				t.Errorf("Update: %+v, %v", r, err)
			}
			got := strings.ReplaceAll(state(srv.INBOX()), "SH", "HS")
			if got != tt.inbox || failed != tt.failed {
				t.Errorf("INBOX holds %q and %d failed, want %q and %d", got, failed, tt.inbox, tt.failed)
			}
		})
	}
}
